"""One run as a row of figures. Knows where scriven.json keeps them, and no table."""

from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from . import tuned
from .figures import measure
from .history import History, Moment, finite, read_history

Value = str | float | None

MEASURES = {"masked": "masked tokens, each guessed from both sides (a pseudo-likelihood)"}
"""What the loss of a task means, where it is not the likelihood of the next token."""

NEXT_TOKEN = "the next token"  # noqa: S105

POSITIONS = {
    "gpt1": "learned",
    "gpt2": "learned",
    "gpt3": "learned",
    "llama": "rotary",
    "rnn": "none",
    "roberta": "learned",
    "transformer": "sinusoidal",
    "transformer_xl": "relative",
}
"""Of architectures that have one kind; a `positions` in the model's settings says more."""

MANY_DOCUMENTS = 10
"""From so many documents on, the held-out ones are drawn by the seed (data/split.py)."""


SCORED = ("task", "base", "scored_by", "score", "interval", "baseline", "control")
"""Columns that only fine-tuned runs have."""


@dataclass
class Row:
    """A run, or several that differ in their seed only."""

    name: str
    folder: Path
    values: dict[str, Value]
    """By the names of COLUMNS in compare_table.py; None: not known (yet)."""
    text: tuple[Value, ...]
    """Equal where the losses are over the same tokens."""
    same: str
    """Equal where runs differ in their seed only."""
    measure: str
    finished: bool
    best_step: int | None
    spread: dict[str, float] = field(default_factory=dict)
    """Half the distance between the lowest and the highest seed, by column."""
    runs: list[Path] = field(default_factory=list)
    notes: list[int] = field(default_factory=list)
    """Numbers of the footnotes, from 1."""
    best: bool = False
    """The best of those it may be compared with."""
    judged: str = "val_loss"
    """By which column: the lower the better of a loss, the higher the better of a score."""

    def data(self, notes: list[str]) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.name,
            "runs": [str(path) for path in self.runs],
            **self.values,
            "spread": self.spread,
            "measure": self.measure,
            "finished": self.finished,
            "best_step": self.best_step,
            "best": self.best,
            "notes": [notes[number - 1] for number in self.notes],
        }


def read_row(folder: Path) -> Row:
    """Reads a run folder, finished or not.

    Raises:
        InputError: it is no run folder. DamagedError: its record is not what was written.
    """
    history = read_history(folder)
    figures = measure(history)
    architecture = history.word("architecture")
    values: dict[str, Value] = {
        "architecture": architecture,
        "parameters": _count(history, "results", "parameters"),
        "layers": _count(history, "model", "layers"),
        "heads": _count(history, "model", "heads"),
        "d_model": _count(history, "model", "d_model"),
        "vocab_size": _count(history, "model", "vocab_size"),
        "context_length": _count(history, "model", "context_length"),
        "positions": history.word("model", "positions") or POSITIONS.get(architecture),
        "dropout": history.figure("model", "dropout"),
        "batch_size": _count(history, "settings", "train", "batch_size"),
        "optimizer": history.word("settings", "optim", "optimizer") or None,
        "lr": history.figure("settings", "optim", "lr"),
        "muon_lr": None,
        "seed": _count(history, "settings", "seed"),
        "steps": figures.steps,
        "train_loss": _late(history, figures.best_step, "loss"),
        "val_loss": figures.loss,
        "train_accuracy": _late(history, figures.best_step, "accuracy"),
        "val_accuracy": figures.accuracy,
        "bits_per_byte": figures.bits_per_byte,
        "ngram_loss": figures.baseline or history.figure("baseline", "loss"),
        "tokens": figures.tokens,
        "seconds": figures.seconds,
        "tokens_per_second": figures.tokens_per_second,
    }
    if values["optimizer"] == "muon":
        values["muon_lr"] = history.figure("settings", "optim", "muon_lr")
    task = history.word("task") or "language"
    is_finetuned = tuned.is_finetuned(history)
    values |= _judged(history) if is_finetuned else dict.fromkeys(SCORED)
    if is_finetuned:
        values["bits_per_byte"] = values["ngram_loss"] = None
        if tuned.learns_text(history):  # it holds the loss of the text as well
            values["train_loss"] = None
    return Row(
        name=history.name,
        folder=folder,
        values=values,
        text=_text(history),
        same=_same(history),
        measure=f"the answers of {task}" if is_finetuned else MEASURES.get(task, NEXT_TOKEN),
        judged="score" if is_finetuned else "val_loss",
        finished=figures.finished,
        best_step=figures.best_step,
        runs=[folder],
    )


