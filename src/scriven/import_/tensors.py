"""Weights of another program, checked against the shapes an architecture needs.

The shapes come from the model itself, made on torch's `meta` device, so a file is refused before
anything as large as the model is allocated. Knows no config.json.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import registry
from ..errors import DamagedError, InputError, ResourceError
from ..files import printable
from ..format import format_bytes
from ..models.base import pretraining
from ..models.shared.weight_map import to_twin
from ..runs.weights import load_tensors
from ..runtime import available_memory

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

_BUFFERS = re.compile(
    r"\.(attn\.(masked_)?bias|rotary_emb\.inv_freq|position_ids|token_type_ids"
    r"|(en|de)coder\.embed_positions\.weight)$"
)
"""What transformers has stored beside the weights at times: masks and tables anyone can make."""


def needed(module: Any, model: Any, special: Mapping[str, int]) -> dict[str, Tensor]:
    """The weights a model of this shape has under foreign names, without memory (`meta`).

    Raises:
        ResourceError: they would not fit into memory.
    """
    kind = registry.module("scriven.tasks", pretraining(module))
    with torch.device("meta"):
        task = kind.Task(module.Model(model), special=special)
    size = 4 * sum(weight.numel() for weight in task.parameters())
    available = available_memory()
    if available is not None and size > available:
        raise ResourceError(
            f"this model needs {format_bytes(size)} of memory and {format_bytes(available)} are "
            "free"
        )
    return to_twin(module, model, task.state_dict())


def read_tensors(
    files: Iterable[Path], places: Mapping[str, str] | None, expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weights in some files, in float32, under the names expected.

    Args:
        files: safetensors files.
        places: tensor -> file name, where an index says so.
        expected: name -> shape; what else the files hold may only be a copy of one of them.

    Raises:
        DamagedError: a tensor is missing, unknown, of another shape or not finite.
        InputError: a tensor is no floating-point number: quantised weights.
    """
    found: dict[str, Tensor] = {}
    prefixes = {name.split(".", 1)[0] + "." for name in expected}
    spare: dict[str, tuple[Path, Tensor]] = {}
    for path in files:
        for stored, tensor in load_tensors(path, require_digest=False).items():
            if places is not None and places.get(stored) != path.name:
                raise DamagedError(f"{printable(path)} holds {stored}, which its index does not")
            name = _named(stored, expected, prefixes)
            if name not in expected:
                if not _BUFFERS.search(name):
                    spare[name] = path, tensor
                continue
            if name in found:
                raise DamagedError(f"{printable(path)} holds {stored} once more: get it again")
            found[name] = _checked(stored, tensor, expected[name], path)
    for name in expected:
        if name not in found:
            raise DamagedError(f"the weights lack {name}: get the folder again")
    for name, (path, tensor) in spare.items():
        # a tied matrix, stored twice, or a bias that adds nothing
        needless = name.endswith("bias") and not bool(tensor.any())
        if not needless and not any(_same(tensor, kept) for kept in found.values()):
            raise DamagedError(
                f"{printable(path)} holds {name[:80]}, which this architecture does not have here"
            )
    return found


def _named(name: str, expected: Mapping[str, Tensor], prefixes: set[str]) -> str:
    """Files of the bare model, without its head, leave the first word of each name away."""
    if name in expected:
        return name
    return next((each + name for each in sorted(prefixes) if each + name in expected), name)


def _checked(name: str, tensor: Tensor, expected: Tensor, path: Path) -> Tensor:
    if tensor.dtype not in FLOATS:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise InputError(
            f"{printable(path)}: {name} is {kind}: import the original, unquantised weights"
        )
    if tensor.shape != expected.shape:
        raise DamagedError(
            f"{printable(path)}: {name} is {_size(tensor)}, but config.json asks for "
            f"{_size(expected)}"
        )
    wide = tensor.float()
    if not bool(wide.isfinite().all()):
        raise DamagedError(f"{printable(path)}: {name} has numbers that are not finite")
    return wide


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype not in FLOATS:
        return False
    return torch.equal(one.float(), other)


def _size(tensor: Tensor) -> str:
    return " x ".join(str(size) for size in tensor.shape) or "a single number"
