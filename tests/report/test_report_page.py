"""The page as a whole: well-formed, self-contained, safe, readable, written in one piece."""

import html
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from scriven.errors import DamagedError, InputError
from scriven.manifest import signed_json
from scriven.report import page as page_module
from scriven.report.page import write_report

NAN = float("nan")
PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><script>alert(1)</script>",
    "</title></pre></blockquote></table><b>bold</b>",
    "[link](javascript:alert(1)) ![i](https://example.org/x.png)",
    "<!-- --><iframe srcdoc='<script>alert(1)</script>'>",
    "]]><!DOCTYPE html><meta http-equiv=refresh content=0>",
    "&lt;b&gt; &amp; &#60;",
    "{{7*7}} ${7*7} `id` $(id)",
    "1\u202eb\u2066c",
]


def runs(make_run, a_record, some_metrics):
    """Run folders in every state a run can be in, by name."""
    bad = [{**line, "loss": NAN, "accuracy": NAN} for line in some_metrics]
    one = [line for line in some_metrics if line["step"] == 10]
    results = dict.fromkeys(a_record()["results"], NAN)
    tokens = [("To", 3.2), (" be", 0.1), ("\n", NAN), ("", 9.0)]
    return {
        "finished": lambda: make_run(tokens=tokens),
        "unfinished": lambda: make_run(a_record(results=None)),
        "empty": lambda: make_run({"format": 1}, []),
        "nothing measured": lambda: make_run(a_record(results=None), []),
        "not a number": lambda: make_run(a_record(results=results), bad),
        "one evaluation": lambda: make_run(a_record(results=None), one),
        "other task": lambda: make_run(a_record(task="classify")),
        "wrong types": lambda: make_run(
            {"name": 7, "results": [], "settings": 3, "data": "x", "reasons": [], "model": 1}
        ),
    }


STATES = [
    "finished",
    "unfinished",
    "empty",
    "nothing measured",
    "not a number",
    "one evaluation",
    "other task",
    "wrong types",
]


@pytest.mark.parametrize("state", STATES)
def test_every_state_of_a_run_gives_a_well_formed_page(
    state, make_run, a_record, some_metrics, read_page
):
    page = read_page(write_report(runs(make_run, a_record, some_metrics)[state]()))
    assert {tag for tag, _ in page.tags} <= page.ALLOWED
    shown = "".join(data for tag, data in page.places if tag not in ("style", "blockquote"))
    assert not re.search(r"\bnan\b|\binf\b|\bNone\b", shown), "NaN, infinity or None is shown"
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert name not in ("d", "x", "y", "cx", "cy", "width") or "nan" not in str(value)


def test_the_page_loads_nothing_from_outside(make_run, read_page):
    path = write_report(make_run(tokens=[("a", 1.0)]))
    page = read_page(path)
    text = path.read_text(encoding="utf-8")
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert name not in ("src", "srcset", "action", "data", "poster", "xlink:href"), tag
            assert name != "href" or str(value).startswith(("data:", "#")), value
    assert not re.search(r"https?:|//[a-z]|url\((?!data:)|@import", text)
    assert "script" not in {tag for tag, _ in page.tags}


def test_the_content_security_policy_forbids_everything_but_the_style(make_run, read_page):
    metas = read_page(write_report(make_run())).named("meta")
    policy = [m["content"] for m in metas if m.get("http-equiv") == "Content-Security-Policy"]
    assert len(policy) == 1
    assert policy[0].startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    # A policy counts only for what follows it.
    assert metas.index(next(m for m in metas if m.get("http-equiv"))) <= 1


def poisoned(make_run, a_record, payload):
    content = a_record(
        name=payload,
        architecture=payload,
        command=payload,
        scriven=payload,
        model={payload: payload},
        settings={payload: {payload: payload}, "optim": {"lr": payload}},
        reasons={"optim.lr": payload},
        environment={payload: {payload: payload}},
        tokenizer={"kind": payload, "vocab_size": 65},
        data={"sources": [payload], "fingerprint": payload},
    )
    lines = [
        {"event": "sample", "step": 1, "seconds": 1, "prompt": payload, "text": payload + " end"},
        {"event": "note", "step": 1, "seconds": 1, "text": payload},
        {"event": "evaluation", "step": 1, "loss": payload, "seconds": payload},
    ]
    return make_run(content, lines, [(payload, 4.0), ("x", 5.0)])


