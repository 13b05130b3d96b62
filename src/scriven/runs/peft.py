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
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import DamagedError, InputError
from ..files import Content, printable, write_file
from ..manifest import read_file
from ..models.shared.weight_map import (
    FusedSizes,
    WeightName,
    expand_layers,
    rename_from_hf,
    rename_to_hf,
)
from ..nn.lora import add_lora, lora_adapters, merge_lora
from .weights import SCORE, encode, hf_config_of, is_labelled, load_tensors

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


class StoredAdapter(NamedTuple):
    """What an adapter folder holds."""

    folder: Path
    rank: int
    alpha: float
    dropout: float
    tensors: dict[str, Tensor]
    """Under the names of the folder, without PEFT's prefix."""


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
        kind: of the task, a file of tasks/; what the architecture is pre-trained for by default.
    """
    names, targets = LoraNames(architecture, config, kind), architecture.Model.LORA_TARGETS
    add_lora(task, rank, alpha, dropout=dropout, targets=targets, parts=names.parts)


def load_merged(
    task: nn.Module,
    tensors: Mapping[str, Tensor],
    architecture: ModuleType,
    config: Any,
    *,
    kind: str | None = None,
) -> None:
    """Loads a state dict into a plain task; that of an adapted task (default alpha) is merged.

    Raises:
        RuntimeError: the weights do not fit.
    """
    # the rank is not stored: it is the width of any B (out, r)
    of_b = (name for name in tensors if ".lora." in name and name.endswith(".b"))
    rank = next((tensors[name].size(-1) for name in of_b), 0)
    add_adapters(task, architecture, config, rank, kind=kind)
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
    dtype: torch.dtype | None = None,
) -> None:
    """Writes the adapters of a task, and the other weights that are trained, as one folder.

    Args:
        base: the model it belongs to, for people: a folder or a name.
        dtype: of the adapters in the file; by default as they are trained.

    Raises:
        ResourceError, InputError: as `files.write_file`; what was there before is untouched.
    """
    lora, names = lora_adapters(task), LoraNames(architecture, config, kind)
    assert lora, "the task has no adapters"
    # 1. weights trained whole: a head, the rows of new tokens
    trained = {name: each for name, each in task.named_parameters() if each.requires_grad}
    whole = {name: each.detach() for name, each in trained.items() if ".lora." not in name}
    tensors = rename_to_hf(whole, [names.row(name) for name in whole], 0, names.sizes)
    # 2. the pairs A (r, in) and B (out, r), split where transformers has several matrices
    for name, one in lora.items():
        pair = {f"{name}{A}": one.a.detach().to(dtype), f"{name}{B}": one.b.detach().to(dtype)}
        # the A of P parts lie below each other: (P r, in)
        sizes = {**names.sizes, "rank": [one.rank] * len(names.row(name).hf_names)}
        tensors |= rename_to_hf(pair, names.pair(name), 0, sizes)
    # 3. the configuration: target_modules are the shortest endings that name these layers alone
    layers = {name.removesuffix(A) for name in tensors if name.endswith(A)}
    others = {name.removesuffix(".weight") for row in names.table.values() for name in row.hf_names}
    first = next(iter(lora.values()))
    hf_class = ((names.hf_config or {}).get("architectures") or [""])[0]
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
        "target_modules": shortest(layers, others - layers),
        # PEFT has no name for other classes
        "task_type": next(
            (kind for end, kind in _TASK_TYPES.items() if hf_class.endswith(end)), None
        ),
    }
    files: dict[str, Content] = {
        CONFIG: (json.dumps(peft_config, indent=2) + "\n").encode(),
        TENSORS: encode({f"{_PREFIX}{name}": each for name, each in tensors.items()}),
    }
    write_file(folder, files)


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
    numbers: dict[str, Any] = {"lora_dropout": 0.0, **peft_config}
    for field, low, high in (("r", 1, 1 << 20), ("lora_alpha", 0, 1e9), ("lora_dropout", 0, 0.999)):
        value: Any = numbers.get(field)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:
            raise InputError(f"{where}: {field} is not a number from {low} to {high:g}")
    rank, alpha = int(numbers["r"]), numbers["lora_alpha"]
    # rank-stabilised LoRA differs in the scale alone
    if peft_config.get("use_rslora"):  # alpha / sqrt(r) there (Kalajdzievski 2023)
        alpha *= math.sqrt(rank)
    tensors = load_tensors(folder / TENSORS, require_digest=False)
    plain = {name.removeprefix(_PREFIX): each for name, each in tensors.items()}
    return StoredAdapter(folder, rank, alpha, numbers["lora_dropout"], plain)


def attach_adapter(
    task: nn.Module,
    stored: StoredAdapter,
    architecture: ModuleType,
    config: Any,
    *,
    kind: str | None = None,
) -> None:
    """Adapts a base model by what a folder holds; `nn.lora.merge_lora` then makes it a plain one.

    Raises:
        InputError: the adapter belongs to another model, or changes what cannot be adapted here.
    """
    weights, names = dict(task.named_parameters()), LoraNames(architecture, config, kind)
    where, given = printable(stored.folder), dict(stored.tensors)
    # 1. the table of every weight, and of A and B of every matrix that may have an adapter
    table = [names.row(name) for name in weights]
    for name, weight in weights.items():
        layer = name.rpartition(".")[0].rpartition(".")[2]
        if weight.dim() == 2 and layer in architecture.Model.LORA_TARGETS:
            table += names.pair(name)
            names.fill(given, name, weight, stored.rank)
    known = {name for row in table for name in row.hf_names}
    # 2. the folder's tensors under our names
    for name in given:
        if name not in known:
            raise InputError(f"{where} changes {name}, which this model has no place for")
    try:
        renamed = rename_from_hf(given, table, 0, names.sizes)
    except (DamagedError, RuntimeError) as error:
        raise InputError(f"{where} does not fit this model: {error}") from error
    # 3. adapters for those layers that the folder adapts
    layers = {name.removesuffix(A).rpartition(".")[0] for name in renamed if name.endswith(A)}
    if layers:
        rank, alpha, dropout = stored.rank, stored.alpha, stored.dropout
        add_lora(task, rank, alpha, dropout=dropout, targets=layers, parts=names.parts)
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


class LoraNames:
    """Names of one model's weights and adapters, here and in transformers."""

    def __init__(self, architecture: ModuleType, config: Any, kind: str | None = None) -> None:
        self.hf_config = hf_config_of(architecture, config, kind)
        self.table: dict[str, WeightName] = {}
        """Empty where transformers has no such model: then names are ours."""
        if self.hf_config is not None:
            rows = expand_layers(architecture.Model.hf_weight_map(config), config.deepest_stack)
            self.table = {row.ours: row for row in rows}
            # a classifier's head for labels is `score` there; the one for tokens moves aside
            if kind is not None and is_labelled(kind):
                self.table["words.weight"] = self.table["head.weight"]
                self.table["head.weight"] = WeightName("head.weight", SCORE)
        self.sizes: FusedSizes = architecture.Model.fused_sizes(config)
        self.parts = {row.ours: self.sizes[row.parts] for row in self.table.values() if row.parts}
        """Matrices that are fused here only -> rows of each part."""

    def row(self, name: str) -> WeightName:
        """What one of our weights is called there."""
        row = self.table.get(name) or WeightName(name, name)
        return replace(row, ours=name)

    def pair(self, name: str) -> list[WeightName]:
        """The rows of the A and B of one of our matrices; neither is ever transposed."""
        row = self.row(name)
        # one A and one B for each matrix that transformers has
        layers = [each.removesuffix(".weight") for each in row.hf_names]
        return [
            WeightName(f"{name}{A}", tuple(f"{each}{A}" for each in layers), row.parts and "rank"),
            WeightName(
                f"{name}{B}",
                tuple(f"{each}{B}" for each in layers),
                row.parts,
                interleaved=row.interleaved,
            ),
        ]

    def fill(self, given: dict[str, Tensor], name: str, weight: Tensor, rank: int) -> None:
        """Adds an adapter of zeros for each part of a matrix that has none, beside one that has."""
        row_a, row_b = self.pair(name)
        # PEFT may adapt q and v alone; here both are parts of one fused matrix
        if any(each in given for each in row_a.hf_names):
            sizes = self.parts.get(name, [weight.size(0)])
            for a, b, size in zip(row_a.hf_names, row_b.hf_names, sizes, strict=True):
                if a not in given and b not in given:
                    given[a] = weight.new_zeros(rank, weight.size(1))
                    given[b] = weight.new_zeros(size, rank)


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
