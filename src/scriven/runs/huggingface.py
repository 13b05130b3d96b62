"""A run folder as a Hugging Face model: what `from_pretrained` expects to find in it.

    config.json  tokenizer.json  ...  README.md     written once, listed in manifest.json
    model.safetensors                               replaced by one rename, verifies itself

Weights come last: without them, there is no model. Where the other files change (a later release
describes a model in more words), the manifest lists the old and the new content meanwhile.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from .. import config
from ..errors import DamagedError, InputError
from ..files import printable, write_file
from ..manifest import (
    MANIFEST,
    FileEntry,
    build_manifest,
    file_entry,
    read_file,
    read_listed,
    read_manifest,
)
from ..tokenizers import Tokenizer, chat_template
from .model_card import CARD, REWRITES, LossCurve, model_card, read_loss_curve
from .weights import hf_config_of, save_tensors

WEIGHTS = "model.safetensors"
FIXED = {"tokenizer.json"}
"""Files that give the weights their meaning: with another one, it is another model."""


# The architecture: config.json and the names of the weights


# The files beside the weights


def hf_files(
    architecture: ModuleType,
    model: Any,
    name: str,
    tokenizer: Tokenizer,
    metadata: Mapping[str, Any] | None = None,
    curve: LossCurve = (),
) -> dict[str, bytes]:
    """Everything beside the weights: config, generation defaults, tokenizer and model card.

    Where transformers has no such model, config.json only describes it.

    Args:
        metadata, curve: the content of scriven.json and the losses, for the model card.
    """
    metadata = {"name": name, "model": config.to_dict(model), **(metadata or {})}
    task, ids = metadata.get("task"), tokenizer.special_token_ids
    # 1. config.json; readers before transformers 5 look for torch_dtype, later ones for dtype
    hf_config = hf_config_of(architecture, model, task, metadata.get("finetune")) or {
        "model_type": f"scriven-{Path(architecture.__file__ or '').stem}",
        **config.to_dict(model),
    }
    special = {
        # a text starts as if another had just ended, where the model has no token for it
        "bos_token_id": tokenizer.special.get(tokenizer.bos_token or "", tokenizer.eos),
        "eos_token_id": tokenizer.eos,
        "pad_token_id": tokenizer.pad,
    }
    if hf_config.get("is_encoder_decoder"):
        special["decoder_start_token_id"] = hf_config.get("decoder_start_token_id", tokenizer.pad)
    hf_config = {**hf_config, **special, "dtype": "float32", "torch_dtype": "float32"}
    # 2. the tokenizer, with a template where the model has learnt to answer in conversations
    template = chat_template.template_of(tokenizer, task)
    files = tokenizer.to_files(context_length=model.context_length, template=template)
    # 3. how it generates: the ids that end an answer; no other special token is generated
    generation: dict[str, Any] = {"do_sample": True, "temperature": 0.8, "max_new_tokens": 200}
    ends: list[int] = []
    if template is not None:
        files[chat_template.TEMPLATE_FILE] = template.encode()
        # a model ends its turn with <|im_end|>, or ends the text
        ends = list(dict.fromkeys([ids.get("end", tokenizer.eos), tokenizer.eos]))
    elif task in REWRITES:  # there is one right answer, so nothing is drawn
        generation, ends = {"do_sample": False, "max_new_tokens": 256}, [tokenizer.eos]
    if ends:
        generation["eos_token_id"] = ends
        generation["suppress_tokens"] = sorted(set(ids.values()) - set(ends))
    # 4. the model card, which also names the class of config.json
    card = model_card(metadata, hf_config, curve)
    return {
        **files,
        "config.json": _json(hf_config),
        "generation_config.json": _json({**special, **generation}),
        CARD: card.encode(errors="replace"),
    }


def rewrite_model_card(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Writes the model card again, of a run that has more results than when it was published."""
    # all other files stay as they are, checked while they are read
    files = {
        name: read_pretrained_file(folder, name) for name in read_manifest(folder) if name != CARD
    }
    card = model_card(metadata, json.loads(files["config.json"]), read_loss_curve(folder))
    save_pretrained_files(folder, {**files, CARD: card.encode(errors="replace")})


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


# Writing and checking the folder


def save_pretrained(
    folder: Path,
    files: Mapping[str, bytes],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Makes these weights the model of the run folder: its files first, then `WEIGHTS`.

    Args:
        tensors: the weights; tied ones are named once. metadata: further text for their header.

    Raises:
        InputError, ResourceError: as `save_pretrained_files`.
    """
    save_pretrained_files(folder, files)
    save_tensors(folder / WEIGHTS, tensors, metadata)


def save_pretrained_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes the files beside the weights; those that hold the same already are not touched.

    Raises:
        InputError: the folder already holds a model of another tokenizer, or cannot be written to.
        ResourceError: the disk is full or broken; what was published before is untouched.
    """
    assert WEIGHTS not in files and MANIFEST not in files
    assert all(Path(name).name == name for name in files), "plain names only"
    new = {name: file_entry(content) for name, content in files.items()}
    # files without weights beside them are leftovers of a first publication that was killed, and
    # a damaged list is written again
    old: dict[str, FileEntry] = {}
    if os.path.exists(folder / WEIGHTS):
        with contextlib.suppress(DamagedError):
            old = read_manifest(folder)
    # the weights there belong to the tokenizer there
    for name in FIXED & old.keys():
        if new.get(name) != old[name]:
            raise InputError(
                f"{printable(folder)} already holds another model ({name} differs): choose "
                "another folder with --out"
            )
    # 1. while files are replaced, the manifest lists the old and the new content of each
    if old not in ({}, new):
        write_file(folder / MANIFEST, build_manifest(files, replacing=old))
    # 2. the files
    for name, content in files.items():
        if not _holds(folder / name, content):
            write_file(folder / name, content)
    # 3. from here on, only the new content is accepted
    if old != new:
        write_file(folder / MANIFEST, build_manifest(files))


def read_pretrained_file(folder: Path, name: str) -> bytes:
    """The content of one published file (config.json, tokenizer.json), checked.

    Raises:
        DamagedError: it is missing or not what was written.
    """
    listed, replacing = read_manifest(folder), read_manifest(folder, replacing=True)
    if name not in listed:
        raise DamagedError(f"{printable(folder / name)} is not among the published files")
    try:
        # in the middle of a change, the former content is whole as well
        return bytes(read_listed(folder, name, listed[name]))
    except DamagedError:
        if name not in replacing:
            raise
    return bytes(read_listed(folder, name, replacing[name]))


def _holds(path: Path, content: bytes) -> bool:
    try:
        return read_file(path, len(content)) == content
    except DamagedError:
        return False
