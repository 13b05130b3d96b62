"""Rows of runs, folded over seeds, as tables: on a terminal of any width, and in Markdown."""

import os.path
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size

from ..files import printable
from ..format import ABSENT, compact, decimal, duration, integer, percent

Value = str | float | None
Show = Callable[[float | None], str]


@dataclass
class ComparedRun:
    """A run, or several that differ in their seed only."""

    name: str
    folder: Path
    values: dict[str, Value]  # by the keys of COLUMNS; None: not known (yet)
    dataset: tuple[Value, ...]  # equal where the losses are over the same tokens
    config: str  # equal where runs differ in their seed only
    loss_kind: str
    finished: bool
    best_step: int | None
    spread: dict[str, float] = field(default_factory=dict)
    """Half the distance between the lowest and the highest seed, by column."""
    runs: list[Path] = field(default_factory=list)
    notes: list[int] = field(default_factory=list)  # numbers of the footnotes, from 1
    best: bool = False  # the best of those it may be compared with
    ranked_by: str = "val_loss"
    """By which column: the lower the better of a loss, the higher the better of a score."""

    def data(self, notes: list[str]) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.name,
            "runs": [str(path) for path in self.runs],
            **self.values,
            "spread": self.spread,
            "measure": self.loss_kind,
            "finished": self.finished,
            "best_step": self.best_step,
            "best": self.best,
            "notes": [notes[number - 1] for number in self.notes],
        }


@dataclass(frozen=True)
class TableColumn:
    """One property of each run."""

    key: str
    title: str
    show: Show = integer  # how a number is written; text stands as it is
    result: bool = False
    """Whether it is a result; the others are settings, equal in all runs that are folded."""


def _loss(value: float | None) -> str:
    return decimal(value, 4)


def _plain(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.3g}"


COLUMNS = (
    TableColumn("architecture", "architecture"),
    TableColumn("parameters", "parameters"),
    TableColumn("layers", "layers"),
    TableColumn("heads", "heads"),
    TableColumn("d_model", "d_model"),
    TableColumn("vocab_size", "vocab_size"),
    TableColumn("context_length", "context_length"),
    TableColumn("positions", "positions"),
    TableColumn("dropout", "dropout", _plain),
    TableColumn("batch_size", "batch size"),
    TableColumn("optimizer", "optimizer"),
    TableColumn("lr", "learning rate", _plain),
    TableColumn("muon_lr", "Muon learning rate", _plain),
    TableColumn("seed", "seed"),
    TableColumn("steps", "steps", result=True),
    TableColumn("tokens", "tokens read", compact, result=True),
    TableColumn("task", "task"),
    TableColumn("base", "base model"),
    TableColumn("scored_by", "scored by"),
    TableColumn("score", "score", decimal, result=True),
    TableColumn("interval", "95 % interval"),
    TableColumn("baseline", "best baseline"),
    TableColumn("control", "no pre-training", decimal, result=True),
    TableColumn("train_loss", "train loss", _loss, result=True),
    TableColumn("val_loss", "val loss", _loss, result=True),
    TableColumn("train_accuracy", "train accuracy", percent, result=True),
    TableColumn("val_accuracy", "val accuracy", percent, result=True),
    TableColumn("bits_per_byte", "bits per byte", _loss, result=True),
    TableColumn("ngram_loss", "n-gram loss", _loss, result=True),
    TableColumn("seconds", "time", duration, result=True),
    TableColumn("tokens_per_second", "tokens/s", compact, result=True),
)

# What the mark of the best run means, by the column that runs are ranked by.
LEGEND = {
    "val_loss": "the lowest validation loss among runs that may be compared",
    "score": "the highest score among runs that may be compared",
}

FEW = 4  # runs that stand side by side as columns where there is room
LONGEST = 28  # columns of a terminal for a run's name
GAP = "  "


