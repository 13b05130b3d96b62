"""What the command says when something is missing, and that `-` is standard input for each verb."""

import io
from pathlib import Path

import pytest

from scriven.cli import run


class Input:
    """Standard input, in bytes and in text."""

    def __init__(self, text: str) -> None:
        self.buffer = io.BytesIO(text.encode())

    def read(self) -> str:
        return self.buffer.read().decode()


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    text = folder / "book.txt"
    text.write_text("It was a dark and stormy night.\n" * 30, encoding="utf-8")
    made = folder / "run"
    line = ["train", str(text), "--out", str(made), "--budget", "2steps", "--size", "tiny"]
    assert run([*line, "--quiet"]) == 0
    return made


@pytest.mark.parametrize(
    ("verb", "word"),
    [("generate", "RUN"), ("evaluate", "RUN"), ("report", "RUN"), ("inspect", "TARGET")],
)
def test_a_verb_alone_says_what_it_needs(
    verb: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([verb]) == 2
    said = capsys.readouterr().err
    assert said == f"scriven: `{verb}` needs {word}: see `scriven {verb} --help`\n"


def test_a_minus_is_standard_input(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Input("It was a dark and stormy night. " * 30))
    line = ["train", "-", "--out", str(tmp_path / "piped"), "--budget", "2steps", "--quiet"]
    assert run(line) == 0
    monkeypatch.setattr("sys.stdin", Input("It was"))
    capsys.readouterr()
    assert run(["generate", str(book), "-", "--max-new-tokens", "3"]) == 0
    assert capsys.readouterr().out.startswith("It was")


def test_a_wrong_knob_is_refused_before_the_prompt_is_written(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["generate", str(book), "It was", "--temperature", "900"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "--temperature" in said.err


def test_the_vocabulary_is_set_by_the_tokenizer(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = str(book.parent / "book.txt")
    assert run(["train", text, "--model.vocab_size", "7", "--out", str(book.parent / "new")]) == 2
    assert "--tokenizer.vocab_size" in capsys.readouterr().err
    assert not (book.parent / "new").exists()


def test_explain_tells_defaults_from_wishes(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = str(book.parent / "book.txt")
    line = ["train", text, "--out", str(tmp_path / "new"), "--budget", "1steps", "--explain"]
    assert run([*line, "--optim.grad_clip", "0.5"]) == 0
    said = capsys.readouterr().err
    assert "optim.grad_clip = 0.5  (asked for)" in said
    assert "optim.warmup_fraction = 0.02  (default)" in said
    assert "model.d_model = 64  (a short text)" in said
