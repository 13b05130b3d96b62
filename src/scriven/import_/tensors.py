"""The weight files of a Hugging Face folder: which they are, and their tensors, checked.

The shapes come from the model itself, made on torch's `meta` device, so a file is refused before
anything as large as the model is allocated. Pickled files are only read by `sandbox.py`.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ..errors import DamagedError, InputError, ResourceError
from ..files import printable, temporary_folder
from ..format import format_bytes
from ..manifest import read_file
from ..runs.load import ChooseDtype
from ..runs.weights import load_tensors
from ..runtime import available_memory

CONFIG = "config.json"
SINGLE = "model.safetensors"
PICKLED = ("pytorch_model.bin", "model.bin", "model.pt", "model.pth")
"""Weights that can only be read by a loader that may run what the file says."""
SMALL_FILES = (
    CONFIG, "tokenizer.json", "tokenizer_config.json", "generation_config.json", "README.md",
)  # fmt: skip
MAX_JSON = 64 << 20
"""Bytes."""

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

_UNUSED = re.compile(
    r"\.((attn|attention)\.(masked_)?bias|rotary_emb\.inv_freq|position_ids|token_type_ids"
    r"|(en|de)coder\.embed_positions\.weight)$"
    r"|(^|\.)(pooler|seq_relationship)\."
)
"""What is stored beside the weights at times: masks and tables, which are computed anew, and parts
that only other tasks use, such as the pooler of the published RoBERTa."""
_RENAMED = {".gamma": ".weight", ".beta": ".bias"}
"""Endings of the first releases of BERT."""


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a Hugging Face folder.

    Raises:
        InputError: it is none.
    """
    try:
        content = json.loads(read_file(path, MAX_JSON))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{printable(path)} is not JSON: get the file again") from error
    if not isinstance(content, dict):
        raise InputError(f"{printable(path)} is not a JSON object: get the file again")
    return content


def weight_files(path: Path) -> tuple[list[Path], dict[str, str] | None]:
    """(files with weights, tensor -> file name), the second None for a single file.

    Raises:
        InputError: there are none, or only pickles.
    """
    index = path / f"{SINGLE}.index.json"
    if (path / SINGLE).exists():
        return [path / SINGLE], None
    if index.exists():
        weight_map = _weight_map(index)
        return [path / name for name in sorted(set(weight_map.values()))], weight_map
    if pickles := pickled_files(path):
        raise refuse_pickle(pickles[0])
    raise InputError(f"{printable(path)} holds no weights: {SINGLE} is missing")


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor -> file, as the index of several files says; only files beside it are allowed."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{printable(index)} has no weight_map: get the file again")
    there = set(os.listdir(index.parent))
    for name in weight_map.values():
        if not isinstance(name, str) or Path(name).name != name or name in ("", "..", "."):
            raise InputError(f"{printable(index)} names a file outside the folder: not followed")
        if name not in there:  # also a name that no file can have
            raise DamagedError(f"{printable(index.parent / name[:100])} is missing")
    return weight_map


def pickled_files(path: Path) -> list[Path]:
    """The files of a folder that hold weights as a pickle."""
    index = path / f"{PICKLED[0]}.index.json"
    if index.exists():  # a large model, split into several files
        return [path / name for name in sorted(set(_weight_map(index).values()))]
    return [path / name for name in PICKLED if (path / name).exists()][:1]


def refuse_pickle(path: Path) -> InputError:
    """The error for a pickle without --convert."""
    folder = printable(path if path.is_dir() else path.parent)
    return InputError(
        f"{printable(path)} is a pickle, which can run code when it is read: "
        f"`scriven import {folder} --convert` takes only the tensors out of it, in a "
        "confined process"
    )


def check_memory(module: ModuleType, model_config: Any, dtype: ChooseDtype | None) -> None:
    """Refuses a model that does not fit, before anything of its size is allocated.

    Raises:
        ResourceError: says how much memory it needs, and how much is free.
    """
    with torch.device("meta"):  # shapes without memory
        weights = sum(each.numel() for each in module.Model(model_config).parameters())
    if not getattr(model_config, "tie_embeddings", True):
        weights += model_config.vocab_size * model_config.d_model
    itemsize = 4 if dtype is None else dtype(weights).itemsize
    size, available = itemsize * weights, available_memory()
    if available is not None and size > available:
        raise ResourceError(
            f"this model needs {format_bytes(size)} of memory and {format_bytes(available)} are "
            "free: free some, or take a smaller model"
        )


