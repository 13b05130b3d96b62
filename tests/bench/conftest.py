"""The benchmarks' own modules can be imported here, and fake contestants started."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"
sys.path.insert(0, str(BENCH))

from entries import Entry  # noqa: E402

FAKE_PEER = Path(__file__).with_name("fake_peer.py")

Enter = Callable[..., Any]


@pytest.fixture
def fake(tmp_path: Path) -> Callable[..., Entry]:
    """An entry of the fake peer: name, seed of its weights, seconds of a step, choices."""

    def make(
        name: str,
        seed: int = 0,
        slowness: float = 0.02,
        choices: list[dict[str, Any]] | None = None,
    ) -> Entry:
        command = [sys.executable, str(FAKE_PEER), str(tmp_path), name, str(seed), str(slowness)]
        return Entry(name, command, choices or [{}])

    return make


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Ends what was started."""
    with ExitStack() as made:
        yield made