def fold(rows: list[ComparedRun]) -> list[ComparedRun]:
    """One row for each set of finished runs that differ in their seed only, where the first stood.

    The spread is half the distance between the lowest and the highest: with the two or three
    seeds that people run, a standard deviation would promise more than they can tell.
    """
    sets: dict[str, list[ComparedRun]] = {}
    for row in rows:
        # an unfinished run is not one more sample of what a finished one reaches
        key = row.config if row.finished else f"{row.config} {row.folder}"
        sets.setdefault(key, []).append(row)
    return [_folded(each) if len(each) > 1 else each[0] for each in sets.values()]


def _folded(rows: list[ComparedRun]) -> ComparedRun:
    # 1. the mean and the spread of each result, unless a seed lacks it
    values: dict[str, Value] = dict(rows[0].values)
    spread: dict[str, float] = {}
    for key in (column.key for column in COLUMNS if column.result):
        numbers = [v for row in rows if isinstance(v := row.values[key], (int, float))]
        values[key] = None
        if len(numbers) == len(rows):
            values[key] = sum(numbers) / len(numbers)
            spread[key] = (max(numbers) - min(numbers)) / 2
    # an interval and a baseline belong to one seed; there is no mean of them
    values |= {"interval": None, "baseline": None, "seed": f"{len(rows)} seeds"}
    # 2. what the names begin with, without the number of the seed: gpt2 for gpt2-0 and gpt2-1
    common = os.path.commonprefix([row.name for row in rows])  # noqa: RUF071  # no paths
    return replace(
        rows[0],
        name=common.rstrip("0123456789").rstrip("-_. ") or rows[0].name,
        values=values,
        spread=spread,
        best_step=None,
        runs=[path for row in rows for path in row.runs],
    )


def cell(row: ComparedRun, column: TableColumn) -> str:
    """A value as people write it, with the spread of its seeds."""
    value: Value = row.values[column.key]
    if isinstance(value, str):
        return printable(value)
    text = column.show(value)
    spread = row.spread.get(column.key)
    if not spread:
        return text
    # 50.0 ± 0.4 %, not 50.0 % ± 0.4 %
    number, unit = _cut(text)
    half, same = _cut(column.show(spread))
    return f"{number} ± {half}{unit}" if unit == same else f"{text} ± {half}{same}"


def _cut(text: str) -> tuple[str, str]:
    """A number and its unit, if it has exactly one: 3 min 12 s stays whole."""
    number, space, unit = text.partition("\u00a0")
    return (number, space + unit) if " " not in text and "\u00a0" not in unit else (text, "")


def _known_columns(rows: Sequence[ComparedRun]) -> list[TableColumn]:
    """The columns that at least one run has a value for."""
    return [each for each in COLUMNS if any(row.values[each.key] is not None for row in rows)]


def _legend(rows: Sequence[ComparedRun]) -> str:
    """What a mark means, for those that are there."""
    ranked = {row.ranked_by for row in rows if row.best}
    return ", ".join(text for key, text in LEGEND.items() if key in ranked)


