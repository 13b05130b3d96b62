"""The tasks of labels, numbers, tags, spans and rankings as a user types them: fine-tuned, used,
evaluated and asked."""

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

import scriven
from scriven.cli import run

COLOURS = ["red", "blue", "green"]
THINGS = ["cat", "dog", "hat"]


def made(task: str, count: int = 60) -> list[dict[str, Any]]:
    """Rows of a table for a task."""
    draw, rows = random.Random(task), []
    for n in range(count):
        colour, thing, number = draw.choice(COLOURS), draw.choice(THINGS), n % 7
        text = f"The {colour} {thing} has {n} hats"
        rows.append(
            {
                "regression": {"text": text, "score": number / 2},
                "multilabel": {"text": text, "labels": [colour, thing][: n % 3]},
                "tag": {"tokens": text.split(),
                        "tags": ["O", "B-C", "B-T", "O", "O", "O"]},
                "answer": {"context": f"{text}. The end.", "question": f"Which {thing}?",
                           "answers": [] if n % 4 == 0 else [{"text": colour, "answer_start": 4}]},
                "rank": {"query": f"{colour} {n}", "documents": [text, "The end", "A dog"],
                         "relevance": [1, 0, 0]},
            }[task]
        )  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    text = folder / "text.txt"
    text.write_text("\n".join(row["text"] for row in made("regression", 200)), encoding="utf-8")
    shape = ["--model.layers=1", "--model.d_model=16", "--model.heads=2"]
    shape += ["--model.context_length=128", "--quiet"]
    out = folder / "run"
    assert run(["train", str(text), "--out", str(out), "--budget", "2steps", *shape]) == 0
    return out


SCORES = {
    "regression": ("pearson", ["mean", "ridge"]),
    "multilabel": ("micro_f1", ["label_frequency"]),
    "tag": ("f1", ["word_tag"]),
    "answer": ("exact_match", ["span_overlap"]),
    "rank": ("ndcg", ["overlap"]),
}


@pytest.mark.parametrize("task", SCORES)
def test_a_table_is_learned_used_and_evaluated(
    task: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = tmp_path / "table.jsonl", tmp_path / task
    table.write_text("".join(json.dumps(row) + "\n" for row in made(task)), encoding="utf-8")
    tuned = ["finetune", str(base), str(table), "--out", str(out), "--budget", "3steps", "--json"]
    capsys.readouterr()
    assert run(tuned) == 0
    found = json.loads(capsys.readouterr().out)
    name, baselines = SCORES[task]
    assert found["task"] == task
    assert next(iter(found["val_scores"])) == name == found["main_score"]
    assert list(found["baseline"]) == baselines
    assert name in found["baseline"][baselines[0]]["scores"]
    assert "report.html" in {path.name for path in out.iterdir()}
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "It answers whatever it is given" in card
    # predictions of the same rows, with the answers and without
    assert run(["predict", str(out), str(table)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 60
    kinds = {"regression": float, "multilabel": list, "tag": list, "answer": str, "rank": str}
    assert all(isinstance(line["prediction"], kinds[task]) for line in lines)
    if task == "tag":
        assert all(len(line["prediction"]) == len(line["tokens"]) for line in lines)
    if task == "multilabel":
        assert "p(red)" in lines[0] and "probability" not in lines[0]
    assert run(["evaluate", str(out), str(table), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert {"value", "low", "high"} <= set(scores[name])
    assert run(["predict", str(out), str(table), "-o", str(tmp_path / "out.csv")]) == 0
    # from Python, without the answers
    model = scriven.load(out)
    asked = {
        "regression": "The red cat", "multilabel": "The red cat", "tag": "The red cat",
        "answer": ("The red cat sat.", "Which cat?"), "rank": ("red", ["The red cat", "A dog"]),
    }[task]  # fmt: skip
    ((answer, _),) = model.predict([asked])
    assert isinstance(answer, str)


@pytest.fixture(scope="module")
def reader(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    table, out = folder / "table.jsonl", folder / "run"
    table.write_text("".join(json.dumps(row) + "\n" for row in made("answer")), encoding="utf-8")
    assert run(["finetune", str(base), str(table), "--out", str(out), "--budget", "3steps"]) == 0
    return out


def test_questions_about_a_file_are_answered(
    reader: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = tmp_path / "text.md"
    text.write_text("The red cat sat on the mat. " * 20, encoding="utf-8")
    capsys.readouterr()
    asked = ["generate", str(reader), "Which cat?", "--context", str(text)]
    assert run([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["text"] in text.read_text(encoding="utf-8")
    assert found["finish_reason"] == ("answered" if found["text"] else "no answer")
    assert 0 < found["probability"] <= 1
    assert run(asked) == 0
    assert capsys.readouterr().out.strip() in (found["text"], "(no answer)")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Which cat?\n\nWhere?\n")))
    assert run(["chat", str(reader), "--context", str(text), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [set(line) for line in lines] == [{"text", "probability"}] * 2
    assert lines[0]["text"] == found["text"]


def test_a_text_above_the_prompt_of_a_model_that_writes(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The red cat", encoding="utf-8")
    capsys.readouterr()
    asked = ["--max-new-tokens", "5", "--seed", "3", "--json"]
    assert run(["generate", str(base), "has", "--context", str(text), *asked]) == 0
    found = json.loads(capsys.readouterr().out)["text"]
    assert run(["generate", str(base), "The red cat\nhas", *asked]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["generate", "RUN", "Who?", "--context", "nowhere.txt"], "is no file"),
        (["generate", "RUN", "Who?", "--context", "empty.txt"], "is empty"),
        (["generate", "RUN", "--context", "text.txt"], "there is no question"),
        (["chat", "RUN", "--context", "text.txt", "--system", "x"], "--context and --system"),
        (["chat", "RUN", "--context", "text.txt", "--load", "x"], "stands alone"),
        (["generate", "RUN", "Who?"], "writes nothing"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line(
    words: list[str],
    said: str,
    reader: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("The red cat.", encoding="utf-8")
    Path("empty.txt").write_text(" \n", encoding="utf-8")
    capsys.readouterr()
    assert run([str(reader) if word == "RUN" else word for word in words]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and said in shown.err and shown.err.count("\n") == 1
