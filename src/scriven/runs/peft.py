"""LoRA adapters in the file format of PEFT: writing, reading and attaching them.

    adapter_config.json          rank, alpha and which layers are adapted
    adapter_model.safetensors    A and B of each, and weights that were trained whole

Layers have the names they have in transformers, so the folder can be used with the same model
there: a fused matrix is written in the parts it has there. Where transformers has no such model,
names are our own. An adapter's A and B are rows of the same kind of table as the weights
(models/shared/weight_map.py), so one function splits, renames and joins both.
Source: https://huggingface.co/docs/peft, "PEFT checkpoint format".
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import DamagedError, InputError
from ..files import Content, printable, read_file, write_folder
from ..models.shared.weight_map import (
    FusedSizes,
    WeightName,
    expand_layers,
    rename_from_hf,
    rename_to_hf,
)
from ..nn.lora import add_lora, lora_adapters, merge_lora
from .huggingface import SCORE, hf_config_of, is_labelled
from .weights import encode, load_tensors

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
A, B = ".lora_A.weight", ".lora_B.weight"

_PREFIX = "base_model.model."
_TASK_TYPES = {
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "MTModel": "SEQ_2_SEQ_LM",
    "ForSequenceClassification": "SEQ_CLS",
}
_INITIALISATIONS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Ways to initialise an adapter that leave the weights of the base model as they are."""
_REFUSED = ("use_dora", "rank_pattern", "alpha_pattern", "layer_replication", "lora_bias")


@dataclass(frozen=True)
class StoredAdapter:
    """What an adapter folder holds, under its own names."""

    folder: Path
    rank: int
    alpha: float
    dropout: float
    base: str | None
    """The model it was trained for: a folder or a name."""
    tensors: dict[str, Tensor]


def add_adapters(
    task: nn.Module,
    architecture: ModuleType,
    config: Any,
    rank: int,
    alpha: float | None = None,
    dropout: float = 0.0,
    *,
    kind: str | None = None,
) -> None:
    """`nn.lora.add_lora`, with an adapter for each part of a matrix that is fused here only.

    Args:
        task: of the architecture. architecture: its file. config: its Config.
        rank, alpha, dropout: as for `add_lora`.
        kind: of the task, a file of tasks/; what the architecture is pre-trained for by default.

    Raises:
        SettingError: as `add_lora`.
    """
    parts = LoraNames(architecture, config, kind).parts()
    targets = architecture.Model.LORA_TARGETS
    add_lora(task, rank, alpha, dropout=dropout, targets=targets, parts=parts)


def load_merged(
    task: nn.Module,
    tensors: Mapping[str, Tensor],
    architecture: ModuleType,
    config: Any,
    *,
    alpha: float | None = None,
    kind: str | None = None,
) -> None:
    """Loads a state dict into a plain task, also one that was taken of an adapted task.

    Args:
        task: without adapters; it has none afterwards.
        tensors: a checkpoint's weights.
        architecture: its file. config: its Config.
        alpha, kind: as they were for `add_adapters`.

    Raises:
        RuntimeError: the weights do not fit.
    """
    # the rank is not stored: it is the width of any B (out, r)
    of_b = (name for name in tensors if ".lora." in name and name.endswith(".b"))
    rank = next((tensors[name].size(-1) for name in of_b), 0)
    add_adapters(task, architecture, config, rank, alpha, kind=kind)
    task.load_state_dict(tensors)
    merge_lora(task)


def write_adapter(
    folder: Path,
    task: nn.Module,
    architecture: ModuleType,
    config: Any,
    base: str,
    *,
    kind: str | None = None,
) -> None:
    """Writes the adapters of a task, and the other weights that are trained, as one new folder.

    A folder already there is replaced by a rename.

    Args:
        folder: gets the two files.
        task: adapted by `add_adapters`; other weights that are not frozen are stored whole.
        architecture: its file. config: its Config.
        base: the model it belongs to, for people: a folder or a name.
        kind: as for `add_adapters`.

    Raises:
        ResourceError: the disk is full or broken; what was there before is untouched.
        InputError: the folder cannot be written to.
    """
    lora, names = lora_adapters(task), LoraNames(architecture, config, kind)
    assert lora, "the task has no adapters"
    # 1. weights trained whole: a head, the rows of new tokens
    trained = {name: each for name, each in task.named_parameters() if each.requires_grad}
    whole = {name: each.detach() for name, each in trained.items() if ".lora." not in name}
    tensors = rename_to_hf(whole, [names.row(name) for name in whole], 0, names.sizes)
    # 2. the pairs A (r, in) and B (out, r), split where transformers has several matrices
    for name, one in lora.items():
        pair = {f"{name}{A}": one.a.detach(), f"{name}{B}": one.b.detach()}
        tensors |= rename_to_hf(pair, names.pair(name), 0, names.with_rank(name, one.rank))
    # 3. the configuration: target_modules are the shortest endings that name these layers alone
    layers = {name.removesuffix(A) for name in tensors if name.endswith(A)}
    other = {layer_of(each) for row in names.table for each in names.row(row).hf_names} - layers
    first = next(iter(lora.values()))
    peft_config = {
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": any(names.row(name).transposed for name in lora),
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": first.alpha,
        "lora_dropout": first.dropout,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": first.rank,
        "target_modules": shortest(layers, other),
        "task_type": _task_type(names.hf_config or {}),
    }
    files: dict[str, Content] = {
        CONFIG: (json.dumps(peft_config, indent=2) + "\n").encode(),
        TENSORS: encode({f"{_PREFIX}{name}": each for name, each in tensors.items()}),
    }
    write_folder(folder, files)


