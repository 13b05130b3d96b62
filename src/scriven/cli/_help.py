"""Every setting with its default and its help, read off the dataclasses."""

from .. import config, find
from ..settings import (
    DataSettings,
    OptimSettings,
    RuntimeSettings,
    TokenizerSettings,
    TrainSettings,
)


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
    }
    lines = [f"architectures: {', '.join(find.names('scriven.models'))} (--arch)", ""]
    for section, kind in sections.items():
        title = f" of {architecture}" if section == "model" else ""
        lines.append(f"{section}{title}")
        for name, default, help_text in config.describe(kind):
            shown = "auto" if default is None else default
            lines.append(f"  --{section}.{name}={shown}")
            lines.append(f"        {help_text}")
        lines.append("")
    return "\n".join(lines)
