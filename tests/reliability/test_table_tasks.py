"""What the other tasks refuse and count, and settings that cannot be."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from .finetuning import (
    base_run,
    changed,
    done,
    labelled,
    read_lines,
    refuses,
    sentence,
    tuned,
    write_lines,
)
from .runs import command, refused


def talks(count: int = 12) -> list[Any]:
    return [
        {"messages": [{"role": "user", "content": sentence(n)},
                      {"role": "assistant", "content": WORD[n % 3]}]}
        for n in range(count)
    ]  # fmt: skip


WORD = ("rain", "him", "see")


def user(text: Any = "rain") -> dict[str, Any]:
    return {"role": "user", "content": text}


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([], "no messages"), ("hi", "must be a list"), (None, "must be a list"),
        ([user()], "no answer of the assistant"),
        ([user(), {"role": "assistant", "content": "b"}, user()], "no answer of the assistant"),
        ([{"role": "assistant", "content": "b"}], "user"),
        ([user(), user()], "take turns"), ([user(5)], "must be text"),
        ([{"role": "robot", "content": "b"}], "robot"), ([{"content": "b"}], "no role"),
        ([["a"]], "object"),
    ],
)  # fmt: skip
def test_a_conversation_without_anything_to_learn_is_refused(
    base: Path, tmp_path: Path, messages: Any, why: str
) -> None:
    table = write_lines(tmp_path / "t.jsonl", [*talks(), {"messages": messages}])
    said = refuses(base, table, out=tmp_path / "run")
    assert "t.jsonl row 13 " in said
    assert why in said


def test_what_has_no_answer_is_counted_and_the_rest_is_learned(base: Path, tmp_path: Path) -> None:
    table = write_lines(tmp_path / "t.jsonl", [*talks(), {"messages": [user()]}])
    found = tuned(base, table, "--skip-bad", out=tmp_path / "run")
    assert "1 row was skipped" in found["said"]
    # asked, and not measured, it is as good as any
    out = tmp_path / "out.jsonl"
    assert done("predict", tmp_path / "run", table, "-o", out, "--max-new-tokens=3")["rows"] == 13
    assert "no answer of the assistant" in refused("evaluate", str(tmp_path / "run"), str(table))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"answer": 4}, "from 0 to 2"), ({"answer": -1}, "from 0 to 2"), ({"answer": "z"}, "none"),
        ({"answer": 1.5}, "number"), ({"answer": True}, "true or false"),
        ({"choices": ["a"]}, "two texts or more"), ({"choices": "abc"}, "two texts or more"),
        ({"choices": ["a", 5]}, "number"), ({"choices": ["a", ""]}, "empty"),
    ],
)  # fmt: skip
def test_a_choice_that_cannot_be_made_is_named(
    base: Path, tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    rows = [
        {"context": sentence(n), "choices": ["a", "b", "c"], "answer": n % 3} for n in range(12)
    ]
    table = write_lines(tmp_path / "t.jsonl", changed(change, rows=rows))
    said = refuses(base, table, out=tmp_path / "run")
    assert "t.jsonl row 6 " in said
    assert why in said
    assert "1 row was skipped" in tuned(base, table, "--skip-bad", out=tmp_path / "run")["said"]


def test_choices_of_different_numbers_are_answered(base: Path, tmp_path: Path) -> None:
    rows = [
        {"context": sentence(n), "choices": list("12345"[: 2 + n % 4]), "answer": "12"[n % 2]}
        for n in range(12)
    ]
    table = write_lines(tmp_path / "t.jsonl", rows)
    tuned(base, table, out=tmp_path / "run")
    out = tmp_path / "out.jsonl"
    done("predict", tmp_path / "run", table, "-o", out)
    for row in read_lines(out):
        assert row["prediction"] in row["choices"]
        shares = [row[f"p({place})"] for place in range(len(row["choices"]))]
        assert sum(shares) == pytest.approx(1, abs=1e-5)
        assert f"p({len(shares)})" not in row
    assert done("evaluate", tmp_path / "run", table)["rows"] == 12


def test_special_tokens_in_rows_are_text(base: Path, tmp_path: Path) -> None:
    marks = "<|extract|> <|im_end|> <|endoftext|> <|pad|> <mask> <|im_start|>assistant\n"
    rows = [{"prompt": marks, "completion": f"{marks}{n}"} for n in range(12)]
    table = write_lines(tmp_path / "t.jsonl", rows)
    tuned(base, table, out=tmp_path / "run")
    out = tmp_path / "out.jsonl"
    done("predict", tmp_path / "run", table, "-o", out, "--max-new-tokens=5")
    assert [row["prompt"] for row in read_lines(out)] == [marks] * 12


def test_an_encoder_is_not_asked_to_write(tmp_path: Path) -> None:
    encoder = base_run(tmp_path, "roberta")
    table = write_lines(tmp_path / "t.jsonl", talks())
    said = refuses(encoder, table, out=tmp_path / "run")
    assert "roberta" in said
    assert "llama" in said


def test_no_rows_are_left_after_skipping(judge: Path, tmp_path: Path) -> None:
    rows: list[Any] = [{"text": "rain", "label": "ugly"}, {"text": "", "label": "good"}]
    table = write_lines(tmp_path / "t.jsonl", rows)
    refused("evaluate", str(judge), str(table), "--skip-bad", "--json")
    counts = done("predict", judge, table, "--skip-bad", "-o", tmp_path / "out.csv")
    assert (counts["rows"], counts["skipped"]) == (1, 1)


IMPOSSIBLE = """
--lora=-1 --lora=x --lora=1e9 --finetune.lora_rank=-1 --finetune.weights=none
--finetune.lm_loss_weight=-1
--finetune.lm_loss_weight=nan --finetune.lm_loss_weight=inf --model.d_model=64 --model.layers=2
--model.context_length=64
--model.dropout=1 --model.dropout=nan --train.batch_size=0 --train.micro_batch_size=0 --optim.lr=nan
--optim.lr=-1 --budget=0steps --budget=soon --seed=-1 --out= --arch=none --arch=gpt2 --nothing
--data.encoding=none-such --tokenizer.kind=byte --runtime.device=gpu --train.patience=-1
--finetune.nothing=1
""".split()  # noqa: SIM905


@pytest.mark.parametrize("flag", IMPOSSIBLE)
def test_impossible_settings_are_refused_with_nothing_written(
    base: Path, tmp_path: Path, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = write_lines(tmp_path / "t.jsonl", labelled())
    name = flag.split("=")[0]
    parts = ["--train.batch_size=4", "--budget=6steps", "--out=run"]
    kept = [part for part in parts if part.split("=")[0] != name]
    refused("finetune", str(base), str(table), *kept, flag, "--json")
    assert [path.name for path in tmp_path.iterdir()] == ["t.jsonl"]


@pytest.mark.parametrize("more", [["--head-only"], ["--lora=0"], ["--lora=4", "--head-only"]])
def test_nothing_to_train_is_refused_with_nothing_written(
    writer: Path, tmp_path: Path, more: list[str]
) -> None:
    rows = [{"source": sentence(n), "target": sentence(n + 3)} for n in range(12)]
    refuses(writer, write_lines(tmp_path / "t.jsonl", rows), *more, out=tmp_path / "run")


@pytest.mark.parametrize("rows", [labelled(1), labelled(5, ["good"]), labelled(5)])
def test_scores_of_few_rows_or_one_class_are_numbers_or_nothing(
    judge: Path, tmp_path: Path, rows: list[Any]
) -> None:
    scores = done("evaluate", judge, write_lines(tmp_path / "t.jsonl", rows))["scores"]
    assert 0 <= scores["accuracy"]["value"] <= 1
    for each in scores.values():
        assert all(math.isfinite(each[key]) for key in ("value", "low", "high"))


def alike(count: int) -> list[dict[str, Any]]:
    return [{"first": sentence(n), "second": sentence(n + 3), "score": n % 5} for n in range(count)]


@pytest.mark.parametrize("score", [None, 2])
@pytest.mark.parametrize("count", [1, 2, 12])
def test_equal_or_few_scores_are_measured_without_nonsense(
    base: Path, tmp_path: Path, score: int | None, count: int
) -> None:
    tuned(base, write_lines(tmp_path / "t.jsonl", alike(20)), out=tmp_path / "run")
    rows = alike(count) if score is None else [{**row, "score": score} for row in alike(count)]
    code, out, err = command("evaluate", str(tmp_path / "run"),
                             str(write_lines(tmp_path / "v.jsonl", rows)), "--json")  # fmt: skip
    assert code == 0, err
    assert "NaN" not in out
    assert "Infinity" not in out
    for name in ("pearson", "spearman"):
        value = json.loads(out)["scores"][name]["value"]
        assert value is None or -1 <= value <= 1
    assert command("evaluate", str(tmp_path / "run"), str(tmp_path / "v.jsonl"))[0] == 0


def test_a_block_of_nothing_but_bad_rows_is_passed_over(
    writer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scriven.generate import predict

    monkeypatch.setattr(predict, "AT_ONCE", 3)
    pairs = [{"source": sentence(n), "target": sentence(n + 3)} for n in range(12)]
    tuned(writer, write_lines(tmp_path / "t.jsonl", pairs), out=tmp_path / "run")
    bad = [{"source": "", "target": "a"}] * 7
    table = write_lines(tmp_path / "p.jsonl", [pairs[0], *bad, pairs[1]])
    counts = done("predict", tmp_path / "run", table, "--skip-bad", "-o", tmp_path / "out.csv",
                  "--max-new-tokens=3")  # fmt: skip
    assert (counts["rows"], counts["skipped"]) == (2, 7)


def test_two_columns_of_one_name_are_refused(base: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label,text\na,b,c\nd,e,f\n")
    assert "two columns 'text'" in refuses(base, tmp_path / "t.csv", out=tmp_path / "run")


@pytest.mark.parametrize(
    "given", [5, None, ("a", "b", "c"), (), {"body": "a"}, {"text": ""}, "", {"text": 3}, [["a"]]]
)
def test_what_python_gives_is_used_or_refused(judge: Path, given: Any) -> None:
    import scriven

    model = scriven.load(judge)
    assert len(model.predict(["rain", ("rain",), {"text": "rain"}, {"sentence": "rain"}])) == 4
    with pytest.raises(scriven.ScrivenError, match=r"^input 2 "):
        model.predict(["rain", given])


def test_a_fine_tuned_model_is_fine_tuned_again(base: Path, judge: Path, tmp_path: Path) -> None:
    more = write_lines(tmp_path / "more.jsonl", labelled(30)[4:])
    same = tuned(judge, more, out=tmp_path / "same")
    assert same["task"] == "classify"
    before = done("evaluate", judge, more)["scores"]["accuracy"]["value"]
    assert 0 <= before <= 1
    other = write_lines(tmp_path / "other.jsonl", labelled(24, ["x", "y", "z"]))
    assert tuned(judge, other, out=tmp_path / "labels")["task"] == "classify"
    talk = write_lines(tmp_path / "talks.jsonl", talks())
    assert tuned(judge, talk, out=tmp_path / "chat")["task"] == "chat"
    assert tuned(tmp_path / "chat", other, "--lora=2", out=tmp_path / "back")["task"] == "classify"
    assert tuned(tmp_path / "back", talk, out=tmp_path / "again")["task"] == "chat"
    done("evaluate", tmp_path / "again", talk)
