"""Writes docs/settings.md out of the dataclasses: `python docs/make_settings.py`.

A test compares the file with what this makes, so the page cannot fall behind the code.
"""

import typing
from collections.abc import Sequence
from pathlib import Path

from scriven import config, registry
from scriven.cli._help import shown_default
from scriven.settings import Settings

PAGE = Path(__file__).with_name("settings.md")

HEAD = """# Settings

A setting is given in one of these ways; a later one overrides the ones before it:

| where | how |
|---|---|
| a preset (`--preset NAME` or `--preset FILE.toml`) | `key = value` under `[section]` |
| `scriven.toml` in the current folder, or `--config FILE.toml` | the same |
| the environment | `SCRIVEN_SECTION_KEY=value`, as in `SCRIVEN_OPTIM_LR=1e-3` |
| the command line | `--section.key=value` |
| Python | `settings={"section.key": value}` |

*auto* is chosen for the text and the machine; `scriven train FILE --explain` says what and why.
Above its sections, a TOML file may also name the flags `arch`, `budget`, `preset`, `seed` and
`size`; in the environment they are `SCRIVEN_BUDGET` and so on. `scriven finetune` takes only
`seed`, `data`, `runtime` and `finetune` from a file or the environment, since the rest is meant
for training from scratch; commands that only use a model take only `data`, or nothing.

This page is made by `python docs/make_settings.py`.
"""

SECTIONS = typing.get_type_hints(Settings)

FINETUNE = """What of a trained model `scriven finetune` changes. It has other defaults than
`scriven train` for some of the settings above
([finetuning.md](finetuning.md#defaults)).
"""


def page(architectures: Sequence[str]) -> str:
    """The whole page, with the settings of these architectures."""
    parts = [HEAD]
    for architecture in architectures:
        kind = registry.module("scriven.models", architecture).Config
        parts.append(section(f"model, with `--arch {architecture}`", "model", kind))
    kinds = dict(SECTIONS)
    finetune = section("finetune, of `scriven finetune`", "finetune", kinds.pop("finetune"))
    parts += [section(name, name, kind) for name, kind in kinds.items()]
    head, _, rows = finetune.partition("\n\n")
    parts.append(f"{head}\n\n{FINETUNE}\n{rows}")
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
    PAGE.write_text(page(registry.names("scriven.models")), encoding="utf-8")
