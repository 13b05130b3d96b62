"""Windows that grow: what a run records of them, and where they are refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scriven.cli import run
from scriven.data.batch import Batch
from scriven.evaluate.loss import Score
from scriven.train import trainer

SMALL = [
    "--model.layers=1", "--model.heads=2", "--model.d_model=16", "--model.context_length=64",
    "--train.batch_size=2", "--budget=8steps", "--quiet",
]  # fmt: skip


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text("It was a dark and stormy night.\n" * 80, encoding="utf-8")
    return path


def test_a_cut_window_is_the_same_number_of_tokens(book: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert (
        run(["train", str(book), "--out", str(out), "--train.initial_context_length=16", *SMALL])
        == 0
    )
    record = json.loads((out / "scriven.json").read_text(encoding="utf-8"))
    assert record["settings"]["train"]["initial_context_length"] == 16
    assert record["results"]["tokens"] == 8 * 2 * 64


@pytest.mark.parametrize(("first", "wanted"), [(16, [16, 32, 32] + [64] * 5), (64, [64] * 8)])
def test_evaluations_read_windows_as_long_as_the_sequences_of_training(
    first: int, wanted: list[int], book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = []
    evaluate = trainer.evaluate_loss

    def record(task: Any, batches: Iterator[Batch], **others: Any) -> Score:
        found = list(batches)
        lengths.append(max(batch.tokens.size(1) for batch in found))
        return evaluate(task, iter(found), **others)

    monkeypatch.setattr(trainer, "evaluate_loss", record)
    flags = [f"--train.initial_context_length={first}", "--train.eval_interval=1", *SMALL]
    assert run(["train", str(book), "--out", str(tmp_path / "run"), *flags]) == 0
    assert lengths == wanted
    record_of_run = json.loads((tmp_path / "run" / "scriven.json").read_text(encoding="utf-8"))
    assert record_of_run["results"]["val_tokens"] > 64  # all of them, at every length


@pytest.mark.parametrize("arch", ["rnn", "roberta", "transformer_xl"])
def test_models_that_read_otherwise_refuse_them(
    arch: str, book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    asked = [
        "train",
        str(book),
        "--arch",
        arch,
        "--out",
        str(out),
        "--train.initial_context_length=16",
    ]
    assert run([*asked, "--budget=2steps"]) == 2
    assert "--train.initial_context_length=16" in capsys.readouterr().err
    assert not out.exists()
