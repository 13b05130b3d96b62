"""What a run or a preset consists of, counted on a model that takes no memory."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from . import config, registry
from .errors import InputError
from .models.shared.cost import (
    build_empty,
    cache_bytes,
    flops_per_token,
    parameters_by_part,
    training_bytes,
)
from .runs.folder import find_run
from .runs.metadata import read_metadata
from .train.request import read_named_preset
from .train.scaling_laws import SIZES

TOKENS_PER_BATCH = 2048
VOCABULARY = 323
"""Of a preset that names none: what the 65 characters of tiny Shakespeare need."""


def inspect(
    target: str, *, arch: str | None = None, settings: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """Parameters by part, FLOPs per token and memory, exactly, before anything is built.

    Args:
        target: a run, a preset's name or file, a size, or an architecture.
        arch: the architecture, where the target names none.
        settings: changes to the model, as in {"model.layers": 12}.

    Raises:
        InputError: nothing of that name.
    """
    architecture, fields, tuned = _shape(target, arch)
    changes = config.sections(settings or {})
    others = [name for name in changes if name != "model"]
    if others:
        raise config.unknown(f"--{others[0]}.{next(iter(changes[others[0]]))}", ["--model."])
    module = registry.module("scriven.models", architecture)
    fields = {"vocab_size": VOCABULARY, **fields, **changes.get("model", {})}
    model = config.replace(module.Config(), fields, "model")
    task = registry.module("scriven.tasks", tuned.get("task", module.Model.pretraining_task)).Task
    if tuned:
        task = partial(task, task_config=tuned["finetune"])  # how many labels its head has
    empty = build_empty(module, model, task)
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


def _shape(target: str, arch: str | None) -> tuple[str, dict[str, object], dict[str, Any]]:
    """(architecture, fields of its Config, the record of a fine-tuned run) of what was named."""
    if target in SIZES:
        size = SIZES[target]
        return arch or "llama", dict(vars(size)), {}
    shipped = Path(__file__).parent / "presets" / f"{target}.toml"
    if target.endswith(".toml") or shipped.is_file():  # `gpt1` is a preset before an architecture
        preset = read_named_preset(target)
        fields = config.sections({key: preset[key] for key in preset if "." in key})
        return arch or str(preset.get("arch", "llama")), fields.get("model", {}), {}
    if target in registry.names("scriven.models") or _is_code(target):
        return target, {}, {}
    try:
        record = read_metadata(find_run(target))
    except InputError as error:
        presets = sorted(file.stem for file in shipped.parent.glob("*.toml"))
        raise InputError(f"{error}; presets are {', '.join([*SIZES, *presets])}") from error
    tuned = record if isinstance(record.get("finetune"), dict) else {}
    return arch or str(record["architecture"]), record["model"], tuned


def _is_code(target: str) -> bool:
    return target.endswith(".py") and Path(target).is_file()
