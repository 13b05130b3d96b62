"""The report of a fine-tuned run: its scores beside what is trivial, and nothing that only a text
has."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scriven.report.compare import add_notes, compare
from scriven.report.page import write_report
from scriven.runs.metadata import write_metadata

Read = Callable[[Path], Any]


def scores(value: float, spread: float = 0.03) -> dict[str, Any]:
    return {
        "accuracy": {"value": value, "low": value - spread, "high": value + spread},
        "macro_f1": {"value": value - 0.02, "low": value - 0.06, "high": value + 0.02},
    }


def record(name: str = "tuned", value: float = 0.84, **changes: Any) -> dict[str, Any]:
    """scriven.json of a finished classification; `results__confusion` changes what is inside."""
    labels = ["so <b>so</b>", "good 😀"]
    made: dict[str, Any] = {
        "format": 1, "scriven": "0.1.0", "name": name, "architecture": "llama",
        "task": "classify", "measure": "label",
        "model": {"layers": 4, "d_model": 128, "dropout": 0.1},
        "settings": {"finetune": {"weights": "lora", "lora_rank": 8}, "seed": 0,
                     "data": {"val_fraction": 0.1}},
        "reasons": {}, "command": "scriven finetune pre a.csv", "environment": {},
        "data": {"fingerprint": "ab", "sources": ["/home/anna/a.csv"], "rows": 900,
                 "validation_rows": 100, "train_tokens": 9000, "validation_tokens": 1000},
        "tokenizer": {"kind": "char", "vocab_size": 65},
        "finetune": {"labels": labels, "lm_loss_weight": 0.5, "validation": None,
                     "columns": {"text": "review", "label": "label"},
                     "base": {"run": "runs/pre", "name": "pre", "fresh": False}},
        "results": {
            "task": "classify", "measure": "label", "val_loss": 0.41, "val_accuracy": value,
            "best_step": 80, "steps": 100, "tokens": 36000, "seconds": 60.0,
            "tokens_per_second": 600.0, "parameters": 800000, "finished": True,
            "val_rows": 100, "val_scores": scores(value), "main_score": "accuracy",
            "confusion": [[50, 3], [13, 34]],
            "baseline": {
                "majority": {"note": "always good 😀", "scores": scores(0.53)},
                "bag_of_words": {"note": "115 words", "scores": scores(0.78)},
            },
            "control": {"val_scores": scores(0.7)},
        },
    }  # fmt: skip
    for path, change in changes.items():
        *above, last = path.split("__")
        inside = made
        for key in above:
            inside = inside[key]
        inside[last] = change
    return made


def metrics() -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for step in range(2, 101, 2):
        common = {"step": step, "tokens": step * 360, "seconds": step * 0.6}
        lines.append({"event": "step", **common, "loss": 2.5, "accuracy": 0.8, "lr": 1e-3})
        if step % 20 == 0:
            loss = 0.41 + abs(step - 80) / 200
            lines.append({"event": "evaluation", **common, "loss": loss, "accuracy": 0.8})
    lines.append({"event": "sample", "step": 100, "seconds": 60.0, "prompt": "",
                  "text": "a <i>row</i>\n-> good 😀"})  # fmt: skip
    return lines


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """make("name", **changes of record()) -> runs/name."""
    monkeypatch.chdir(tmp_path)

    def run(name: str = "tuned", **changes: Any) -> Path:
        folder = Path("runs") / name
        folder.mkdir(parents=True)
        write_metadata(folder, record(name, **changes))
        lines = "".join(json.dumps(line) + "\n" for line in metrics())
        (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
        return folder

    return run


def test_scores_stand_beside_baselines_and_the_control(
    make: Callable[..., Path], read_page: Read
) -> None:
    page = read_page(write_report(make()))
    said = page.text()
    for words in (
        "Accuracy 0.840 (0.810 to 0.870) on 100 rows it never saw; better than bag of words, which "
        "reaches 0.780; without its pre-training it reaches 0.700; best at step 80 of 100.",
        "95 % interval", "0.810 to 0.870", "bag of words", "majority", "without pre-training",
        "macro F1", "115 words", "nats per example", "Base model", "lora of rank 8", "text: review",
        "Rows", "900", "2 labels", "a <i>row</i>", "so <b>so</b>", "Its answers over time",
    ):  # fmt: skip
        assert words in said, words
    for words in ("n-gram", "Perplexity", "per byte", "surprised", "uniform guessing", "It writes"):
        assert words not in said, words
    assert not page.named("i")
    assert [each["class"] for each in page.named("svg") if "bar" in (each.get("class") or "")] == [
        "bar other", "bar other", "bar other", "bar model",
    ]  # fmt: skip


def test_the_confusion_matrix_has_every_count_and_the_most_frequent_mistake(
    make: Callable[..., Path], read_page: Read
) -> None:
    page = read_page(write_report(make()))
    assert "The most frequent mistake, 13 of 16: good 😀 predicted as so <b>so</b>." in page.text()
    cells = [
        each["class"]
        for each in page.named("td")
        if (each.get("class") or "").startswith("number c")
    ]
    assert cells == ["number c5", "number c1", "number c2", "number c4"]
    titles = [each.get("title") for each in page.named("td")]
    assert "13 of 47 good 😀 predicted as so <b>so</b>" in titles


def test_finetune_settings_tell_defaults_from_what_was_set(
    make: Callable[..., Path], read_page: Read
) -> None:
    words = read_page(write_report(make())).words
    assert words[words.index("finetune.weights") + 2] == "set for this run"
    assert words[words.index("finetune.lora_rank") + 2] == "default"


ATTACK = '" onmouseover="alert(1)'


def test_quotes_in_a_label_stay_inside_their_attribute(
    make: Callable[..., Path], read_page: Read
) -> None:
    page = read_page(write_report(make(finetune__labels=[ATTACK, "good"])))
    assert page.unsafe() == []
    assert f"13 of 47 good predicted as {ATTACK}" in [e.get("title") for e in page.named("td")]


def test_the_check_above_notices_a_page_that_escapes_all_but_quotes(
    make: Callable[..., Path], read_page: Read, leaky: Callable[..., None]
) -> None:
    """A planted bug."""
    leaky(lambda text: text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    path = write_report(make(finetune__labels=[ATTACK, "good"]))
    with pytest.raises(AssertionError, match="an attribute twice in td"):
        read_page(path)


def test_the_training_loss_is_not_drawn_where_it_holds_that_of_the_text(
    make: Callable[..., Path], read_page: Read
) -> None:
    assert "training loss is not drawn" in read_page(write_report(make())).text()
    alone = make("alone", finetune__lm_loss_weight=0.0)
    assert "training loss is not drawn" not in read_page(write_report(alone)).text()
    encoder = make("encoder", architecture="roberta")
    assert "training loss is not drawn" not in read_page(write_report(encoder)).text()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"value": 0.79}, "not surely better than bag of words"),
        ({"value": 0.5}, "worse than bag of words"),
        ({"value": 0.5}, "It is worse than the trivial baseline bag of words"),
        ({"value": 0.71}, "The same model without its pre-training reaches as much"),
        ({}, "After step 80 the validation loss rose by 24.4\u00a0%"),
        ({"results__val_scores": {"ended": {"value": 0.5, "low": 0.4, "high": 0.6}}},
         "50.0\u00a0% of its answers did not come to an end"),
    ],
)  # fmt: skip
def test_verdict_and_advice_follow_from_the_scores(
    make: Callable[..., Path], read_page: Read, changes: dict[str, Any], words: str
) -> None:
    assert words in read_page(write_report(make(**changes))).text()


@pytest.mark.parametrize(
    "changes",
    [
        {"results": None},
        {"results__control": None},
        {"results__control": {"val_scores": "x"}},
        {"results__val_scores": {"accuracy": {"value": None}}},
        {"results__val_scores": 7},
        {"results__baseline": ["x"]},
        {"results__confusion": [[1]]},
        {"results__confusion": [["x", 1], [2, 3]]},
        {"results__main_score": "bleu"},
        {"finetune": {}},
        {"finetune": {"labels": 3, "columns": [], "base": "x", "low": "y"}},
        {"settings": 3},
        {"data": {}},
        {"measure": "answer token"},
        {"measure": "score"},
    ],
    ids=str,
)
def test_every_state_and_every_damage_of_a_fine_tuning_gives_a_page(
    make: Callable[..., Path], read_page: Read, changes: dict[str, Any]
) -> None:
    said = read_page(write_report(make(**changes))).text()
    assert "nan" not in said.lower().split() and "None" not in said


def test_an_unfinished_run_says_when_its_scores_come(
    make: Callable[..., Path], read_page: Read
) -> None:
    said = read_page(write_report(make(results=None))).text()
    assert "Unfinished, after 100 steps. The validation loss is 0.410 so far" in said
    assert "Scores come at the end of the run" in said
    assert "The run is not finished: the same command again continues it." in said


def test_the_highest_score_is_marked_among_runs_on_the_same_rows(
    make: Callable[..., Path],
) -> None:
    make("a", value=0.8)
    make("b", value=0.85, results__val_loss=0.9)  # a higher loss, and still the better one
    make("c", value=0.99, data__sources=["other.csv"], data__fingerprint="cd")
    found = compare(["a", "b", "c"])
    assert [row.best for row in found.rows] == [False, True, False]
    assert "other rows or another split" in found.notes[found.rows[2].notes[0] - 1]
    shown = found.text(100)
    assert "0.850 *" in shown and "0.820 to 0.880" in shown and "0.780 bag of words" in shown
    assert "* the highest score among runs that may be compared" in shown
    assert "**0.850**" in found.markdown()
    assert "n-gram" not in shown and "per byte" not in shown


def test_tasks_are_never_ranked_together(make: Callable[..., Path]) -> None:
    make("a", value=0.8)
    make("b", value=0.9, task="entail")
    found = compare(["a", "b"])
    assert [row.best for row in found.rows] == [False, False]
    assert any("the answers of entail" in note for note in found.notes)


def test_the_check_above_notices_one_kind_of_loss_for_all_tasks(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted bug: the kind of loss lacks the task."""
    make("a", value=0.8)
    make("b", value=0.9, task="entail")
    found = compare(["a", "b"]).rows
    for row in found:
        row.loss_kind = "the answers"
    add_notes(found)
    assert [row.best for row in found] == [False, True]


def test_seeds_fold_though_each_holds_out_other_rows(make: Callable[..., Path]) -> None:
    for seed, value in enumerate((0.8, 0.84)):
        make(f"a-{seed}", value=value, settings__seed=seed, data__fingerprint=str(seed),
             data__rows=900 - seed, data__validation_rows=100 + seed)  # fmt: skip
    (row,) = compare(["a-0", "a-1"], fold_seeds=True).rows
    assert row.values["score"] == pytest.approx(0.82)
    assert row.spread["score"] == pytest.approx(0.02)
    assert row.values["interval"] is None
    control = make("c", finetune__base={"name": "pre", "fresh": True})
    assert len(compare(["a-0", str(control)], fold_seeds=True).rows) == 2
