"""What a person asks of a fine-tuning, and the command that asks it again."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Tuning:
    """What was asked for; None and missing settings are chosen."""

    base: str
    """The run to start from: a path, a name under runs/, or latest."""
    sources: Sequence[str]
    task: str | None = None
    columns: str = ""
    """Which column is which, as in text=review,label=stars."""
    validation: str | None = None
    """A table to measure on, instead of rows held out."""
    budget: str | None = None
    out: str | None = None
    seed: int | None = None
    arch: str | None = None
    fresh: bool = False
    """Start from fresh weights: the same model without its pre-training."""
    control: bool = False
    """Whether that is made as well, after this; for the command that goes on."""
    again: str | None = None
    """The command that does this again, where it is part of another one."""
    quiet: bool = False
    settings: Mapping[str, object] = field(default_factory=dict)
    began: float | None = None


def command(asked: Tuning) -> str:
    """The command that does this again."""
    if asked.again is not None:
        return asked.again
    parts = ["scriven", "finetune", asked.base, *asked.sources]
    for name in ("task", "columns", "validation", "budget", "out", "seed", "arch"):
        value = getattr(asked, name)
        if value not in (None, ""):
            parts += [f"--{name}", str(value)]
    if asked.control:
        parts.append("--control")
    parts += [f"--{name}={value}" for name, value in asked.settings.items()]
    return shlex.join(parts)
