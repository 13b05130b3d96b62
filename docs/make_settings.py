"""Writes docs/settings.md out of the dataclasses: `python docs/make_settings.py`.

A test compares the file with what this makes, so the page cannot fall behind the code.
"""

from pathlib import Path

from scriven import config, registry
from scriven.cli._help import shown_default
from scriven.settings import (
    DataSettings,
    FinetuneSettings,
    OptimSettings,
    RuntimeSettings,
    TokenizerSettings,
    TrainSettings,
)

PAGE = Path(__file__).with_name("settings.md")

HEAD = """# Settings

Each is given as `--section.key=value` on the command line, as `{"section.key": value}` in Python,
or as `key = value` under `[section]` in a preset. *auto* is chosen for the text and the machine;
`scriven train FILE --explain` says what and why.

This page is made by `python docs/make_settings.py`.
"""

SECTIONS = {
    "data": DataSettings,
    "tokenizer": TokenizerSettings,
    "optim": OptimSettings,
    "train": TrainSettings,
    "runtime": RuntimeSettings,
}

TUNE = """What of a trained model `scriven finetune` changes. It has other defaults than
`scriven train` for some of the settings above
([finetuning.md](finetuning.md#what-is-chosen-for-you)).
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for architecture in registry.names("scriven.models"):
        kind = registry.module("scriven.models", architecture).Config
        parts.append(section(f"model, with `--arch {architecture}`", "model", kind))
    parts += [section(name, name, kind) for name, kind in SECTIONS.items()]
    head, _, rows = section(
        "finetune, of `scriven finetune`", "finetune", FinetuneSettings
    ).partition("\n\n")
    parts.append(f"{head}\n\n{TUNE}\n{rows}")
    return "\n".join(parts)


def section(title: str, name: str, kind: type) -> str:
    """A heading and a table with one row per field."""
    lines = [f"## {title}", "", "| setting | default | |", "|---|---|---|"]
    for field, default, text in config.describe(kind):
        shown = shown_default(name, field, default)
        if shown is not None:
            lines.append(f"| `{name}.{field}` | {shown} | {text} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