def read_adapter(folder: Path) -> StoredAdapter:
    """Reads an adapter folder that `write_adapter` or PEFT wrote.

    Raises:
        DamagedError: a file is missing or not what it should be.
        InputError: an adapter of a kind that does not exist here; names the field.
    """
    where = printable(folder / CONFIG)
    try:
        peft_config = json.loads(bytes(read_file(folder / CONFIG, 1 << 20)))
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{where} is no JSON") from error
    if not isinstance(peft_config, dict):
        raise DamagedError(f"{where} is no JSON object")
    if peft_config.get("peft_type") != "LORA":
        raise InputError(f"{where}: peft_type is not LORA, the only kind of adapter known here")
    # variants of LoRA that compute something else
    for field in _REFUSED:
        if peft_config.get(field):
            raise InputError(f"{where}: {field} is set, which adapters here do not have")
    if peft_config.get("init_lora_weights") not in _INITIALISATIONS:
        raise InputError(
            f"{where}: init_lora_weights changed the base model's weights: convert the adapter "
            "with PEFT's path_initial_model_for_weight_conversion first"
        )
    # the numbers decide how much memory is taken, so they are bounded
    rank = int(_number(peft_config, "r", where, 1, 1 << 20))
    alpha = _number(peft_config, "lora_alpha", where, 0, 1e9)
    # rank-stabilised LoRA differs in the scale alone
    if peft_config.get("use_rslora"):  # alpha / sqrt(r) there (Kalajdzievski 2023)
        alpha *= math.sqrt(rank)
    dropout = _number({"lora_dropout": 0.0, **peft_config}, "lora_dropout", where, 0, 0.999)
    base = peft_config.get("base_model_name_or_path")
    tensors = load_tensors(folder / TENSORS, require_digest=False)
    plain = {name.removeprefix(_PREFIX): each for name, each in tensors.items()}
    return StoredAdapter(
        folder, rank, alpha, dropout, base if isinstance(base, str) else None, plain
    )


def attach_adapter(
    task: nn.Module,
    stored: StoredAdapter,
    architecture: ModuleType,
    config: Any,
    *,
    kind: str | None = None,
) -> None:
    """Adapts a base model by what a folder holds; `nn.lora.merge_lora` then makes it a plain one.

    Args:
        task: the base model. stored: what was read.
        architecture: its file. config: its Config.
        kind: as for `add_adapters`.

    Raises:
        InputError: the adapter belongs to another model, or changes what cannot be adapted here.
            The task may have been changed by then.
    """
    weights, names = dict(task.named_parameters()), LoraNames(architecture, config, kind)
    where = printable(stored.folder)
    given = dict(stored.tensors)
    # 1. the table of every weight and every possible adapter
    table = [names.row(name) for name in weights]
    for name in adaptable(weights, architecture.Model.LORA_TARGETS):
        table += names.pair(name)
        names.fill(given, name, weights[name], stored.rank)
    known = {name for row in table for name in row.hf_names}
    # 2. the folder's tensors under our names
    for name in given:
        if name not in known:
            raise InputError(f"{where} changes {name}, which this model has no place for")
    try:
        renamed = rename_from_hf(given, table, 0)
    except (DamagedError, RuntimeError) as error:
        raise InputError(f"{where} does not fit this model: {error}") from error
    # 3. adapters for those layers that the folder adapts
    layers = {name.removesuffix(A).rpartition(".")[0] for name in renamed if name.endswith(A)}
    if layers:
        parts = names.parts()
        add_lora(
            task, stored.rank, stored.alpha, dropout=stored.dropout, targets=layers, parts=parts
        )
    for name, one in lora_adapters(task).items():
        weights |= {f"{name}{A}": one.a, f"{name}{B}": one.b}
    for name, tensor in renamed.items():
        if weights[name].shape != tensor.shape:
            raise InputError(
                f"{where} is for another model: its {name} is {list(tensor.shape)}, this one's "
                f"{list(weights[name].shape)}"
            )
    # 4. all shapes fit: copy
    with torch.no_grad():
        for name, tensor in renamed.items():
            weights[name].copy_(tensor)


