"""Parameters, FLOPs and memory of a run or a preset, counted on a model that takes no memory."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from . import config, registry
from .errors import InputError
from .import_.base import is_run, open_foreign
from .models.shared.cost import build_empty, cache_bytes, flops_per_token, parameters_by_part
from .runs.folder import find_run
from .runs.metadata import read_run_metadata
from .train.request import read_named_preset
from .train.scaling_laws import SIZES, training_bytes

TOKENS_PER_BATCH = 2048
VOCABULARY = 323
"""Vocabulary size of a preset that names none: a char tokenizer of tiny Shakespeare, with its 65
characters, 256 bytes and 2 special tokens."""


def inspect(
    target: str, *, arch: str | None = None, settings: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """Parameters by part, FLOPs per token and memory, counted exactly without building the model.

    Args:
        target: a run, a preset's name or file, a size, or an architecture.
        arch: the architecture, where the target names none.
        settings: changes to the model, as in {"model.layers": 12}.

    Raises:
        InputError: nothing of that name.
    """
    # 1. the configuration: what the target names, then the caller's changes
    architecture, fields, finetuned = _find(target, arch)
    changes = config.sections(settings or {})
    others = [name for name in changes if name != "model"]
    if others:
        raise config.unknown(f"--{others[0]}.{next(iter(changes[others[0]]))}", ["--model."])
    module = registry.module("scriven.models", architecture)
    fields = {"vocab_size": VOCABULARY, **fields, **changes.get("model", {})}
    model = config.replace(module.Config(), fields, "model")
    name = finetuned.get("task", module.Model.task_of(model))
    task = registry.module("scriven.tasks", name).Task
    if finetuned:
        task = partial(task, task_config=finetuned["finetune"])  # the size of its head
    # 2. the model on the meta device: shapes without memory, so a large preset takes no longer
    empty = build_empty(module, model, task)
    # 3. what it costs
    parts = parameters_by_part(empty)
    parameters = sum(parts.values())
    flops = flops_per_token(empty)
    return {
        "target": target,
        "architecture": architecture,
        "model": config.to_dict(model),
        "parts": parts,
        "parameters": parameters,
        "flops_forward": flops["forward"],
        "flops_training": flops["training"],
        "training_bytes": training_bytes(model, parameters, TOKENS_PER_BATCH),
        "cache_bytes": cache_bytes(empty),
    }


def _find(target: str, arch: str | None) -> tuple[str, dict[str, object], dict[str, Any]]:
    """(architecture, fields of its Config, metadata of a fine-tuned run) of a target."""
    # the order matters: a size, a preset, an architecture, a run
    if target in SIZES:
        size = SIZES[target]
        return arch or "llama", dict(vars(size)), {}
    shipped = Path(__file__).parent / "presets" / f"{target}.toml"
    if target.endswith(".toml") or os.path.isfile(
        shipped
    ):  # `gpt1` is a preset before an architecture
        preset = read_named_preset(target)
        fields = config.sections({key: preset[key] for key in preset if "." in key})
        return arch or str(preset.get("arch", "llama")), fields.get("model", {}), {}
    if target in registry.names("scriven.models") or Path(target).suffix == ".py":
        return target, {}, {}
    if not is_run(target):  # a model of another program, whose weights are not read
        foreign = open_foreign(target)
        return foreign.architecture, config.to_dict(foreign.model_config), {}
    try:
        metadata = read_run_metadata(find_run(target))
    except InputError as error:
        presets = sorted(file.stem for file in shipped.parent.glob("*.toml"))
        raise InputError(f"{error}; presets are {', '.join([*SIZES, *presets])}") from error
    finetuned = metadata if isinstance(metadata.get("finetune"), dict) else {}
    return arch or str(metadata["architecture"]), metadata["model"], finetuned
