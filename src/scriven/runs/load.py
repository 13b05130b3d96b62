"""A run folder as a model: the newest undamaged weights, the tokenizer and the metadata."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from .. import config, registry
from ..errors import DamagedError, InputError
from ..tasks.base import BaseTask
from ..tokenizers import Tokenizer, load_tokenizer
from . import checkpoint
from .huggingface import WEIGHTS, from_hf_weights
from .metadata import read_metadata
from .peft import load_merged
from .weights import load_tensors


@dataclass(frozen=True)
class Loaded:
    """Everything needed to use a run."""

    folder: Path
    metadata: dict[str, Any]
    """The content of scriven.json."""
    task: BaseTask
    tokenizer: Tokenizer
    architecture: str
    """Its name, or the user's own file."""
    warnings: list[str]
    """Sentences for the user: a damaged file that was not used, an unfinished run."""


def load_run(folder: Path, architecture: str | None = None) -> Loaded:
    """Rebuilds the model of a run folder, in float32, on the CPU, in evaluation mode.

    The best weights are at the top of the folder. Where they are missing or damaged, the newest
    whole checkpoint is used, and `warnings` says so.

    Args:
        folder: the run folder.
        architecture: the user's own file, where the run was trained with one; a run folder never
            names code to execute.

    Raises:
        DamagedError: no weights are whole. InputError: not a run folder, another tokenizer, or a
            run of a user's own architecture without its file.
    """
    # 1. what the run is
    metadata = read_metadata(folder)
    # never a path from the run folder: that would run a stranger's code
    name = architecture_of(metadata, architecture)
    module = registry.module("scriven.models", name)
    model = config.replace(module.Config(), metadata["model"], "model")
    tokenizer = load_tokenizer(folder)
    # other ids would turn every text into nonsense, without an error
    if tokenizer.fingerprint != metadata["tokenizer"]["fingerprint"]:
        raise InputError(
            f"{folder}/tokenizer.json is not the tokenizer this model was trained with: "
            "put the original file back"
        )
    # 2. the model for its task, with random weights
    kind = registry.module("scriven.tasks", metadata["task"])
    ids, finetune = tokenizer.special_token_ids, metadata.get("finetune")
    task: BaseTask = kind.Task(module.Model(model), special=ids, task_config=finetune)
    # 3. its weights
    warnings: list[str] = []
    weights = _weights(folder, module, model, metadata["task"], warnings)
    try:
        if any(".lora." in name for name in weights):  # a checkpoint of a LoRA fine-tuning
            load_merged(task, weights, module, model, kind=metadata["task"])
        else:
            task.load_state_dict(weights)
    except RuntimeError as error:
        raise DamagedError(
            f"{folder}: the weights do not fit the model that scriven.json describes; they are "
            "another run's, so put the original model.safetensors back"
        ) from error
    if metadata.get("results") is None:
        warnings.append(f"{folder.name} is not finished: these are its best weights so far")
    return Loaded(folder, metadata, task.eval(), tokenizer, name, warnings)


def architecture_of(metadata: Mapping[str, Any], given: str | None) -> str:
    """The name or file of a run's architecture; a file must be given by the user each time.

    Raises:
        InputError: the run was trained with a file that was not given.
    """
    name = str(metadata["architecture"])
    if given is None and name not in registry.names("scriven.models"):
        raise InputError(
            f"this run has an architecture of its own: name its file, --arch {name}.py"
        )
    return given or name


def _weights(
    folder: Path, module: ModuleType, model: Any, task: str, warnings: list[str]
) -> dict[str, torch.Tensor]:
    try:
        if (folder / WEIGHTS).exists():
            # their digest is in the file itself, so no manifest is read
            return from_hf_weights(module, model, load_tensors(folder / WEIGHTS), task)
    except DamagedError as error:
        warnings.append(f"{error}; the newest whole checkpoint is used instead")
    # float32 as trained; the best weights may be older than these
    newest = checkpoint.load_newest(folder)
    if newest is None:
        raise DamagedError(f"{folder} holds no whole weights: train it again or restore a copy")
    warnings += newest.warnings
    return newest.tensors["model"]
