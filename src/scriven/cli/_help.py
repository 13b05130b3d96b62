"""The text of `scriven train --help-all`: every setting with its default and its help."""

import typing

from .. import config, registry
from ..settings import Settings

AUTO = ("context_length", "layers", "heads", "d_model", "dropout")
"""Fields of every architecture that are chosen for the text and the machine."""


def shown_default(section: str, name: str, default: object) -> str | None:
    """The default as lists of settings show it; None for what the user does not set."""
    if section == "model" and name == "vocab_size":
        return None  # the tokenizer decides it
    auto = default is None or (section == "model" and name in AUTO)
    return "auto" if auto else str(default).lower()


def all_settings(architecture: str) -> str:
    """The settings of an architecture and of every other section, as text."""
    model = registry.module("scriven.models", architecture).Config
    titles = {"model": f" of {architecture}", "finetune": ", of scriven finetune alone"}
    lines = [f"architectures: {', '.join(registry.names('scriven.models'))} (--arch)", ""]
    for section, kind in {"model": model, **typing.get_type_hints(Settings)}.items():
        lines.append(f"{section}{titles.get(section, '')}")
        for name, default, help_text in config.describe(kind):
            shown = shown_default(section, name, default)
            if shown is not None:
                lines += [f"  --{section}.{name}={shown}", f"        {help_text}"]
        lines.append("")
    return "\n".join(lines)
