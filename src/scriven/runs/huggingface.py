"""A run folder as a Hugging Face model: what `from_pretrained` wants to find in it."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import config
from ..tokenizers import Tokenizer, chat, save_tokenizer
from . import card_task, manifest
from .card import Curve, model_card, read_curve
from .publish import publish_files, read_published
from .twin import describe_shape

CARD = "README.md"


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
    told = dict(record or {})
    twin = describe_shape(architecture, model, told.get("task"), told.get("finetune"))
    if twin.get("is_encoder_decoder"):
        ids["decoder_start_token_id"] = tokenizer.pad
    # readers before transformers 5 look for torch_dtype, later ones for dtype
    shape = {**twin, **ids, "dtype": "float32", "torch_dtype": "float32"}
    generation: dict[str, Any] = {"do_sample": True, "temperature": 0.8, "max_new_tokens": 200}
    template = chat.TEMPLATE if told.get("task") in chat.TASKS else None
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(
            tokenizer, Path(folder), context_length=model.context_length, template=template
        )
        written = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    if template is not None:
        written[chat.TEMPLATE_FILE] = template.encode()
        generation |= _answers(tokenizer, [tokenizer.structure["end"], tokenizer.eos])
    elif told.get("task") in card_task.REWRITES:  # there is one right answer, so nothing is drawn
        generation = {
            "do_sample": False,
            "max_new_tokens": 256,
            **_answers(tokenizer, [tokenizer.eos]),
        }
    about = {"name": name, "model": config.to_dict(model), **told}
    return {
        **written,
        "config.json": _json(shape),
        "generation_config.json": _json({**ids, **generation}),
        CARD: model_card(about, shape, curve).encode(errors="replace"),
    }


def rewrite_card(folder: Path, record: Mapping[str, Any]) -> None:
    """The model card anew, of a run that has more to tell than when it was published."""
    names = [name for name in manifest.read(folder) if name != CARD]
    files = {name: read_published(folder, name) for name in names}
    card = model_card(record, json.loads(files["config.json"]), read_curve(folder))
    publish_files(folder, {**files, CARD: card.encode(errors="replace")})


def _answers(tokenizer: Tokenizer, ends: list[int]) -> dict[str, Any]:
    """What ends an answer; no other special token is written."""
    never = sorted(set(tokenizer.structure.values()) - set(ends))
    return {"eos_token_id": ends, "suppress_tokens": never}


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
