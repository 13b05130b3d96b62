"""What names, labels, notes and models say cannot rule the terminal it is shown on."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriven.cli import run as command
from scriven.cli.base import emit, note
from scriven.files import printable
from scriven.format import escape_control_characters
from scriven.manifest import signed_json

EVIL = "a\x1b]0;owned\x07\x9b31m\u202eb\x7f\r"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_only_control_characters_are_escaped(text: str) -> None:
    shown = escape_control_characters(text)
    assert not CONTROL.search(shown) and "\r" not in shown
    if shown != text:
        assert re.search("[\r\u200e\u200f]", text) or CONTROL.search(text)


def test_an_escape_sequence_is_harmless_and_line_ends_stay() -> None:
    assert escape_control_characters("a\x1b[2Jb\r\n\tc\rd") == "a\\x1b[2Jb\n\tc\\rd"
    assert escape_control_characters("👩\u200d🚀 é ا") == "👩\u200d🚀 é ا"
    assert escape_control_characters("\u202ea\ud800") == "\\u202ea\\ud800"
    assert printable(Path("a\nb\x1bc")) == "a\\nb\\x1bc"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What a command shows on a terminal."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    def shown(*arguments: str) -> str:
        command(list(arguments))
        caught = capsys.readouterr()
        return re.sub(r"\x1b\[[01]m", "", caught.out) + caught.err  # our own bold

    return shown


def a_run(folder: Path) -> Path:
    """A finished run by somebody who put control characters wherever there is text."""
    folder.mkdir()
    scores = {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6, "signature": EVIL}}
    record = {
        "scriven": EVIL, "name": EVIL, "architecture": "llama", "task": "classify",
        "measure": EVIL, "model": {"layers": 1, EVIL: EVIL}, "reasons": {EVIL: EVIL},
        "settings": {"optim": {"optimizer": EVIL, "lr_schedule": EVIL}, "seed": EVIL},
        "data": {"sources": [EVIL], "fingerprint": EVIL}, "environment": {"device": EVIL},
        "finetune": {"labels": [EVIL, "b"], "columns": {"text": EVIL}, "base": {"name": EVIL}},
        "baseline": {EVIL: {"note": EVIL, "scores": scores}}, "command": EVIL,
        "results": {"val_scores": scores, "main_score": "accuracy", "sample": EVIL},
    }  # fmt: skip
    (folder / "scriven.json").write_bytes(signed_json(record))
    lines = [
        {"event": "note", "step": 1, "text": EVIL},
        {"event": "sample", "step": 1, "text": EVIL, "prompt": EVIL},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "RUN", "RUN2"),
        ("compare", "RUN", "--json"),
        ("compare", "RUN", "--markdown"),
        ("report", "RUN"),
        ("inspect", "RUN"),
        ("generate", "RUN"),
        ("evaluate", "RUN"),
        ("train", "--resume", "RUN"),
        ("generate", EVIL),
        ("train", EVIL),
        ("finetune", EVIL, "x.csv"),
        ("predict", EVIL, "x.csv"),
        ("chat", EVIL),
        ("export", "RUN", "--to", EVIL),
        ("import", EVIL),
        ("harness", "RUN", EVIL),
        ("prepare", EVIL, "--out", EVIL),
        ("bench", EVIL),
        ("plan", EVIL),
        ("plan", "--arch", EVIL),
        (EVIL,),
        ("train", "x", f"--{EVIL}.x=1"),
        ("train", "x", "--optim.lr", EVIL),
        ("doctor", EVIL),
    ],
)
def test_no_command_lets_control_characters_through(
    arguments: tuple[str, ...], tmp_path: Path, terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = {"RUN": str(a_run(tmp_path / "one")), "RUN2": str(a_run(tmp_path / f"two{EVIL}"))}
    shown = terminal(*(runs.get(each, each) for each in arguments))
    assert shown and not CONTROL.search(shown), ascii(shown)


def test_results_and_notes_are_escaped_on_a_terminal_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    emit({}, EVIL, False)
    note(EVIL)
    piped = capsys.readouterr()
    assert piped.out == EVIL + "\n" and not CONTROL.search(piped.err)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    emit({}, EVIL, False)
    emit({"name": EVIL}, "", True)
    text, line = capsys.readouterr().out.splitlines()
    assert not CONTROL.search(text + line)
    assert json.loads(line) == {"name": EVIL}