def markdown(rows: Sequence[ComparedRun], notes: Sequence[str]) -> str:
    """One line per run, every column, the best loss in bold."""
    columns = _known_columns(rows)
    lines = [
        "| run | " + " | ".join(each.title for each in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for row in rows:
        numbers = f" <sup>{','.join(map(str, row.notes))}</sup>" if row.notes else ""
        cells = [_escape(printable(row.name)) + numbers]
        for each in columns:
            text = _escape(cell(row, each))
            cells.append(f"**{text}**" if row.best and each.key == row.ranked_by else text)
        lines.append("| " + " | ".join(cells) + " |")
    if legend := _legend(rows):
        lines += ["", f"Bold: {legend}."]
    lines += [f"\n<sup>{number}</sup> {_escape(text)}" for number, text in enumerate(notes, 1)]
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    for sign in "\\|<>*_`[]":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", " ")


def terminal(rows: Sequence[ComparedRun], notes: Sequence[str], width: int, bold: bool) -> str:
    """A few runs as columns; many as lines, if what differs between them fits.

    Args:
        width: columns of the terminal.
        bold: the terminal understands escape codes.
    """
    columns, lines = _known_columns(rows), []
    # 1. with many runs, what is equal is said once above the table
    if len(rows) > FEW:
        settings = [each for each in columns if not each.result]
        equal = [each for each in settings if len({cell(row, each) for row in rows}) == 1]
        columns = [each for each in columns if each not in equal]
        if equal:
            same = " · ".join(f"{each.title} {cell(rows[0], each)}" for each in equal)
            lines += [*_wrap(f"all: {same}", width), ""]
    # 2. the table with runs as columns; the best of each group is marked, and bold if possible
    table = [["", *(_title(row) for row in rows)]]
    strong: set[tuple[int, int]] = set()  # (line, run)
    for at, column in enumerate(columns, 1):
        best = [row.best and column.key == row.ranked_by for row in rows]
        cells = [cell(row, column) + " *" * mark for row, mark in zip(rows, best, strict=True)]
        table.append([column.title, *cells])
        strong |= {(at, run) for run, mark in enumerate(best, 1) if mark and bold}
    # 3. many runs as lines if they fit, else as columns in blocks
    lying = [list(line) for line in zip(*table, strict=True)]
    if len(rows) > FEW and sum(_widths(lying)) + len(GAP) * len(columns) <= width:
        lines += _aligned(lying, {(run, at) for at, run in strong})
    else:
        for block in _blocks(table, width):
            part = [[line[0], *(line[run] for run in block)] for line in table]
            marks = {(at, block.index(run) + 1) for at, run in strong if run in block}
            lines += [*_aligned(part, marks), ""]
        lines.pop()
    # 4. the legend and the footnotes below
    legend = _legend(rows)
    under = [f"* {legend}"] if legend else []
    under += [f"[{number}] {printable(text)}" for number, text in enumerate(notes, 1)]
    if under:
        lines += ["", *(line for text in under for line in _wrap(text, width))]
    return "\n".join(lines)


def _title(row: ComparedRun) -> str:
    marks = f" [{','.join(map(str, row.notes))}]" if row.notes else ""
    name = printable(row.name)
    # wide characters take two cells of a terminal, and the end of a name tells runs apart
    while cell_len(name) > LONGEST:
        name = "…" + name.lstrip("…")[1:]
    return name + marks


def _widths(table: Sequence[Sequence[str]]) -> list[int]:
    return [max(cell_len(each) for each in column) for column in zip(*table, strict=True)]


def _blocks(table: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """Which runs stand side by side, so that no line is wider than the terminal."""
    sizes = _widths(table)
    blocks: list[list[int]] = [[]]
    used = sizes[0]
    for place, size in enumerate(sizes[1:], 1):
        if blocks[-1] and used + len(GAP) + size > width:
            blocks.append([])
            used = sizes[0]
        blocks[-1].append(place)
        used += len(GAP) + size
    return blocks


def _aligned(table: Sequence[Sequence[str]], strong: set[tuple[int, int]]) -> list[str]:
    """Lines with the first column to the left and the others to the right."""
    widths = _widths(table)
    lines = []
    for at, line in enumerate(table):
        cells = [set_cell_size(line[0], widths[0])]
        for n, text in enumerate(line[1:], 1):
            # escape codes take no cells, so the padding comes before them
            space = " " * (widths[n] - cell_len(text))
            cells.append(space + (f"\x1b[1m{text}\x1b[0m" if (at, n) in strong else text))
        lines.append(GAP.join(cells).rstrip())
    return lines


def _wrap(text: str, width: int) -> list[str]:
    """A sentence in lines of at most `width` columns; later ones are set in a little."""
    return textwrap.wrap(
        text, max(20, width), subsequent_indent="    ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
