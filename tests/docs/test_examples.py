"""The programs in examples/ run, each in seconds."""

import runpy
import sys
from pathlib import Path

import docpages
import pytest

EXAMPLES = docpages.ROOT / "examples"

TEXT = "It was a dark night.\n" + "She said nothing, and the rain fell on the town. " * 20

QUICK = ["--pretrain", "2steps", "--budget", "2steps", "--rows", "60"]

ARGUMENTS = {
    "train_and_generate": ["book.txt", "--budget", "3steps"],
    "own_documents": ["--budget", "2steps"],
    "go_on": ["book.txt", "second.txt", "--budget", "3steps", "--lora", "2"],
    "train_longer": ["book.txt", "--budget", "3steps", "--more", "+3steps"],
    "keras_style": ["book.txt", "--epochs", "1"],
    "compare_architectures": [
        "book.txt", "--budget", "2steps", "--size", "tiny", "--arch", "llama,rnn",
    ],
    "fill_mask": ["book.txt", "She said <mask>, and the <mask> fell", "--budget", "2steps"],
    "export_model": ["runs/book"],
    "other_models": ["runs/book", "--book", "book.txt"],
    "serve": ["runs/book"],
    "by_hand": ["book.txt", "--arch", "llama", "--steps", "2"],
    "perplexity": ["runs/book", "book.txt"],
    "evaluate_with_harness": ["runs/book", str(EXAMPLES / "harness"), "--limit", "4"],
    "classify_reviews": QUICK,
    "frames": QUICK,
    "entail": QUICK,
    "similarity": QUICK,
    "five_tasks": QUICK,
    "multiple_choice": QUICK,
    "instruct": QUICK,
    "preferences": QUICK,
    "translate": QUICK,
    "summarize": QUICK,
    "chat": ["runs/book", str(EXAMPLES / "conversations.jsonl"), "--budget", "2steps"],
}  # fmt: skip


@pytest.mark.parametrize("name", [path.stem for path in sorted(EXAMPLES.glob("*.py"))])
def test_example_runs(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text(TEXT, encoding="utf-8")
    Path("second.txt").write_text(TEXT.upper(), encoding="utf-8")
    if "runs/book" in ARGUMENTS[name]:
        import scriven

        scriven.train("book.txt", budget="2steps", size="tiny", quiet=True)
    monkeypatch.setattr(sys, "argv", [name, *ARGUMENTS[name]])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert len(capsys.readouterr().out) > 100
