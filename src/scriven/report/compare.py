"""Runs side by side: what each was, what it reached, and which of them may be compared at all.

Reads scriven.json and metrics.jsonl and nothing else; loads no model.
"""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..runs.folder import RUNS, find_run, list_runs
from .compare_fold import fold
from .compare_notes import add_notes
from .compare_row import Row, read_row
from .compare_table import markdown, terminal


@dataclass(frozen=True)
class Comparison:
    """Rows in the order they were asked for, and what must be known to read them."""

    rows: list[Row]
    notes: list[str]
    """The footnotes; a row names them by their number, from 1."""

    def markdown(self) -> str:
        """A Markdown table, one line per run, with its footnotes."""
        return markdown(self.rows, self.notes)

    def text(self, width: int, bold: bool = False) -> str:
        """A table for a terminal of `width` columns; `bold`: it understands escape codes."""
        return terminal(self.rows, self.notes, width, bold)

    def data(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"runs": [row.data(self.notes) for row in self.rows], "notes": self.notes}


def compare(names: Sequence[str], *, fold_seeds: bool = False) -> Comparison:
    """Puts runs beside each other.

    Args:
        names: runs as `find_runs` understands them.
        fold_seeds: make one row of runs that differ in nothing but their seed.

    Raises:
        InputError: no such run. DamagedError: a record that is not what was written.
    """
    rows = [read_row(folder) for folder in find_runs(names)]
    _tell_apart(rows)
    if fold_seeds:
        rows = fold(rows)
    return Comparison(rows, add_notes(rows))


def find_runs(names: Sequence[str]) -> list[Path]:
    """The folders of runs, each once, in the order they were named.

    Args:
        names: paths, names under runs/, `latest`, patterns such as `bench-book/*`, or folders of
            runs.

    Raises:
        InputError: nothing of that name, or no run matches a pattern.
    """
    if not names:
        raise InputError("no runs: name some, as in `scriven compare latest`")
    found: dict[Path, Path] = {}
    for name in names:
        for folder in _find(name):
            found.setdefault(folder.resolve(), folder)
    return list(found.values())


def _find(name: str) -> list[Path]:
    for folder in (RUNS / name, Path(name)):
        inside = list(list_runs(folder).values()) if name else []
        if inside and not (folder / "scriven.json").is_file():
            return inside
    if not glob.has_magic(name):
        return [find_run(name)]
    for pattern in (str(RUNS / name), name):
        paths = [Path(path) for path in sorted(glob.glob(pattern))]
        matches = [path for path in paths if (path / "scriven.json").is_file()]
        if matches:
            return matches
    raise InputError(f"no run matches {name}: `ls runs` shows what there is")


def _tell_apart(rows: list[Row]) -> None:
    """Runs of one name get their folder's instead."""
    names = [row.name for row in rows]
    for row in rows:
        if names.count(row.name) > 1:
            row.name = str(row.folder)
