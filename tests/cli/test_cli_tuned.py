"""The commands of every run, on fine-tuned runs: what makes sense works, the rest is refused in one
line that names the right command."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import scriven
from scriven.cli import run as command

Tuned = Callable[[str], Path]

TABLES: dict[str, list[dict[str, Any]]] = {
    "classify": [{"text": f"{n}, {n % 2}", "label": ("no", "yes")[n % 2]} for n in range(20)],
    "summarize": [{"text": f"the {n} and more", "summary": f"a {n}"} for n in range(20)],
    "chat": [
        {"messages": [{"role": "user", "content": f"say {n}"},
                      {"role": "assistant", "content": f"{n}!"}]}
        for n in range(20)
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """task -> a run folder."""
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "text.txt").write_text("the fox says a thing, and more of it.\n" * 60)
    settings = {
        "model.layers": 1,
        "model.d_model": 16,
        "model.heads": 2,
        "model.context_length": 64,
        "runtime.dtype": "float32",
        "train.sample_seconds": 0,
    }
    base = scriven.train(
        folder / "text.txt", out=folder / "base", budget="2steps", settings=settings, quiet=True
    )

    def tune(task: str) -> Path:
        if not (folder / task).exists():
            table = folder / f"{task}.jsonl"
            table.write_text("".join(json.dumps(row) + "\n" for row in TABLES[task]))
            scriven.finetune(
                base.folder, table, task=task, out=folder / task, budget="4steps", quiet=True,
                settings={"runtime.dtype": "float32", "train.sample_seconds": 0},
            )  # fmt: skip
        return folder / task

    return tune


def said(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of a command."""
    capsys.readouterr()
    code = command([str(each) for each in argv])
    found = capsys.readouterr()
    return code, found.out, found.err


@pytest.mark.parametrize("task", ["chat", "summarize"])
def test_generate_gives_the_answer_alone(
    tuned: Tuned, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tuned(task)
    text = "say 3" if task == "chat" else "the 3 and more"
    code, out, _ = said(capsys, "generate", run, text, "--max-new-tokens", "12")
    model = scriven.load(run)
    given = {"messages": [{"role": "user", "content": text}]} if task == "chat" else text
    assert code == 0
    assert out.rstrip("\n") == model.generate(text, max_new_tokens=12)
    assert (
        out.strip() == model.predict([given], max_new_tokens=12)[0][0]
    )  # the likeliest, as predict
    assert text not in out and "<|" not in out
    code, out, _ = said(capsys, "generate", run, text, "--max-new-tokens", "12", "--json")
    assert json.loads(out)["text"] == model.generate(text, max_new_tokens=12)
    code, out, _ = said(capsys, "generate", run, text, "--beams", "2", "--max-new-tokens", "4")
    assert code == 0 and text not in out


def test_generate_refuses_labels_and_names_the_right_command(
    tuned: Tuned, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ((), ("--json",), ("--beams", "2"), ("--samples", "2")):
        code, out, err = said(capsys, "generate", tuned("classify"), "a text", *more)
        assert (code, out) == (2, "")
        (line,) = err.splitlines()
        assert "scriven predict classify" in line


def test_a_text_is_no_table_to_evaluate_on(
    tuned: Tuned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book = tmp_path / "book.txt"
    book.write_text("Once upon a time.\n")
    for task in TABLES:
        code, out, err = said(capsys, "evaluate", tuned(task), book)
        assert (code, out) == (2, "")
        (line,) = err.splitlines()
        assert "book.txt is no table" in line


def test_inspect_counts_the_head_of_the_task(
    tuned: Tuned, capsys: pytest.CaptureFixture[str]
) -> None:
    for task in TABLES:
        run = tuned(task)
        code, out, _ = said(capsys, "inspect", run, "--json")
        results = json.loads((run / "scriven.json").read_text())["results"]
        assert code == 0
        assert json.loads(out)["parameters"] == results["parameters"]


def test_report_and_compare_work(tuned: Tuned, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [tuned(task) for task in TABLES]
    for run in runs:
        assert said(capsys, "report", run)[0] == 0
        assert "n-gram" not in (run / "report.html").read_text(encoding="utf-8")
    code, out, _ = said(capsys, "compare", *runs, runs[0].parent / "base", "--json")
    found = json.loads(out)
    assert code == 0
    assert [each["task"] for each in found["runs"]] == [*TABLES, None]
    assert [each["scored_by"] for each in found["runs"]] == [
        "accuracy", "ROUGE-L", "ended by themselves", None,
    ]  # fmt: skip
    assert not any(each["best"] for each in found["runs"])


def test_counts_of_mistakes_are_written(tuned: Tuned) -> None:
    results = json.loads((tuned("classify") / "scriven.json").read_text())["results"]
    counts = results["confusion"]
    assert sum(map(sum, counts)) == results["val_rows"]
    right = counts[0][0] + counts[1][1]
    assert right / results["val_rows"] == results["val_scores"]["accuracy"]["value"]
    assert json.loads((tuned("chat") / "scriven.json").read_text())["results"]["confusion"] is None


@pytest.mark.parametrize("task", ["summarize", "translate", "instruct"])
def test_a_package_that_scores_will_need_is_asked_for_before_training(
    tuned: Tuned,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    task: str,
) -> None:
    base = tuned("classify").parent / "base"
    names = {"summarize": ("text", "summary"), "translate": ("source", "target"),
             "instruct": ("prompt", "completion")}[task]  # fmt: skip
    rows = [dict(zip(names, (f"say {n}", f"it {n}"), strict=True)) for n in range(20)]
    table = tmp_path / "rows.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    code, _, error = said(capsys, "finetune", base, table, "--out", tmp_path / "out")
    assert code == 2 and "scriven[eval]" in error
    assert not (tmp_path / "out").exists()
