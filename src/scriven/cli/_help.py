"""Every setting with its default and its help, read off the dataclasses."""

from .. import config, find
from ..settings import (
    DataSettings,
    OptimSettings,
    RuntimeSettings,
    TokenizerSettings,
    TrainSettings,
    TuneSettings,
)

CHOSEN = ("context", "layers", "heads", "width", "dropout")
"""Fields of every architecture that the plan fills in when nobody asks for a value."""


def shown_default(section: str, name: str, default: object) -> str | None:
    """What a list of settings says of a default; None for what is not the user's to set."""
    if section == "model" and name == "vocabulary":
        return None
    chosen = default is None or (section == "model" and name in CHOSEN)
    return "auto" if chosen else str(default).lower()


def all_settings(architecture: str) -> str:
    """The text of `scriven train --help-all`."""
    model = find.module("scriven.models", architecture).Config
    sections = {
        "model": model,
        "data": DataSettings,
        "tokenizer": TokenizerSettings,
        "optim": OptimSettings,
        "train": TrainSettings,
        "runtime": RuntimeSettings,
        "tune": TuneSettings,
    }
    lines = [f"architectures: {', '.join(find.names('scriven.models'))} (--arch)", ""]
    for section, kind in sections.items():
        title = f" of {architecture}" if section == "model" else ""
        title += ", of scriven finetune alone" if section == "tune" else ""
        lines.append(f"{section}{title}")
        for name, default, help_text in config.describe(kind):
            shown = shown_default(section, name, default)
            if shown is not None:
                lines += [f"  --{section}.{name}={shown}", f"        {help_text}"]
        lines.append("")
    return "\n".join(lines)
