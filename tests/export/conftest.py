"""Runs that several files export, trained once."""

from collections.abc import Callable
from pathlib import Path

import exportable
import pytest


@pytest.fixture(scope="session")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """name -> run folder; only tests that compare greedy text need more than a few steps."""
    made: dict[str, Path] = {}
    folder = tmp_path_factory.mktemp("exports")

    def run(name: str) -> Path:
        if name not in made:
            # what is refused needs no training
            steps = 120 if name in exportable.TRAINED else 2
            made[name] = exportable.make_run(name, folder, steps)
        return made[name]

    return run
