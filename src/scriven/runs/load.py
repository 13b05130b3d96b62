"""A run folder back as a model: the newest good weights, the tokenizer and the record."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .. import config, registry
from ..errors import DamagedError, InputError
from ..tasks.base import BaseTask
from ..tokenizers import Tokenizer, load_tokenizer
from . import checkpoint
from .huggingface import from_hf_weights
from .metadata import read_metadata
from .peft import load_weights
from .weights import load_tensors


@dataclass(frozen=True)
class Loaded:
    """Everything needed to use a run."""

    folder: Path
    record: dict[str, Any]
    task: BaseTask
    tokenizer: Tokenizer
    architecture: str
    """Its name, or the user's own file."""
    warnings: list[str]
    """Sentences for the user: a damaged file that was passed over, an unfinished run."""


def load_run(folder: Path, architecture: str | None = None) -> Loaded:
    """Rebuilds the model of a run folder, in float32, on the CPU, in evaluation mode.

    The best weights are at the top of the folder. Where they are missing or damaged, the newest
    whole checkpoint is used, and `warnings` says so.

    Args:
        folder: the run folder.
        architecture: the user's own file, where the run was made with one; a run folder never
            names code to execute.

    Raises:
        DamagedError: nothing whole is left. InputError: not a run folder, another tokenizer, or a
            run of a user's own architecture without its file.
    """
    record = read_metadata(folder)
    named = architecture_of(record, architecture)
    module = registry.module("scriven.models", named)
    model = config.replace(module.Config(), record["model"], "model")
    tokenizer = load_tokenizer(folder)
    if tokenizer.fingerprint != record["tokenizer"]["fingerprint"]:
        raise InputError(
            f"{folder}/tokenizer.json is not the tokenizer this model was trained with: "
            "put the original file back"
        )
    kind = registry.module("scriven.tasks", record["task"])
    backbone = module.Model(model)
    facts = record.get("finetune")
    task: BaseTask = kind.Task(backbone, special=tokenizer.special_token_ids, facts=facts)
    warnings: list[str] = []
    try:
        weights = _weights(folder, module, model, record["task"], warnings)
        load_weights(task, weights, module, model, kind=record["task"])
    except RuntimeError as error:
        raise DamagedError(
            f"{folder}: the weights do not fit the model that scriven.json describes; they are "
            "another run's, so put the original model.safetensors back"
        ) from error
    if record.get("results") is None:
        warnings.append(f"{folder.name} is not finished: these are its best weights so far")
    return Loaded(folder, record, task.eval(), tokenizer, named, warnings)


def architecture_of(record: Mapping[str, Any], given: str | None) -> str:
    """The name or file of a run's architecture; a file must be given by the user each time.

    Raises:
        InputError: the run was made with a file that was not given.
    """
    named = str(record["architecture"])
    if given is None and named not in registry.names("scriven.models"):
        raise InputError(
            f"this run has an architecture of its own: name its file, --arch {named}.py"
        )
    return given or named


def _weights(
    folder: Path, module: Any, model: Any, task: str, warnings: list[str]
) -> dict[str, torch.Tensor]:
    path = folder / "model.safetensors"
    try:
        if path.exists():
            return from_hf_weights(module, model, load_tensors(path), task)
    except DamagedError as error:
        warnings.append(f"{error}; the newest whole checkpoint is used instead")
    found = checkpoint.load_newest(folder)
    if found is None:
        raise DamagedError(f"{folder} holds no whole weights: train it again or restore a copy")
    warnings += found.warnings
    return found.tensors["model"]
