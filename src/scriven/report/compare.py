"""Runs side by side: architecture, settings and results, and which of them may be compared at all.

Reads scriven.json and metrics.jsonl and nothing else; loads no model.
"""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from .. import registry
from ..errors import InputError
from ..format import integer
from ..runs.folder import RUNS, find_run, list_runs
from .compare_table import Row, Value, fold, markdown, terminal
from .finetune_section import CONTROL, is_finetuned, learns_text, main_score
from .run_log import RunLog, finite, key_metrics, read_run_log

# What the loss of a task means, where it is not the likelihood of the next token.
LOSS_KINDS = {"masked": "masked tokens, each guessed from both sides (a pseudo-likelihood)"}

NEXT_TOKEN = "the next token"  # noqa: S105

# From so many documents on, the held-out ones are drawn by the seed (data/split.py).
MANY_DOCUMENTS = 10

# Columns that only fine-tuned runs have.
FINETUNE_COLUMNS = ("task", "base", "scored_by", "score", "interval", "baseline", "control")


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
    rows = [read_run_row(folder) for folder in find_runs(names)]
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
    folders: dict[Path, Path] = {}
    # the resolved path tells a run named twice from two runs
    for name in names:
        for folder in _find(name):
            folders.setdefault(folder.resolve(), folder)
    return list(folders.values())


def _find(name: str) -> list[Path]:
    for folder in (RUNS / name, Path(name)):
        # 1. a folder of runs means all of them
        inside = list(list_runs(folder).values()) if name else []
        if inside and not (folder / "scriven.json").is_file():
            return inside
    # 2. a single run
    if not glob.has_magic(name):
        return [find_run(name)]
    # 3. a pattern, under runs/ first
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


def read_run_row(folder: Path) -> Row:
    """Reads a run folder, finished or not.

    Raises:
        InputError: it is no run folder. DamagedError: its metadata is not what was written.
    """
    run = read_run_log(folder)
    finetuned, task = is_finetuned(run), run.text("task") or "language"
    values = {**_settings(run), **dict.fromkeys(FINETUNE_COLUMNS), **_results(run)}
    if finetuned:
        values |= _scores(run)
        values["bits_per_byte"] = values["ngram_loss"] = None
        if learns_text(run):  # the training loss includes the language modelling loss
            values["train_loss"] = None
    # runs are ranked only where dataset and kind of loss are equal
    metrics = key_metrics(run)
    return Row(
        name=run.name,
        folder=folder,
        values=values,
        dataset=_dataset(run),
        config=_config(run),
        loss_kind=f"the answers of {task}" if finetuned else LOSS_KINDS.get(task, NEXT_TOKEN),
        ranked_by="score" if finetuned else "val_loss",
        finished=metrics.finished,
        best_step=metrics.best_step,
        runs=[folder],
    )


def _settings(run: RunLog) -> dict[str, Value]:
    """The columns that say what a run is."""
    architecture = run.text("architecture")
    optimizer = run.text("settings", "optim", "optimizer") or None
    return {
        "architecture": architecture,
        **{
            name: _count(run, "model", name)
            for name in ("layers", "heads", "d_model", "vocab_size", "context_length")
        },
        "positions": run.text("model", "positions") or _position_kind(architecture),
        "dropout": run.number("model", "dropout"),
        "batch_size": _count(run, "settings", "train", "batch_size"),
        "optimizer": optimizer,
        "lr": run.number("settings", "optim", "lr"),
        "muon_lr": run.number("settings", "optim", "muon_lr") if optimizer == "muon" else None,
        "seed": _count(run, "settings", "seed"),
    }


def _position_kind(architecture: str) -> str | None:
    """How an architecture encodes positions, `learned` where it says nothing; loads no torch."""
    if architecture not in registry.names("scriven.models"):
        return None
    kind = registry.class_attribute("scriven.models", architecture, "Model", "position_kind")
    return kind or "learned"


def _results(run: RunLog) -> dict[str, Value]:
    """The columns that say what a run reached."""
    metrics = key_metrics(run)
    return {
        "parameters": _count(run, "results", "parameters"),
        "steps": metrics.steps,
        "train_loss": _late_mean(run, metrics.best_step, "loss"),
        "val_loss": metrics.loss,
        "train_accuracy": _late_mean(run, metrics.best_step, "accuracy"),
        "val_accuracy": metrics.accuracy,
        "bits_per_byte": metrics.bits_per_byte,
        "ngram_loss": metrics.ngram_loss or run.number("baseline", "loss"),
        "tokens": metrics.tokens,
        "seconds": metrics.seconds,
        "tokens_per_second": metrics.tokens_per_second,
    }


def _scores(run: RunLog) -> dict[str, Value]:
    """The main score of a fine-tuned run, its base model, baseline and control."""
    base = run.text("finetune", "base", "name")
    fresh = run.get("finetune", "base", "fresh") is True
    values: dict[str, Value] = {
        "task": run.text("task"),
        "base": f"none, shaped as {base}" if base and fresh else base or None,
    }
    score = main_score(run)
    if score is None:
        return values
    baseline = score.best_baseline()
    return values | {
        "scored_by": score.name,
        "score": score.value,
        "interval": score.interval or None,
        "baseline": f"{score.show(baseline[1])} {baseline[0]}" if baseline else None,
        "control": score.references.get(CONTROL),
    }


def _count(run: RunLog, *path: str) -> int | None:
    value = run.number(*path)
    return None if value is None else int(value)


