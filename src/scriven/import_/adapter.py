"""An adapter folder of PEFT as a model: the base that it names, with the adapter added to it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import registry
from ..errors import InputError
from ..files import printable
from ..manifest import read_file
from ..nn.lora import merge_lora
from ..runs.load import Loaded
from ..runs.peft import CONFIG, attach_adapter, read_adapter
from .hub import PREFIX


def is_adapter(path: Path) -> bool:
    """Whether a folder holds an adapter, and no model."""
    return (path / CONFIG).is_file() and not (path / "config.json").exists()


def named_base(path: Path) -> tuple[str, str | None]:
    """(name, revision) of the base model that an adapter folder names.

    Raises:
        InputError: it names none.
    """
    where = printable(path / CONFIG)
    try:
        content: Any = json.loads(bytes(read_file(path / CONFIG, 1 << 20)))
        base, revision = content["base_model_name_or_path"], content.get("revision")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where} names no base_model_name_or_path: write it there") from error
    if not isinstance(base, str) or not base or not isinstance(revision, str | None):
        raise InputError(f"{where} names no base_model_name_or_path: write it there")
    return base, revision


def places(path: Path) -> Iterator[str]:
    """Where the base of an adapter may be, by the names that `open_base` understands; of the hub
    only what is in its cache."""
    base, revision = named_base(path)
    for place in (path / base, path.parent / base, Path(base)):
        if place.exists():
            yield str(place)
    yield base
    if base.count("/") == 1:
        yield f"{PREFIX}{base}" + (f"@{revision}" if revision else "")


def without_base(path: Path) -> InputError:
    """The error for an adapter whose base cannot be found."""
    base, _ = named_base(path)
    hint = f", as with `scriven import hf:{base}`" if base.count("/") == 1 else ""
    return InputError(
        f"{printable(path)} is an adapter for {printable(base)[:200]}, which is not here: get that "
        f"model{hint}, or correct base_model_name_or_path in its {CONFIG}"
    )


def add_adapter(base: Loaded, path: Path) -> Loaded:
    """A model with the adapter of a folder merged into its weights.

    Raises:
        InputError: the adapter belongs to another model. DamagedError: a file is broken.
    """
    stored = read_adapter(path)
    module = registry.module("scriven.models", base.architecture)
    task, kind = base.task, base.metadata["task"]
    attach_adapter(task, stored, module, task.backbone.config, kind=kind)
    merge_lora(task)
    metadata = {**base.metadata, "name": path.resolve().name}
    return Loaded(path, metadata, task.eval(), base.tokenizer, base.architecture, base.warnings)