@pytest.mark.parametrize("payload", PAYLOADS)
def test_markup_in_any_text_stays_text(payload, make_run, a_record, read_page):
    harmless = read_page(write_report(poisoned(make_run, a_record, "HARMLESS")))
    page = read_page(write_report(poisoned(make_run, a_record, payload)))
    assert page.unsafe() == []
    # The same elements and attributes, and the payload letter for letter wherever it belongs.
    assert structure(page) == structure(harmless)
    # One place, the words before a surprising token, shows only the last 24 characters.
    cut = 1 if len(payload) > 24 else 0
    assert page.text().count(payload) == harmless.text().count("HARMLESS") - cut >= 20


def structure(page) -> list[tuple[str, list[str]]]:
    return [(tag, list(attributes)) for tag, attributes in page.tags]


def test_the_check_above_notices_a_page_without_escaping(make_run, a_record, read_page, leaky):
    leaky(lambda text: text)
    folder = poisoned(make_run, a_record, "<img src=x onerror=alert(1)>")
    assert {"img", "src", "onerror"} <= set(read_page(write_report(folder)).unsafe())


def finetuned(make_run, a_record, payload):
    """A fine-tuning whose labels, columns, baselines and notes hold a payload."""
    scores = {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6, "signature": payload}}
    finetune = {"labels": [payload, "b"], "columns": {"text": payload}, "base": {"name": payload}}
    results = {
        **a_record()["results"], "val_scores": scores, "main_score": "accuracy", "val_rows": 10,
        "confusion": [[1, 2], [3, 4]], "baseline": {payload: {"note": payload, "scores": scores}},
    }  # fmt: skip
    record = a_record(task="classify", measure="label", finetune=finetune, results=results)
    return make_run(record, tokens=[(payload, 4.0)])


@pytest.mark.parametrize("payload", PAYLOADS)
def test_markup_in_labels_columns_and_baselines_stays_text(payload, make_run, a_record, read_page):
    harmless = read_page(write_report(finetuned(make_run, a_record, "HARMLESS")))
    page = read_page(write_report(finetuned(make_run, a_record, payload)))
    assert page.unsafe() == []
    assert structure(page) == structure(harmless)


def test_the_check_above_notices_quotes_that_are_not_escaped(make_run, a_record, read_page, leaky):
    """The planted bug: < and > are escaped, quotes are not, so a value ends its attribute."""
    leaky(lambda text: html.escape(text, quote=False))
    folder = finetuned(make_run, a_record, '" onmouseover="alert(1)')
    with pytest.raises(AssertionError, match="an attribute twice in td"):
        read_page(write_report(folder))


def test_templates_neither_switch_escaping_off_nor_leave_an_attribute_unquoted():
    templates = [each for each in files("scriven.report").iterdir() if each.name.endswith(".jinja")]
    assert len(templates) == 3
    for template in templates:
        source = template.read_text("utf-8")
        assert not re.search(r"\|\s*safe|autoescape|Markup", source)
        assert not re.search(r"=\s*\{\{", source), "an attribute without quotes"
    assert page_module.environment().autoescape is True
    assert page_module.environment().sandboxed


def test_characters_that_html_cannot_hold_are_replaced(make_run, a_record):
    lines = [{"event": "sample", "step": 1, "prompt": "", "text": "a\x00b\x1b[31mc\ud800d\r\ne"}]
    text = write_report(make_run(a_record(), lines)).read_bytes().decode("utf-8")
    assert "a\ufffdb\ufffd[31mc\ufffdd\ne" in text


def test_a_long_run_stays_below_half_a_megabyte(make_run, a_record):
    lines = []
    for step in range(1, 20_001):
        lines.append({"event": "step", "step": step, "loss": 1 + 1 / step, "accuracy": 0.5})
        if step % 20 == 0:
            lines.append({"event": "evaluation", "step": step, "loss": 1.1 + 1 / step})
        if step % 100 == 0:
            lines.append({"event": "sample", "step": step, "text": "<word> " * 2000})
            lines.append({"event": "note", "step": step, "text": "&" * 5000})
    content = a_record(command="x" * 10**6, name="n" * 10**5)
    content["data"]["sources"] = [f"file{i}.txt" * 20 for i in range(5000)]
    path = write_report(make_run(content, lines, [("<a>", 2.5)] * 10_000))
    assert path.stat().st_size < 500_000


