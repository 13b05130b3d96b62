"""Shared by the tests of what a run withstands."""

from pathlib import Path

import pytest

from .finetuning import base_run, labelled, tuned, write_lines
from .runs import write_text


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A text of a few kB."""
    return write_text(tmp_path)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_run(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_run(tmp_path_factory.mktemp("base"), "transformer")


@pytest.fixture(scope="session")
def judge(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model fine-tuned to tell good from bad."""
    folder = tmp_path_factory.mktemp("judge")
    patch = pytest.MonkeyPatch()
    patch.setenv("SCRIVEN_CACHE", str(folder / "cache"))
    tuned(base, write_lines(folder / "t.jsonl", labelled()), out=folder / "run")
    patch.undo()
    return folder / "run"
