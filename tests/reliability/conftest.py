"""Shared by the tests of what a run withstands."""

from pathlib import Path

import pytest

from .runs import write_text


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A text of a few kB."""
    return write_text(tmp_path)
