"""A run folder as a Hugging Face model: what `from_pretrained` wants to find in it."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from .. import config
from ..models.shared.names import from_twin, to_twin
from ..text import Tokenizer, save_tokenizer
from .card import Curve, model_card


def foreign_weights(
    architecture: ModuleType, model: Any, tensors: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Our weights under Hugging Face's names, in main memory; a tied head is not stored.

    Where Hugging Face has no twin of this model, under our own names.
    """
    plain = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    if architecture.foreign(model) is None:
        return plain
    return to_twin(architecture, model, plain)


def own_weights(
    architecture: ModuleType, model: Any, tensors: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The inverse of `foreign_weights`."""
    if architecture.foreign(model) is None:
        return tensors
    return from_twin(architecture, model, tensors)


def describe_files(
    architecture: ModuleType,
    model: Any,
    name: str,
    tokenizer: Tokenizer,
    record: Mapping[str, Any] | None = None,
    curve: Curve = (),
) -> dict[str, bytes]:
    """Everything beside the weights: shape, defaults for writing, tokenizer and model card.

    Where Hugging Face has no twin of this model, config.json only describes it.

    Args:
        architecture: its file. model: its Config. name: of the run. tokenizer: of the run.
        record: the content of scriven.json, for the card.
        curve: the validation losses, for the card.
    """
    ids = {
        "bos_token_id": tokenizer.eos,  # a text starts as if another had just ended
        "eos_token_id": tokenizer.eos,
        "pad_token_id": tokenizer.pad,
    }
    twin = architecture.foreign(model)
    if twin is None:
        twin = {"model_type": f"scriven-{Path(architecture.__file__ or '').stem}"}
        twin |= config.to_dict(model)
    if twin.get("is_encoder_decoder"):
        ids["decoder_start_token_id"] = tokenizer.pad
    # readers before transformers 5 look for torch_dtype, later ones for dtype
    shape = {**twin, **ids, "dtype": "float32", "torch_dtype": "float32"}
    generation = {**ids, "do_sample": True, "temperature": 0.8, "max_new_tokens": 200}
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(tokenizer, Path(folder), context=model.context)
        written = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    about = {"name": name, "model": config.to_dict(model), **(record or {})}
    return {
        **written,
        "config.json": _json(shape),
        "generation_config.json": _json(generation),
        "README.md": model_card(about, shape, curve).encode(errors="replace"),
    }


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
