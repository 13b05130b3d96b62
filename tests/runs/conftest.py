"""Shared by the tests of the run folder."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scriven import files

if TYPE_CHECKING:
    from .hf_case import Case


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors that pass are tried again at once."""
    monkeypatch.setattr(files, "RETRY_WAITS", (0.0, 0.0, 0.0))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture
def case(tmp_path: Path) -> "Callable[..., Case]":
    """(architecture, changes of its Config) -> a base model, here and as a Hugging Face folder."""
    from .hf_case import Case  # loads transformers

    return lambda name, changes=None, **more: Case(tmp_path, name, changes or {}, **more)