def _number(
    peft_config: Mapping[str, Any], field: str, where: str, low: float, high: float
) -> float:
    value = peft_config.get(field)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InputError(f"{where}: {field} is not a number from {low} to {high:g}")
    return value


def _task_type(hf_config: Mapping[str, Any]) -> str | None:
    """PEFT's name for what a class of transformers does; None for those it has no name for."""
    name = str((hf_config.get("architectures") or [""])[0])
    return next((kind for end, kind in _TASK_TYPES.items() if name.endswith(end)), None)


class LoraNames:
    """Names of one model's weights and adapters, ours and those of transformers.

    Args:
        architecture: its file. config: its Config.
        kind: of its task, a file of tasks/; what it is pre-trained for by default.
    """

    def __init__(self, architecture: ModuleType, config: Any, kind: str | None = None) -> None:
        self.hf_config = hf_config_of(architecture, config, kind)
        rows = (
            []
            if self.hf_config is None
            else expand_layers(architecture.Model.HF_WEIGHT_MAP, config.deepest_stack)
        )
        self.table = {row.ours: row for row in rows}
        """Empty where transformers has no such model: then names are ours."""
        # a classifier: the head for labels takes the name `score`, the one for tokens moves aside
        if rows and kind is not None and is_labelled(kind):
            self.table["words.weight"] = self.table["head.weight"]
            self.table["head.weight"] = WeightName("head.weight", SCORE)
        self.sizes: FusedSizes = architecture.Model.fused_sizes(config)

    def parts(self) -> dict[str, list[int]]:
        """Matrices that are fused here only -> rows of each part."""
        return {row.ours: list(self.sizes[row.parts]) for row in self.table.values() if row.parts}

    def row(self, name: str) -> WeightName:
        """What one of our weights is called there."""
        row = self.table.get(name) or WeightName(name, name)
        return WeightName(name, row.hf_names, row.parts, row.transposed)

    def pair(self, name: str) -> list[WeightName]:
        """The rows of the A and B of one of our matrices; neither is ever transposed."""
        row = self.row(name)
        # one A and one B for each matrix that transformers has
        layers = [layer_of(each) for each in row.hf_names]
        return [
            WeightName(f"{name}{A}", tuple(f"{each}{A}" for each in layers), row.parts and "rank"),
            WeightName(f"{name}{B}", tuple(f"{each}{B}" for each in layers), row.parts),
        ]

    def with_rank(self, name: str, rank: int) -> FusedSizes:
        """The fused sizes for the tables of `pair`."""
        return {**self.sizes, "rank": [rank] * len(self.row(name).hf_names)}

    def fill(self, given: dict[str, Tensor], name: str, weight: Tensor, rank: int) -> None:
        """Adds an adapter of zeros for each part that has none, beside one that has."""
        layers = [layer_of(each) for each in self.row(name).hf_names]
        # PEFT may adapt q and v alone; here both are parts of one fused matrix
        if not any(f"{layer}{A}" in given for layer in layers):
            return
        sizes = self.parts().get(name, [weight.size(0)])
        for layer, size in zip(layers, sizes, strict=True):
            if f"{layer}{A}" not in given and f"{layer}{B}" not in given:
                given[f"{layer}{A}"] = weight.new_zeros(rank, weight.size(1))
                given[f"{layer}{B}"] = weight.new_zeros(size, rank)


def adaptable(weights: Mapping[str, Tensor], targets: Collection[str]) -> list[str]:
    """Those weights that may have an adapter."""
    return [
        name
        for name, weight in weights.items()
        if weight.dim() == 2 and name.rpartition(".")[0].rpartition(".")[2] in targets
    ]


def layer_of(name: str) -> str:
    """The layer of a weight; each matrix of a recurrent layer counts as a layer."""
    return name.removesuffix(".weight")


def shortest(layers: Iterable[str], others: Iterable[str]) -> list[str]:
    """The shortest endings of dotted names that mean all of `layers` and none of `others`."""
    dotted = [f".{name}" for name in others]
    endings_used = set()
    for layer in layers:
        words = layer.split(".")
        # from the last word of the name to all of it
        endings = [".".join(words[-count:]) for count in range(1, len(words) + 1)]
        clear = (each for each in endings if not any(one.endswith(f".{each}") for one in dotted))
        endings_used.add(next(clear, layer))
    return sorted(endings_used)
