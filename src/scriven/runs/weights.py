"""The weights of a run: their names in transformers, and a safetensors file that carries a SHA-256
of itself.

One file, so one rename publishes it, and one flipped bit anywhere is noticed without a second
file. The digest covers every byte of the file, with its own 64 characters taken as zeros; other
programs see one more line of metadata. Files are read through the package safetensors, and written
here, because the digest is computed over the very buffers that are written.
Source: https://github.com/huggingface/safetensors, "Format".

A fine-tuned decoder with labels is a model "for sequence classification" there: it pools the last
token that is no padding, as ours does. Encoders have another head there, and keep our own names.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load
from torch import Tensor

from .. import registry
from ..errors import DamagedError, InputError
from ..files import Buffer, printable, write_file
from ..manifest import file_size, read_error
from ..tasks.shared.classification import SequenceClassification
from ..tasks.shared.supervised import BAG
from ..tasks.shared.words import WordScoring

# The digest is written first, so that it always has the same place in the file.
_OPENING = b'{"__metadata__":{"sha256":"'
_START = 8 + len(_OPENING)
_STOP = _START + 64
_BLANK = "0" * 64

HEADER_LIMIT = 16_000_000
"""Bytes of a header. The format allows 100 MB, but parsing takes several times that."""
MAX_TENSORS = 100_000
"""Tensors in one file. A parsed entry takes ten times its text, so they are counted before."""

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
}


def encode(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> list[Buffer]:
    """The file as buffers; tensors that are on the CPU and contiguous are not copied, and must not
    change until it is written. The bytes depend on the content alone."""
    # 1. large types first, so that every tensor is aligned to its own type; then by name
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    dense = {name: tensors[name].detach().cpu().contiguous() for name in order}
    header: dict[str, Any] = {
        "__metadata__": {"sha256": _BLANK, "format": "pt", **(metadata or {})}
    }
    # 2. the header, with 64 zeros for the digest
    start = 0
    for name, tensor in dense.items():
        stop = start + tensor.numel() * tensor.element_size()
        described = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape)}
        header[name] = {**described, "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)  # keeps the tensors aligned
    head = bytearray(len(text).to_bytes(8, "little") + text)
    assert head[_START:_STOP] == _BLANK.encode(), "the digest is added here"
    # 3. the digest over header and data
    data = [one.reshape(-1).view(torch.uint8).numpy().data for one in dense.values()]
    digest = hashlib.sha256(head)
    for buffer in data:
        digest.update(buffer)
    head[_START:_STOP] = digest.hexdigest().encode("ascii")
    return [head, *data]


def save_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a safetensors file that is always the old one or the whole new one.

    Raises:
        ResourceError, InputError: as `files.write_file`.
    """
    write_file(path, encode(tensors, metadata))


