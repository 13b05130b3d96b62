"""Shared by the tests of the run folder."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scriven.run import atomic


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors that pass are tried again at once."""
    monkeypatch.setattr(atomic, "WAITS", (0.0, 0.0, 0.0))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)
