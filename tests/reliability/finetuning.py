"""Tiny fine-tunings for tests of what they withstand."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from scriven.train.run import start_or_resume

from .runs import command, refused, request, write_text

QUICK = (
    "--budget=6steps",
    "--train.batch_size=4",
    "--train.sample_seconds=0",
    "--runtime.dtype=float32",
    "--runtime.threads=1",
)
WORDS = "rain fell came see what done where went with him".split()  # noqa: SIM905


def base_run(folder: Path, arch: str = "llama", steps: int = 2) -> Path:
    """A model with a context of 32, trained for no time at all."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SCRIVEN_CACHE", str(folder / "cache"))
    made = request(write_text(folder), folder / arch, f"{steps}steps", model__context_length=32)
    vars(made)["arch"] = arch
    start_or_resume(made)
    patch.undo()
    return folder / arch


def sentence(number: int) -> str:
    """A text that is like no other."""
    return f"{WORDS[number % 10]} {WORDS[number // 10 % 10]} {number}"


def labelled(count: int = 24, labels: Sequence[str] = ("good", "bad")) -> list[dict[str, Any]]:
    """Rows of a table for classify."""
    return [{"text": sentence(n), "label": labels[n % len(labels)]} for n in range(count)]


def write_lines(path: Path, rows: Sequence[dict[str, Any] | str]) -> Path:
    """JSON lines; a text is a line as it stands."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    """JSON lines back as rows."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def tuned(base: Path, *parts: object, out: Path) -> dict[str, Any]:
    """Results of a fine-tuning that must succeed, with what it said as `said`."""
    words = ["finetune", str(base), *map(str, parts), f"--out={out}", *QUICK, "--json"]
    code, found, err = command(*words)
    assert code == 0, err
    return {**json.loads(found), "said": err}


def refuses(base: Path, *parts: object, out: Path) -> str:
    """The one line of a fine-tuning that must be refused, with nothing written."""
    before = sorted(os.listdir(out.parent))
    line = refused("finetune", str(base), *map(str, parts), f"--out={out}", *QUICK, "--json")
    assert sorted(os.listdir(out.parent)) == before
    return line


def done(*parts: object) -> dict[str, Any]:
    """The JSON of any other command that must succeed, with what it said as `said`."""
    code, out, err = command(*map(str, parts), "--json")
    assert code == 0, err
    return {**json.loads(out), "said": err}


def changed(change: dict[str, Any], at: int = 5, rows: list[Any] | None = None) -> list[Any]:
    """Good rows, of which one has other values."""
    made: list[Any] = labelled() if rows is None else list(rows)
    made[at] = {**made[at], **change}
    return made


def read_columns(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
