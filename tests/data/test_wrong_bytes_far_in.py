"""Wrong bytes in the middle of a large text are found while it is read, and named."""

import collections
import resource
import sys
from pathlib import Path

import pytest

from scriven.cli import run
from scriven.data.formats.base import read_documents
from scriven.errors import InputError
from scriven.settings import DataSettings

LINE = b"It was a dark and stormy night; the rain fell, and no one came.\n"
WRONG = [b"\xff", b"\xe4\xb8 ", b"\xed\xa0\xbd", b"\xc0\xaf"]
"""A byte that UTF-8 has not, half a character, a surrogate, a character in too many bytes."""


def spoiled(path: Path, megabytes: int, bad: bytes) -> int:
    """A text with wrong bytes at two thirds; returns their offset."""
    block = LINE * (1_000_000 // len(LINE))
    with path.open("wb") as file:
        for number in range(megabytes):
            if number == megabytes * 2 // 3:
                file.write(LINE[:10])
                offset = file.tell()
                file.write(bad)
            file.write(block)
    return offset


@pytest.mark.parametrize("bad", WRONG)
def test_they_are_named_by_their_offset(
    tmp_path: Path, bad: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    offset = spoiled(tmp_path / "book.txt", 12, bad)
    chunks = read_documents(tmp_path / "book.txt", DataSettings())
    assert len(next(chunks).text) < offset / 2, "it is read as a stream"
    with pytest.raises(InputError, match=f"offset {offset}"):
        list(chunks)
    made = ["--out", str(tmp_path / "run"), "--budget=1steps"]
    assert run(["train", str(tmp_path / "book.txt"), *made]) == 2
    assert f"offset {offset}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss differs")
def test_in_a_gigabyte_too_without_keeping_it_in_memory(tmp_path: Path) -> None:
    offset = spoiled(tmp_path / "book.txt", 1000, b"\xff")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    chunks = read_documents(tmp_path / "book.txt", DataSettings())
    with pytest.raises(InputError, match=f"offset {offset}"):
        collections.deque(chunks, maxlen=0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
