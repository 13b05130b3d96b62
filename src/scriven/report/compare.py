"""Runs side by side: architecture, settings and results, and which of them may be compared at all.

Reads scriven.json and metrics.jsonl and nothing else; loads no model.
"""

import glob
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from .. import registry
from ..errors import InputError, for_python
from ..format import integer
from ..runs.folder import RUNS, find_run, list_runs
from . import ranking
from .compare_table import ComparedRun, Value, fold, markdown, terminal
from .run_log import CONTROL, RunLog, finite, late_mean, learns_text, read_run_log

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

    rows: list[ComparedRun]
    notes: list[str]  # the footnotes; a row names them by their number, from 1
    ranking: list[dict[str, Any]] = field(default_factory=list)
    """Beside a base model: all of them by bits per byte (`ranking.rank`)."""

    def markdown(self) -> str:
        """As `compare_table.markdown`; a ranking comes first."""
        first = f"{ranking.as_markdown(self.ranking)}\n" if self.ranking else ""
        return first + markdown(self.rows, self.notes)

    def text(self, width: int, bold: bool = False) -> str:
        """As `compare_table.terminal`; a ranking comes last."""
        last = f"\n\n{ranking.as_text(self.ranking)}" if self.ranking else ""
        return terminal(self.rows, self.notes, width, bold) + last

    def data(self) -> dict[str, Any]:
        """Plain JSON values."""
        found = {"runs": [row.data(self.notes) for row in self.rows], "notes": self.notes}
        return found | ({"ranking": self.ranking} if self.ranking else {})


@for_python
def compare(names: Sequence[str], *, fold_seeds: bool = False) -> Comparison:
    """Puts runs, named as for `find_runs`, beside each other.

    fold_seeds: make one row of runs that differ in nothing but their seed.

    Raises:
        InputError: no such run. DamagedError: a record that is not what was written.
    """
    rows = [read_run_row(folder) for folder in find_runs(names)]
    # runs of one name are called by their folders
    titles = [row.name for row in rows]
    for row in rows:
        if titles.count(row.name) > 1:
            row.name = str(row.folder)
    if fold_seeds:
        rows = fold(rows)
    return Comparison(rows, add_notes(rows))


def find_runs(names: Sequence[str]) -> list[Path]:
    """The folders of runs, each once, in the order they were named.

    names: paths, names under runs/, `latest`, patterns such as `bench-book/*`, or folders of runs.

    Raises:
        InputError: nothing of that name, or no run matches a pattern.
    """
    if not names:
        raise InputError("no runs: name some, as in `scriven compare latest`")
    # the resolved path tells a run named twice from two runs
    folders: dict[Path, Path] = {}
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


def read_run_row(folder: Path) -> ComparedRun:
    """Reads a run folder, finished or not.

    Raises:
        InputError: it is no run folder. DamagedError: its metadata is not what was written.
    """
    run = read_run_log(folder)
    task = run.text("task") or "language"
    values = {**_settings(run), **dict.fromkeys(FINETUNE_COLUMNS), **_results(run)}
    if run.finetuned:
        values |= _scores(run)
        # such a run has no loss per token of a text
        values["bits_per_byte"] = values["ngram_loss"] = None
        if learns_text(run):  # the training loss includes the language modelling loss
            values["train_loss"] = None
    # runs are ranked only where dataset and kind of loss are equal
    return ComparedRun(
        name=run.name,
        folder=folder,
        values=values,
        dataset=_dataset(run),
        config=_config(run),
        loss_kind=f"the answers of {task}" if run.finetuned else LOSS_KINDS.get(task, NEXT_TOKEN),
        ranked_by="score" if run.finetuned else "val_loss",
        finished=run.metrics.finished,
        best_step=run.metrics.best_step,
        runs=[folder],
    )


def _settings(run: RunLog) -> dict[str, Value]:
    """The columns that say what a run is."""
    architecture = run.text("architecture")
    optimizer = run.text("settings", "optim", "optimizer") or None
    # an architecture says how it encodes positions, or has learned ones; loads no torch
    positions = None
    if architecture in registry.names("scriven.models"):
        kind = registry.class_attribute("scriven.models", architecture, "Model", "position_kind")
        positions = kind or "learned"
    return {
        "architecture": architecture,
        **{
            name: _count(run, "model", name)
            for name in ("layers", "heads", "d_model", "vocab_size", "context_length")
        },
        "positions": run.text("model", "positions") or positions,
        "dropout": run.number("model", "dropout"),
        "batch_size": _count(run, "settings", "train", "batch_size"),
        "optimizer": optimizer,
        "lr": run.number("settings", "optim", "lr"),
        "muon_lr": run.number("settings", "optim", "muon_lr") if optimizer == "muon" else None,
        "seed": _count(run, "settings", "seed"),
    }