def _late_mean(run: RunLog, best_step: int | None, name: str) -> float | None:
    """A training metric when the best weights were saved: the mean over the last 5 % of the lines
    up to there, as single lines are noisy."""
    # the weights that are kept are those of the best step, not of the last
    until = [each for each in run.steps if best_step is None or each.step <= best_step]
    values = [value for each in until if (value := finite(getattr(each, name))) is not None]
    late = values[-max(1, len(values) // 20) :]
    return sum(late) / len(late) if late else None


def _dataset(run: RunLog) -> tuple[Value, ...]:
    """The data of training and evaluation: the fingerprint covers text, split and tokenizer.

    Where the seed draws the documents that are held out, the fingerprint is another for each seed,
    and the text is known by its size.
    """
    if is_finetuned(run):
        return _table(run)
    # a single text is split at its end, so the fingerprint is the same for every seed
    documents = run.number("data", "documents")
    if documents is None or documents < MANY_DOCUMENTS:
        return (run.text("data", "fingerprint"),)
    return (
        documents,
        run.number("data", "characters"),
        run.text("settings", "data", "val_fraction"),
        run.text("settings", "tokenizer", "kind"),
        run.number("settings", "tokenizer", "vocab_size"),
    )


def _table(run: RunLog) -> tuple[Value, ...]:
    """Which rows a fine-tuned run is scored on. Where the seed draws those that are held out, the
    fingerprint is another for each seed, and the table is known by its name and its size."""
    # a validation file of its own is the same for every seed
    held = run.text("finetune", "validation")
    sources = run.get("data", "sources")
    names = [str(each) for each in sources] if isinstance(sources, list) else []
    drawn = not held and any("." in name for name in names)
    if not drawn:
        return (run.text("data", "fingerprint"),)
    parts = [run.number("data", name) or 0.0 for name in ("rows", "validation_rows")]
    fraction = run.number("settings", "data", "val_fraction")
    return (*(PurePath(name).name for name in names), sum(parts), fraction)


def _config(run: RunLog) -> str:
    """Everything that was decided, except the seed."""
    # an equal configuration on equal data is one more sample of the same recipe
    settings = run.get("settings")
    kept = {key: value for key, value in settings.items() if key != "seed"} if settings else {}
    parts = [run.text("architecture"), run.text("task"), run.get("model"), kept]
    if is_finetuned(run):
        parts += [run.text("finetune", "base", name) for name in ("name", "fresh")]
    return repr([*parts, _dataset(run), run.get("own")])


def add_notes(rows: Sequence[Row]) -> list[str]:
    """Gives each row the numbers of its footnotes and marks the best of each group.

    Returns:
        The footnotes, in the order of their numbers.
    """
    notes: list[str] = []
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        row.notes, row.best = [], False
        groups.setdefault((*row.dataset, row.loss_kind), []).append(row)
    # 1. the best of each group of comparable runs
    usual = _usual(groups)
    for group in groups.values():
        _mark_best(group)
    # 2. footnotes on runs that differ from most: loss, data, state, seeds
    for row in rows:
        alone = row.ranked_by == "score" and len({each.loss_kind for each in rows}) == 1
        if row.loss_kind != NEXT_TOKEN and not alone:
            text = (
                f"the loss is that of {row.loss_kind}: not comparable with losses of {NEXT_TOKEN}"
            )
            _note(row, text, notes)
        if usual is not None and row.dataset != usual.dataset:
            _note(row, _other_text(row, usual), notes)
        if not row.finished:
            step = "" if row.best_step is None else f"; the best so far, of step {row.best_step:,}"
            _note(row, f"unfinished{step}", notes)
        if len(row.runs) > 1:
            text = (
                f"{len(row.runs)} seeds: mean ± half the distance from the lowest to the highest; "
                "a difference smaller than that shows nothing"
            )
            _note(row, text, notes)
    return notes


def _usual(groups: dict[tuple[object, ...], list[Row]]) -> Row | None:
    """A row of the text most runs share, the first of equals."""
    texts: dict[object, list[Row]] = {}
    for group in groups.values():
        texts.setdefault(group[0].dataset, []).extend(group)
    largest = max(texts.values(), key=len, default=[])
    return largest[0] if largest else None


def _other_text(row: Row, usual: Row) -> str:
    if row.ranked_by == usual.ranked_by == "score":
        return "other rows or another split than most of these runs: the scores are not comparable"
    size, other = (_number(each.values["vocab_size"]) for each in (row, usual))
    sizes = "" if size == other else f" (vocabulary {integer(size)} against {integer(other)})"
    return (
        f"another text, split or tokenizer than most of these runs{sizes}: the losses are not "
        "comparable"
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _mark_best(group: list[Row]) -> None:
    """The lowest loss or the highest score, where there is something to be better than."""
    # a single run is not the best of itself
    measured = [
        (figure, row) for row in group if (figure := _number(row.values[row.ranked_by])) is not None
    ]
    if len(measured) < 2:
        return
    # an unfinished run may still improve, so it neither wins nor loses
    finished = [pair for pair in measured if pair[1].finished]
    if finished:
        sign = -1 if finished[0][1].ranked_by == "score" else 1
        min(finished, key=lambda pair: sign * pair[0])[1].best = True


def _note(row: Row, text: str, notes: list[str]) -> None:
    if text not in notes:
        notes.append(text)
    row.notes.append(notes.index(text) + 1)