def test_the_same_folder_gives_the_same_bytes(make_run):
    folder = make_run(tokens=[("a", 1.0)])
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first


def test_token_losses_given_as_an_argument_replace_those_of_the_file(make_run):
    folder = make_run(tokens=[("from-the-file", 1.0)])
    text = write_report(folder, token_nll=[("handed-in", 1.0)]).read_text(encoding="utf-8")
    assert "handed-in" in text
    assert "from-the-file" not in text


def test_a_failure_leaves_the_old_report_and_no_leftovers(make_run, monkeypatch):
    folder = make_run()
    old = write_report(folder).read_bytes()
    before = sorted(folder.iterdir())

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(Exception, match=r"report\.html"):
        write_report(folder)
    assert (folder / "report.html").read_bytes() == old
    assert sorted(folder.iterdir()) == before


def test_a_folder_that_is_no_run_is_refused_in_one_line(tmp_path: Path):
    with pytest.raises(InputError, match=r"not a run folder.*scriven\.json") as caught:
        write_report(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError):
        write_report(tmp_path / "absent")
    (tmp_path / "scriven.json").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        write_report(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]", '"text"', "\x00", "[" * 100_000])
def test_a_damaged_record_is_refused_and_nothing_is_written(text, make_run):
    folder = make_run()
    (folder / "scriven.json").write_text(text)
    with pytest.raises(DamagedError, match=r"scriven\.json"):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_metadata_changed_after_they_were_signed_are_refused(make_run, a_record):
    folder = make_run()
    raw = signed_json(a_record())
    (folder / "scriven.json").write_bytes(raw)
    write_report(folder)
    (folder / "scriven.json").write_bytes(raw.replace(b"1.67", b"1.97"))
    with pytest.raises(DamagedError):
        write_report(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"tokens": [1]}', '{"tokens": [["a", "b"]]}'])
def test_a_damaged_file_of_token_losses_is_refused(text, make_run):
    folder = make_run()
    (folder / "surprise.json").write_text(text)
    with pytest.raises(DamagedError, match=r"surprise\.json"):
        write_report(folder)


def test_the_page_can_be_read_without_seeing_it(make_run, read_page):
    page = read_page(write_report(make_run(tokens=[("To", 3.2)])))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert page.named("html") == [{"lang": "en"}]
    assert [tag for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)][:2] == ["h1", "h2"]
    assert len(page.named("h1")) == 1
    for name in ("section", "svg"):
        for attributes in page.named(name):
            for each in (attributes.get("aria-labelledby") or "").split():
                assert each in ids
    drawings = [each for each in page.named("svg") if each.get("role") == "img"]
    assert len(drawings) == 3
    assert all(each.get("aria-labelledby") for each in drawings)
    assert all(each.get("scope") in ("row", "col") for each in page.named("th"))


def test_the_page_has_the_key_metrics(make_run, read_page):
    text = read_page(write_report(make_run())).text()
    # 4.48 = exp(1.5); 12 epochs = 1.2 M tokens / 100 k training tokens.
    for words in ("1.500", "4.48", "2.160", "55.0\u00a0%", "1.670", "800 k", "1.2 M", "12.0"):
        assert words in text, words
    for words in ("3\u00a0min", "6.7 k", "what three minutes support", "continued from step 300"):
        assert words in text, words
    assert "scriven train plays.txt --budget 3m" in text


def test_settings_tell_defaults_from_what_was_set(make_run, read_page):
    words = read_page(write_report(make_run())).words
    assert words[words.index("data.val_fraction") + 2] == "default"
    assert words[words.index("optim.beta1") + 2] == "set for this run"
    assert words[words.index("model.layers") + 2] == "what three minutes support"


def test_samples_are_newest_first_and_only_the_newest_is_open(make_run, read_page):
    page = read_page(write_report(make_run()))
    shown = [data for tag, data in page.places if tag == "blockquote"]
    assert [re.findall(r"\d+", text)[0] for text in shown] == ["600", "400", "200"]
    samples = [each for each in page.named("details") if each.get("class") == "sample"]
    assert ["open" in each for each in samples] == [True, False, False]


def test_render_is_what_is_written(make_run):
    folder = make_run()
    history = page_module.read_run_log(folder)
    assert write_report(folder).read_text(encoding="utf-8") == page_module.render_report(history)
    assert json.loads((folder / "scriven.json").read_text())["name"] == "plays"