def _results(run: RunLog) -> dict[str, Value]:
    """The columns that say what a run reached."""
    metrics = run.metrics
    # the weights that are kept are those of the best step, not of the last
    best = metrics.best_step
    until = [point for point in run.steps if best is None or point.step <= best]
    return {
        "parameters": _count(run, "results", "parameters"),
        "steps": metrics.steps,
        "train_loss": late_mean(until, "loss"),
        "val_loss": metrics.loss,
        "train_accuracy": late_mean(until, "accuracy"),
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
    score = run.score
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


def _dataset(run: RunLog) -> tuple[Value, ...]:
    """The data of training and evaluation, equal where losses or scores are over the same tokens or
    rows.

    The fingerprint covers text, split and tokenizer. Where the seed draws the documents or rows
    that are held out, it is another for each seed: the data are then known by their size.
    """
    fingerprint = (run.text("data", "fingerprint"),)
    fraction = run.get("settings", "data", "val_fraction")
    if run.finetuned:
        sources = run.get("data", "sources")
        names = [str(each) for each in sources] if isinstance(sources, list) else []
        # a validation file of its own is the same for every seed, and so is a built-in table
        if run.text("finetune", "validation") or not any("." in name for name in names):
            return fingerprint
        parts = [run.number("data", name) or 0.0 for name in ("rows", "validation_rows")]
        return (*(PurePath(name).name for name in names), sum(parts), finite(fraction))
    # a single text is split at its end, the same for every seed
    documents = run.number("data", "documents")
    if documents is None or documents < MANY_DOCUMENTS:
        return fingerprint
    return (
        documents,
        run.number("data", "characters"),
        run.text("settings", "data", "val_fraction"),
        run.text("settings", "tokenizer", "kind"),
        run.number("settings", "tokenizer", "vocab_size"),
    )


def _config(run: RunLog) -> str:
    """Everything that was decided, except the seed: an equal configuration on equal data is one
    more sample of the same recipe."""
    settings = run.get("settings")
    if isinstance(settings, dict):
        settings = {key: value for key, value in settings.items() if key != "seed"}
    parts = [run.text("architecture"), run.text("task"), run.get("model"), settings or {}]
    if run.finetuned:
        parts += [run.text("finetune", "base", name) for name in ("name", "fresh")]
    return repr([*parts, _dataset(run), run.get("user_components")])


def add_notes(rows: Sequence[ComparedRun]) -> list[str]:
    """Marks the best of each group, and gives each row the numbers of its footnotes, returned."""
    # 1. the best of each group of comparable runs; most runs share the usual dataset
    groups: dict[tuple[object, ...], list[ComparedRun]] = {}
    datasets: dict[object, list[ComparedRun]] = {}
    for row in rows:
        row.notes, row.best = [], False
        groups.setdefault((*row.dataset, row.loss_kind), []).append(row)
        datasets.setdefault(row.dataset, []).append(row)
    for group in groups.values():
        _mark_best(group)
    usual = max(datasets.values(), key=len, default=[])
    # 2. footnotes on runs that differ from most: loss, data, state, seeds
    notes: list[str] = []
    one_kind = len({row.loss_kind for row in rows}) == 1
    for row in rows:
        texts = []
        if row.loss_kind != NEXT_TOKEN and not (one_kind and row.ranked_by == "score"):
            texts.append(
                f"the loss is that of {row.loss_kind}: not comparable with losses of {NEXT_TOKEN}"
            )
        if row.dataset != usual[0].dataset:
            texts.append(_other_dataset(row, usual[0]))
        if not row.finished:
            best = "" if row.best_step is None else f"; the best so far, of step {row.best_step:,}"
            texts.append(f"unfinished{best}")
        if len(row.runs) > 1:
            texts.append(
                f"{len(row.runs)} seeds: mean ± half the distance from the lowest to the highest; "
                "a difference smaller than that shows nothing"
            )
        notes += [text for text in texts if text not in notes]
        row.notes = [notes.index(text) + 1 for text in texts]
    return notes


def _other_dataset(row: ComparedRun, usual: ComparedRun) -> str:
    if row.ranked_by == usual.ranked_by == "score":
        return "other rows or another split than most of these runs: the scores are not comparable"
    size, other = (finite(each.values["vocab_size"]) for each in (row, usual))
    sizes = "" if size == other else f" (vocabulary {integer(size)} against {integer(other)})"
    return (
        f"another text, split or tokenizer than most of these runs{sizes}: the losses are not "
        "comparable"
    )


def _mark_best(group: list[ComparedRun]) -> None:
    """Marks the lowest loss or the highest score, where there is something to be better than."""
    measured = [
        (value, row) for row in group if (value := finite(row.values[row.ranked_by])) is not None
    ]
    # an unfinished run may still improve, so it neither wins nor loses
    finished = [pair for pair in measured if pair[1].finished]
    # a single run is not the best of itself
    if len(measured) > 1 and finished:
        sign = -1 if finished[0][1].ranked_by == "score" else 1
        min(finished, key=lambda pair: sign * pair[0])[1].best = True