def _judged(history: History) -> dict[str, Value]:
    """The main score of a fine-tuned run, and what it stands beside."""
    found: dict[str, Value] = dict.fromkeys(SCORED)
    found["task"] = history.word("task")
    base = history.word("finetune", "base", "name")
    fresh = history.pick("finetune", "base", "fresh") is True
    found["base"] = f"none, shaped as {base}" if base and fresh else base or None
    standing = tuned.standing(history)
    if standing is None:
        return found
    found["scored_by"], found["score"] = standing.name, standing.value
    if standing.low is not None and standing.high is not None:
        found["interval"] = f"{standing.show(standing.low)} to {standing.show(standing.high)}"
    trivial = {name: each for name, each in standing.others.items() if name != tuned.CONTROL}
    if trivial:
        name, value = max(trivial.items(), key=lambda pair: pair[1])
        found["baseline"] = f"{standing.show(value)} {name}"
    found["control"] = standing.others.get(tuned.CONTROL)
    return found


def _count(history: History, *path: str) -> int | None:
    value = history.figure(*path)
    return None if value is None else int(value)


def _late(history: History, best_step: int | None, name: str) -> float | None:
    """A figure of training when the kept weights were made: the mean over the last twentieth of
    the lines up to there, as single lines are noisy."""
    until = [each for each in history.steps if best_step is None or each.step <= best_step]
    values = [value for each in until if (value := _figure(each, name)) is not None]
    late = values[-max(1, len(values) // 20) :]
    return sum(late) / len(late) if late else None


def _figure(moment: Moment, name: str) -> float | None:
    return finite(getattr(moment, name))


def _text(history: History) -> tuple[Value, ...]:
    """What was trained on and measured on: the fingerprint covers text, split and tokenizer.

    Where the seed draws the documents that are held out, the fingerprint is another for each seed,
    and the text is known by its size.
    """
    if tuned.is_finetuned(history):
        return _table(history)
    documents = history.figure("data", "documents")
    if documents is None or documents < MANY_DOCUMENTS:
        return (history.word("data", "fingerprint"),)
    return (
        documents,
        history.figure("data", "characters"),
        history.word("settings", "data", "val_fraction"),
        history.word("settings", "tokenizer", "kind"),
        history.figure("settings", "tokenizer", "vocab_size"),
    )


def _table(history: History) -> tuple[Value, ...]:
    """Which rows a fine-tuned run is scored on. Where the seed draws those that are held out, the
    fingerprint is another for each seed, and the table is known by its name and its size."""
    held = history.word("finetune", "validation")
    sources = history.pick("data", "sources")
    names = [str(each) for each in sources] if isinstance(sources, list) else []
    drawn = not held and any("." in name for name in names)
    if not drawn:
        return (history.word("data", "fingerprint"),)
    parts = [history.figure("data", name) or 0.0 for name in ("rows", "validation_rows")]
    share = history.figure("settings", "data", "val_fraction")
    return (*(PurePath(name).name for name in names), sum(parts), share)


def _same(history: History) -> str:
    """Everything that was decided, but the seed."""
    settings = history.pick("settings")
    kept = {key: value for key, value in settings.items() if key != "seed"} if settings else {}
    parts = [history.word("architecture"), history.word("task"), history.pick("model"), kept]
    if tuned.is_finetuned(history):
        parts += [history.word("finetune", "base", name) for name in ("name", "fresh")]
    return repr([*parts, _text(history), history.pick("own")])
