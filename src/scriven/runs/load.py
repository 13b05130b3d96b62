"""A run folder as a model: the newest undamaged weights, the tokenizer and the metadata.

A run that trained LoRA adapters holds them alone, and says which model they belong to: by its
place, relative to the run, and by the digest of its weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from .. import config, registry
from ..errors import DamagedError, InputError
from ..files import REPLACED
from ..nn.lora import merge_lora
from ..tasks.base import BaseTask
from ..tokenizers import Tokenizer, load_tokenizer
from . import checkpoint
from .huggingface import WEIGHTS
from .metadata import check_size, read_run_metadata
from .peft import TENSORS, attach_adapter, load_merged, read_adapter
from .weights import from_hf_weights, load_tensors, stored_digest

OTHER_WEIGHTS = (
    "{}: the weights do not fit the model that scriven.json describes; they are another run's, so "
    "put the original model.safetensors back"
)
MOST_PARAMETERS_PER_BYTE = 4
"""Of the stored weights, by an estimate; a float32 has a quarter of one."""
MANY_PARAMETERS = 4_000_000
"""Up to so many, a model is built before it is compared with the stored weights."""
ADAPTER = "adapter"
"""The folder of the adapters inside a run folder, in PEFT's layout."""


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
    step: int | None = None
    """The step of the checkpoint that was asked for; None for the best weights."""


ChooseDtype = Callable[[int], torch.dtype]
"""The precision of a model's matrices, by the number of its parameters; float32 without it."""
OpenBase = Callable[[Path, Mapping[str, Any]], Loaded]
"""Opens the model that a run went on from, by its folder and the section `base` of its
scriven.json."""


def load_run(
    folder: Path,
    architecture: str | None = None,
    *,
    model_changes: Mapping[str, object] | None = None,
    dtype: ChooseDtype | None = None,
    open_base: OpenBase | None = None,
    step: int | None = None,
) -> Loaded:
    """Rebuilds the model of a run folder, on the CPU, in evaluation mode.

    Where the best weights at the top of the folder are missing or damaged, the newest whole
    checkpoint is used, and `warnings` says so.

    Args:
        architecture: the user's own file, where the run was trained with one.
        model_changes: fields of the Config that change no weight, such as dropout.
        dtype: of the matrices, by the number of parameters.
        open_base: opens the base model of a run that holds adapters alone.
        step: of the checkpoint to load; by default the best weights.

    Raises:
        DamagedError: no weights are whole. InputError: not a run folder, another tokenizer, a run
            of a user's own architecture without its file, adapters whose base is missing, or no
            checkpoint of this step.
    """
    # 1. what the run is
    metadata = read_run_metadata(folder)
    name = architecture_of(metadata, architecture)
    module = registry.module("scriven.models", name)
    model = config.replace(module.Config(), {**metadata["model"], **(model_changes or {})}, "model")
    tokenizer = load_tokenizer(folder)
    if tokenizer.fingerprint != metadata["tokenizer"]["fingerprint"]:  # other ids: nonsense
        file = f"{folder}/tokenizer.json"
        raise InputError(f"{file} is not the tokenizer of this model: put the original file back")
    if not is_adapter_run(folder, metadata):
        _check_memory(folder, metadata)
    # 2. the model for its task, whose weights have no values yet
    ids, finetune = tokenizer.special_token_ids, metadata.get("finetune")
    task = build_uninitialized(module, model, metadata["task"], ids, finetune, dtype)
    if length := metadata["settings"]["train"].get("sequence_length"):
        task.sequence_length = length
    # 3. its weights
    warnings: list[str] = []
    try:
        if step is None and is_adapter_run(folder, metadata):
            assert open_base is not None, "an adapter needs its base"
            _load_adapted(task, open_base(folder, metadata["base"]), folder, metadata, warnings)
        else:
            weights = _weights(folder, module, model, metadata, warnings, step)
            if any(".lora." in name for name in weights):  # a checkpoint of a LoRA fine-tuning
                load_merged(task, weights, module, model, kind=metadata["task"])
            else:
                task.load_state_dict(weights)
    except RuntimeError as error:
        raise DamagedError(OTHER_WEIGHTS.format(folder)) from error
    if metadata.get("results") is None and step is None:
        warnings.append(f"{folder.name} is not finished: these are its best weights so far")
    return Loaded(folder, metadata, task.eval(), tokenizer, name, warnings, step)