def stored_digest(path: Path) -> str:
    """The SHA-256 that a file says of itself, which `load_tensors` checks.

    Raises:
        InputError: there is no such file. DamagedError: it has no digest.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_STOP)
    except FileNotFoundError as error:
        raise InputError(f"{printable(path)} is missing: this model has no weights yet") from error
    except OSError as error:
        raise read_error(path, error) from error
    if head[8:_START] != _OPENING:
        raise DamagedError(f"{printable(path)} has no digest: it is not written by Scriven")
    return head[_START:].decode("ascii", "replace")


def load_tensors(path: Path, *, require_digest: bool = True) -> dict[str, torch.Tensor]:
    """Maps a safetensors file into memory, after its digest has been checked.

    Args:
        require_digest: False for files of other programs, which may have none to check.

    Raises:
        DamagedError: the file is not what was written, or its header is hostile.
    """
    _check_header(path)
    with path.open("rb") as file:
        # the digest covers the file with its own 64 characters as zeros
        head = file.read(_STOP)
        if head[8:_START] == _OPENING:
            digest = hashlib.sha256(head[:_START] + _BLANK.encode("ascii"))
            while block := file.read(1 << 20):
                digest.update(block)
            if digest.hexdigest().encode("ascii") != head[_START:]:
                raise DamagedError(
                    f"{printable(path)} is damaged: its SHA-256 is not the one written inside"
                )
        elif require_digest:
            raise DamagedError(
                f"{printable(path)} has no digest: it is damaged or not written by Scriven"
            )
    return read_tensors(path)


def read_tensors(path: Path, *, copy: bool = False) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file on the CPU, mapped into memory; no digest is checked.

    Args:
        copy: whether each tensor gets memory of its own. Intel's MKL promises equal bits only for
            equal addresses modulo 64 bytes, and on AMD processors it makes use of that: a run that
            went on from tensors in the middle of a file was not the run that was never stopped.

    Raises:
        DamagedError: the file is no safetensors file, or its header is hostile.
    """
    _check_header(path)
    try:
        # the package checks offsets, shapes and types against the size of the file
        if str(path).encode(errors="ignore").decode() == str(path):
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        # it opens no file whose name is not UTF-8, so it gets the bytes of such a one
        else:
            tensors = load(path.read_bytes())
    except OSError as error:
        raise read_error(path, error) from error
    except (SafetensorError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DamagedError(
            f"{printable(path)} is not a whole safetensors file: {reason}"
        ) from error
    return {name: each.clone() for name, each in tensors.items()} if copy else tensors


def _check_header(path: Path) -> None:
    """Refuses a header that would take much memory or time to parse."""
    try:
        size = file_size(path)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            # before anything is allocated for it
            if size < 8 or length > min(HEADER_LIMIT, size - 8):
                raise DamagedError(
                    f"{printable(path)} is not a whole safetensors file: {size} bytes"
                )
            text = file.read(length)
    except OSError as error:
        raise read_error(path, error) from error
    if (
        text.count(b"{") + text.count(b"[") > 3 * MAX_TENSORS + 16
        or text.count(b",") > 8 * MAX_TENSORS
    ):
        raise DamagedError(f"{printable(path)} has more than {MAX_TENSORS} tensors")


SCORE = "score.weight"
"""Hugging Face's name for the weights of a head for labels."""


def is_labelled(task: str) -> bool:
    """Whether a task, a file of tasks/, ends in a head for labels or scores."""
    return issubclass(registry.module("scriven.tasks", task).Task, SequenceClassification)


def scores_words(task: str) -> bool:
    """Whether a task scores the words of a text, as no class of transformers reads it."""
    return issubclass(registry.module("scriven.tasks", task).Task, WordScoring)


def hf_config_of(
    architecture: ModuleType,
    model: Any,
    task: str | None = None,
    finetune: dict[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Hugging Face's config.json; None where it has no such model with this head.

    Args:
        task: of the run; what the architecture is pre-trained for by default.
        finetune: metadata of a fine-tuning, with the names of its labels.
    """
    finetune = finetune or {}
    hf_config: dict[str, Any] | None = architecture.Model.to_hf_config(model)
    if any(finetune.get(name) for name in ("copy_head", "lm_score_weight", "bag_of_words")):
        return None
    if task is not None and scores_words(task):
        return None
    if hf_config is None or task is None or not is_labelled(task):
        return hf_config
    if not architecture.Model.labels_in_hf:
        return None
    # transformers names classes by model and head: GPT2LMHeadModel, GPT2ForSequenceClassification
    family, decoders = re.subn("(ForCausalLM|LMHeadModel)$", "", hf_config["architectures"][0])
    if not decoders:
        return None
    labels = finetune.get("labels") or ["SCORE"]
    return {
        **hf_config,
        "architectures": [f"{family}ForSequenceClassification"],
        "num_labels": len(labels),
        "id2label": {str(number): name for number, name in enumerate(labels)},
        "label2id": {name: number for number, name in enumerate(labels)},
        "problem_type": "multi_label_classification"
        if task == "multilabel"
        else ("regression" if len(labels) == 1 else "single_label_classification"),
    }


def to_hf_weights(
    architecture: ModuleType, model: Any, tensors: dict[str, Tensor], task: str | None = None
) -> dict[str, Tensor]:
    """Our weights under Hugging Face's names, in main memory; a tied head is not stored.

    Where Hugging Face has no such model, under our own names.
    """
    plain = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    # none there has a copy head or a bag of words
    unknown = {"pointer.query.weight", BAG} & plain.keys()
    if unknown or hf_config_of(architecture, model, task) is None:
        return plain
    if task is None or not is_labelled(task):
        return dict(architecture.Model.to_hf_weights(model, plain))
    # transformers calls a head for labels `score`, and the one for tokens beside it as usual
    score, words = plain.pop("head.weight"), plain.pop("words.weight", None)
    if words is not None:
        plain["head.weight"] = words
    return {**architecture.Model.to_hf_weights(model, plain), SCORE: score}


def from_hf_weights(
    architecture: ModuleType, model: Any, tensors: dict[str, Tensor], task: str | None = None
) -> dict[str, Tensor]:
    """The inverse of `to_hf_weights`.

    Raises:
        DamagedError: tensors that are missing or belong to another model.
    """
    if any(name.startswith("backbone.") for name in tensors):  # saved under our own names
        return tensors
    if SCORE not in tensors or task is None or not is_labelled(task):
        return dict(architecture.Model.from_hf_weights(model, tensors))
    # without the head for labels, it is the pre-trained model
    body = {name: tensor for name, tensor in tensors.items() if name != SCORE}
    weights = architecture.Model.from_hf_weights(model, body)
    if "head.weight" in weights:
        weights["words.weight"] = weights.pop("head.weight")
    return {**weights, "head.weight": tensors[SCORE]}
