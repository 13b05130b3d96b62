"""The weight files of a Hugging Face folder: which they are, and their tensors, checked.

The shapes come from the model itself, made on torch's `meta` device, so a file is refused before
anything as large as the model is allocated. Pickled files are only read by `sandbox.py`.
"""

import contextlib
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import registry
from ..errors import DamagedError, InputError, ResourceError
from ..files import printable, read_file
from ..format import format_bytes
from ..runs.weights import load_tensors
from ..runtime import available_memory
from .sandbox import convert_pickle

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

_BUFFERS = re.compile(
    r"\.(attn\.(masked_)?bias|rotary_emb\.inv_freq|position_ids|token_type_ids"
    r"|(en|de)coder\.embed_positions\.weight)$"
)
"""What transformers has stored beside the weights at times: masks and tables, computed anew."""


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
    for name in weight_map.values():
        if not isinstance(name, str) or Path(name).name != name or name in ("", "..", "."):
            raise InputError(f"{printable(index)} names a file outside the folder: not followed")
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


@contextlib.contextmanager
def converted_folder(path: Path) -> Iterator[Path]:
    """A temporary copy of a folder with safetensors in place of pickles.

    Args:
        path: a Hugging Face folder, or a file of weights in one.

    Raises:
        InputError: there is no pickle, it holds more than tensors, or this system has no sandbox.
    """
    if sys.platform == "win32":
        raise InputError("--convert needs Linux or macOS: a process cannot be confined here")
    folder = path if path.is_dir() else path.parent
    pickles = pickled_files(folder) if path.is_dir() else [path]
    if not pickles:
        raise InputError(f"{printable(path)} holds no pickled weights: leave --convert away")
    with tempfile.TemporaryDirectory(prefix="scriven-") as temporary:
        target = Path(temporary) / "converted"
        target.mkdir()
        # copies, so that nothing else of the folder is reachable under the new path
        for name in SMALL_FILES:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, target / name)
        weight_map: dict[str, str] = {}
        for number, pickle in enumerate(pickles, 1):
            name = SINGLE
            if len(pickles) > 1:
                name = f"model-{number:05}-of-{len(pickles):05}.safetensors"
            convert_pickle(pickle, target / name)
            if len(pickles) > 1:
                weight_map |= dict.fromkeys(load_tensors(target / name), name)
        if weight_map:
            index = json.dumps({"metadata": {}, "weight_map": weight_map})
            (target / f"{SINGLE}.index.json").write_text(index, encoding="utf-8")
        yield target


def expected_tensors(
    module: Any, model_config: Any, special: Mapping[str, int]
) -> dict[str, Tensor]:
    """The weights of a model of this config under Hugging Face's names, on `meta`.

    Raises:
        ResourceError: they would not fit into memory.
    """
    task_file = registry.module("scriven.tasks", module.Model.pretraining_task)
    with torch.device("meta"):  # shapes without memory
        task = task_file.Task(module.Model(model_config), special=special)
    size = 4 * sum(weight.numel() for weight in task.parameters())
    available = available_memory()
    if available is not None and size > available:
        raise ResourceError(
            f"this model needs {format_bytes(size)} of memory and {format_bytes(available)} are "
            "free"
        )
    return dict(module.Model.to_hf_weights(model_config, task.state_dict()))


def read_weights(
    files: Iterable[Path], weight_map: Mapping[str, str] | None, expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weights in some safetensors files, in float32, under the names expected.

    Args:
        files: safetensors files.
        weight_map: tensor -> file name, where there is an index.
        expected: name -> shape; what else the files hold may only be a copy of one of them.

    Raises:
        DamagedError: a tensor is missing, unknown, of another shape, NaN or infinite.
        InputError: a tensor is not floating-point: quantised weights.
    """
    weights: dict[str, Tensor] = {}
    prefixes = sorted({name.split(".", 1)[0] + "." for name in expected})
    others: dict[str, tuple[Path, Tensor]] = {}
    # 1. the tensors that the model has
    for path in files:
        for stored, tensor in load_tensors(path, require_digest=False).items():
            if weight_map is not None and weight_map.get(stored) != path.name:
                raise DamagedError(f"{printable(path)} holds {stored}, which its index does not")
            name = stored
            if name not in expected:  # files of the model without its head leave out a prefix
                name = next((each + name for each in prefixes if each + name in expected), name)
            if name not in expected:
                if not _BUFFERS.search(name):
                    others[name] = path, tensor
                continue
            if name in weights:
                raise DamagedError(f"{printable(path)} holds {stored} once more: get it again")
            weights[name] = _checked(stored, tensor, expected[name], path)
    for name in expected:
        if name not in weights:
            raise DamagedError(f"the weights lack {name}: get the folder again")
    # 2. the others may be a tied matrix that is stored twice, or a bias that adds nothing
    for name, (path, tensor) in others.items():
        zero_bias = name.endswith("bias") and not bool(tensor.any())
        if not zero_bias and not any(_equal(tensor, weight) for weight in weights.values()):
            raise DamagedError(
                f"{printable(path)} holds {name[:80]}, which this architecture does not have here"
            )
    return weights


def _checked(name: str, tensor: Tensor, expected: Tensor, path: Path) -> Tensor:
    if tensor.dtype not in FLOATS:
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise InputError(
            f"{printable(path)}: {name} is {dtype}: import the original, unquantised weights"
        )
    if tensor.shape != expected.shape:
        raise DamagedError(
            f"{printable(path)}: {name} is {_shape(tensor)}, but config.json asks for "
            f"{_shape(expected)}"
        )
    wide = tensor.float()  # float64 weights that overflow are infinite here, and refused
    if not bool(wide.isfinite().all()):
        raise DamagedError(f"{printable(path)}: {name} has NaN or infinite values")
    return wide


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype not in FLOATS:
        return False
    return torch.equal(one.float(), other)


def _shape(tensor: Tensor) -> str:
    return " x ".join(str(size) for size in tensor.shape) or "a single number"