def _check_memory(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Refuses a description of a model that is far larger than the weights, before it is built."""
    stored = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    if stored and check_size(metadata) > MOST_PARAMETERS_PER_BYTE * stored + MANY_PARAMETERS:
        raise DamagedError(OTHER_WEIGHTS.format(folder))


def build_uninitialized(
    module: ModuleType,
    model: Any,
    task: str,
    special: Mapping[str, int],
    task_config: Mapping[str, Any] | None = None,
    dtype: ChooseDtype | None = None,
) -> BaseTask:
    """The model for its task. Its weights have memory and no values: load them next.

    Args:
        module: the file of the architecture. model: its Config.
        task: a file of tasks/.
        special: the ids of the special tokens by name.
        task_config: the section "finetune" of scriven.json.
        dtype: of the matrices, by the number of parameters; all else stays in float32.
    """
    kind = registry.module("scriven.tasks", task)
    # linear layers are built without drawing weights: of a large model that takes longer than
    # everything else
    draw = nn.Linear.reset_parameters
    nn.Linear.reset_parameters = lambda self: None  # type: ignore[method-assign]
    try:
        built: BaseTask = kind.Task(module.Model(model), special=special, task_config=task_config)
    finally:
        nn.Linear.reset_parameters = draw  # type: ignore[method-assign]
    if dtype is not None:
        chosen = dtype(sum(weight.numel() for weight in built.parameters()))
        for weight in built.parameters():
            if weight.dim() > 1 and chosen != torch.float32:
                weight.data = torch.empty(weight.shape, dtype=chosen)
    return built


def is_adapter_run(folder: Path, metadata: Mapping[str, Any]) -> bool:
    """Whether a run holds adapters for the weights of another model, and no weights of its own."""
    base = metadata.get("base") or {}
    return base.get("adapter") is True and not (folder / WEIGHTS).exists()


def model_digest(folder: Path) -> str:
    """SHA-256 of the published weights of a run; of adapters, of those and of their base.

    Raises:
        InputError: the run has published none yet.
    """
    metadata = read_run_metadata(folder)
    if not is_adapter_run(folder, metadata):
        return stored_digest(folder / WEIGHTS)
    return f"{metadata['base']['digest']}+{stored_digest(_adapter_folder(folder) / TENSORS)}"


def architecture_of(metadata: Mapping[str, Any], given: str | None) -> str:
    """The name or file of a run's architecture; a file must be given by the user each time, as a
    path from the run folder would run a stranger's code.

    Raises:
        InputError: the run was trained with a file that was not given.
    """
    name = str(metadata["architecture"])
    if given is None and name not in registry.names("scriven.models"):
        raise InputError(
            f"this run has an architecture of its own: name its file, --arch {name}.py"
        )
    return given or name


def _load_adapted(
    task: BaseTask, base: Loaded, folder: Path, metadata: Mapping[str, Any], warnings: list[str]
) -> None:
    """The weights of the base model, with the adapters of this run added to them."""
    warnings += base.warnings
    # the tensors themselves, so that there are never two copies
    task.backbone.load_state_dict(base.task.backbone.state_dict(), assign=True)
    task.head = base.task.head
    module = registry.module("scriven.models", base.architecture)
    stored = read_adapter(_adapter_folder(folder))
    attach_adapter(task, stored, module, task.backbone.config, kind=metadata["task"])
    merge_lora(task)


def _adapter_folder(folder: Path) -> Path:
    """The adapters of a run; a kill between two renames leaves them under another name."""
    path = folder / ADAPTER
    return path if path.exists() else folder / f"{REPLACED}{ADAPTER}"


def _checkpoint_weights(
    folder: Path, step: int, metadata: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    """The weights of one checkpoint, of the newest branch that has it."""
    if is_adapter_run(folder, metadata):
        raise InputError(f"{folder.name} holds adapters alone: only its best weights can be opened")
    found: set[int] = set()
    for branch in reversed(range(1 + len(metadata.get("extensions", [])))):
        place = checkpoint.branch_folder(folder, branch)
        if step in (steps := checkpoint.steps(place)):
            return checkpoint.load_step(place, step).tensors["model"]
        found |= set(steps)
    known = ", ".join(str(each) for each in sorted(found)) or "none"
    raise InputError(f"{folder.name} has no checkpoint of step {step}: there are {known}")


def _weights(
    folder: Path,
    module: ModuleType,
    model: Any,
    metadata: Mapping[str, Any],
    warnings: list[str],
    step: int | None,
) -> dict[str, torch.Tensor]:
    if step is not None:
        return _checkpoint_weights(folder, step, metadata)
    try:
        if (folder / WEIGHTS).exists():
            # their digest is in the file itself, so no manifest is read
            return from_hf_weights(module, model, load_tensors(folder / WEIGHTS), metadata["task"])
    except DamagedError as error:
        warnings.append(f"{error}; the newest whole checkpoint is used instead")
    # float32 as trained; the best weights may be older than these
    for branch in reversed(range(1 + len(metadata.get("extensions", [])))):
        newest = checkpoint.load_newest(checkpoint.branch_folder(folder, branch))
        if newest is not None:
            warnings += newest.warnings
            return newest.tensors["model"]
    raise DamagedError(f"{folder} holds no whole weights: train it again or restore a copy")
