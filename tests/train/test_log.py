"""What a run says on a terminal: a bar that fits, on standard error alone."""

import io
import re
from pathlib import Path

import pytest

from scriven.train.logging import Line, Log

LINE = Line(130.2, 820, 2000, 70.0, 24_100, 1.557, 1.690, 0.409, 0.374)


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


def shown(columns: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    log = Log(path, stream)
    log.progress(LINE, 0.4, shown=False)
    assert log.bar is not None
    log.bar.refresh()
    log.say("a sentence with [brackets]")
    log.close()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def test_the_line_of_the_contract() -> None:
    assert str(LINE) == (
        "T+ 0:02:10 · step 820/2000 · train loss 1.557 · val loss 1.690 · train acc 0.409 · "
        "val acc 0.374 · 24.1k tok/s · left 0:01:10"
    )


@pytest.mark.parametrize(("columns", "wanted"), [(80, LINE.short()), (160, str(LINE))])
def test_the_bar_fits_the_terminal(
    columns: int, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(columns, tmp_path / "metrics.jsonl", monkeypatch)
    assert wanted in text
    assert "a sentence with [brackets]" in text


def test_nothing_of_the_bar_goes_to_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown(80, tmp_path / "metrics.jsonl", monkeypatch)
    assert capsys.readouterr().out == ""


def test_without_a_run_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Log(None, Terminal()).bar is None
