"""Memory stays flat, measured in a child process as the peak above an almost empty text."""

import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import resource, sys
from pathlib import Path
from scriven.data.pipeline import load_dataset
from scriven.settings import DataSettings, TokenizerSettings
kind = sys.argv[2]
vocabulary = 300 if kind in ("bpe", "word") else None
load_dataset([sys.argv[1]], DataSettings(), TokenizerSettings(kind, vocabulary), seed=1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
BLOCK = "".join(chr(97 + place * place * 7 % 26) for place in range(1 << 16))


def peak(path: Path, kind: str) -> float:
    """Megabytes."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), kind], capture_output=True, text=True, check=True
    )
    return int(done.stdout) / 1000


def grow(path: Path, megabytes: int, spaces: bool) -> Path:
    text = BLOCK
    if spaces:
        text = "".join(x + (" " if at % 6 == 0 else "") for at, x in enumerate(BLOCK))
    with path.open("w", encoding="utf-8") as file:
        for _ in range(megabytes * 1_000_000 // len(text)):
            file.write(text)
    return path


@pytest.mark.parametrize(("kind", "megabytes", "bound"), [("char", 64, 80), ("bpe", 16, 160)])
def test_one_line_without_end_needs_little_memory(
    kind: str, megabytes: int, bound: float, tmp_path: Path
) -> None:
    little = peak(grow(tmp_path / "little.txt", 1, False), kind)
    assert peak(grow(tmp_path / "much.txt", megabytes, False), kind) - little < bound


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("spaces", [False, True])
@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_a_gigabyte_stays_below_half_a_gigabyte(kind: str, spaces: bool, tmp_path: Path) -> None:
    little = peak(grow(tmp_path / "little.txt", 1, spaces), kind)
    assert peak(grow(tmp_path / "much.txt", 1000, spaces), kind) - little < 512