def copy_weights(
    files: Iterable[Path], weight_map: Mapping[str, str] | None, into: Mapping[str, Tensor]
) -> None:
    """Copies the weights of some safetensors files into the tensors of a model, one at a time.

    Args:
        files: safetensors files.
        weight_map: tensor -> file name, where there is an index.
        into: name -> tensor to fill; what else the files hold may only be a copy of one of them.

    Raises:
        DamagedError: a tensor is missing, unknown, of another shape, NaN or infinite.
        InputError: a tensor is not floating-point: quantised weights.
    """
    copied: set[str] = set()
    prefixes = sorted({name.split(".", 1)[0] + "." for name in into})
    others: dict[str, tuple[Path, Tensor]] = {}
    # 1. the tensors that the model has
    for path in files:
        for stored, tensor in load_tensors(path, require_digest=False).items():
            if weight_map is not None and weight_map.get(stored) != path.name:
                raise DamagedError(f"{printable(path)} holds {stored}, which its index does not")
            name = stored
            for old, new in _RENAMED.items():
                if name not in into and name.endswith(old):
                    name = name.removesuffix(old) + new
            if name not in into:  # files of the model without its head leave out a prefix
                name = next((each + name for each in prefixes if each + name in into), name)
            if name not in into:
                if not _UNUSED.search(name):
                    others[name] = path, tensor
                continue
            if name in copied:
                raise DamagedError(f"{printable(path)} holds {stored} once more: get it again")
            copied.add(name)
            copy_weight(stored, tensor, into[name], printable(path))
    for name in into:
        if name not in copied:
            raise DamagedError(f"the weights lack {name}: get the folder again")
    # 2. the others may be a tied matrix that is stored twice, or a bias that adds nothing
    for name, (path, tensor) in others.items():
        zero_bias = name.endswith("bias") and not bool(tensor.any())
        if not zero_bias and not any(_equal(tensor, weight) for weight in into.values()):
            raise DamagedError(
                f"{printable(path)} holds {name[:80]}, which this architecture does not have here"
            )


def stored_names(files: Iterable[Path]) -> set[str]:
    """The names of all tensors in some safetensors files."""
    return {name for path in files for name in load_tensors(path, require_digest=False)}


def copy_converted(
    files: Iterable[Path],
    weight_map: Mapping[str, str] | None,
    read: Callable[[Path], Mapping[str, Tensor]],
    into: Mapping[str, Tensor],
) -> None:
    """As `copy_weights`, of files whose names transformers translates.

    Args:
        read: reads the weights in a folder; it is given one that holds nothing but these files.

    Raises:
        DamagedError, InputError: as `copy_weights`.
    """
    with temporary_folder() as folder:
        for path in files:
            link_file(path.resolve(), folder / path.name)
        if weight_map is not None:
            index = json.dumps({"metadata": {}, "weight_map": dict(weight_map)})
            (folder / f"{SINGLE}.index.json").write_text(index, encoding="utf-8")
        found = read(folder)
        for name, tensor in into.items():
            if name not in found:
                raise DamagedError(f"the weights lack {name}: get the folder again")
            copy_weight(name, found[name], tensor, printable(folder))


def link_file(source: Path, target: Path) -> None:
    """A link to a file, or a copy of it."""
    with contextlib.suppress(OSError):  # some systems need a special right for links
        os.symlink(source, target)
        return
    shutil.copyfile(source, target)


@torch.no_grad()
def copy_weight(name: str, tensor: Tensor, into: Tensor, where: str) -> None:
    """Copies one tensor into one of the same shape, in its precision.

    Raises:
        DamagedError: another shape, NaN or infinite. InputError: not floating-point.
    """
    if tensor.dtype not in FLOATS:
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise InputError(f"{where}: {name} is {dtype}: import the original, unquantised weights")
    if tensor.shape != into.shape:
        raise DamagedError(
            f"{where}: {name} is {_shape(tensor)}, but config.json asks for {_shape(into)}"
        )
    into.copy_(tensor)  # float64 weights that overflow are infinite here, and refused
    # a finite sum has finite terms, and is three times as fast
    if not bool(into.sum().isfinite()) and not bool(into.isfinite().all()):
        raise DamagedError(f"{where}: {name} has NaN or infinite values")


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype not in FLOATS:
        return False
    return torch.equal(one.to(other.dtype), other)


def _shape(tensor: Tensor) -> str:
    return " x ".join(str(size) for size in tensor.shape) or "a single number"
