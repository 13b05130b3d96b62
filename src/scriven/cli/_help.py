"""Every setting with its default and its help, read off the dataclasses."""

from .. import config, registry
from ..settings import (
    DataSettings,
    FinetuneSettings,
    OptimSettings,
    RuntimeSettings,
    TokenizerSettings,
    TrainSettings,
)

CHOSEN = ("context_length", "layers", "heads", "d_model", "dropout")
"""Fields of every architecture that the plan fills in when nobody asks for a value."""


def shown_default(section: str, name: str, default: object) -> str | None:
    """What a list of settings says of a default; None for what is not the user's to set."""
    if section == "model" and name == "vocab_size":
        return None
    chosen = default is None or (section == "model" and name in CHOSEN)
    return "auto" if chosen else str(default).lower()


def all_settings(architecture: str) -> str:
    """The text of `scriven train --help-all`."""
    model = registry.module("scriven.models", architecture).Config
    sections = {
        "model": model,
        "data": DataSettings,
        "tokenizer": TokenizerSettings,
        "optim": OptimSettings,
        "train": TrainSettings,
        "runtime": RuntimeSettings,
        "finetune": FinetuneSettings,
    }
    lines = [f"architectures: {', '.join(registry.names('scriven.models'))} (--arch)", ""]
    for section, kind in sections.items():
        title = f" of {architecture}" if section == "model" else ""
        title += ", of scriven finetune alone" if section == "finetune" else ""
        lines.append(f"{section}{title}")
        for name, default, help_text in config.describe(kind):
            shown = shown_default(section, name, default)
            if shown is not None:
                lines += [f"  --{section}.{name}={shown}", f"        {help_text}"]
        lines.append("")
    return "\n".join(lines)
