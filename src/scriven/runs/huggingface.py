"""A run folder as a Hugging Face model: what `from_pretrained` expects to find in it.

    config.json  tokenizer.json  ...  README.md     written once, listed in manifest.json
    model.safetensors                               replaced by one rename, verifies itself

Weights come last: without them, there is no model. Where the other files change (a later release
describes a model in more words), the manifest lists the old and the new content meanwhile.

A fine-tuned decoder with labels is a model "for sequence classification" there: it pools the last
token that is no padding, as ours does. Encoders have another head there, and keep our own names.
"""

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from .. import config, registry
from ..errors import DamagedError, InputError
from ..files import printable, read_file, write_file
from ..manifest import MANIFEST, FileEntry, build_manifest, file_entry, read_listed, read_manifest
from ..tasks.shared.classification import SequenceClassification
from ..tasks.shared.supervised import BAG
from ..tasks.shared.words import WordScoring
from ..tokenizers import Tokenizer, chat_template
from .model_card import CARD, REWRITES, LossCurve, model_card, read_loss_curve
from .weights import save_tensors

WEIGHTS = "model.safetensors"
SCORE = "score.weight"
"""Hugging Face's name for the weights of a head for labels."""
FIXED = {"tokenizer.json"}
"""Files that give the weights their meaning: with another one, it is another model."""


# The architecture: config.json and the names of the weights


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
    if task is None or not is_labelled(task) or SCORE not in tensors:
        return dict(architecture.Model.from_hf_weights(model, tensors))
    # without the head for labels, it is the pre-trained model
    body = {name: tensor for name, tensor in tensors.items() if name != SCORE}
    weights = architecture.Model.from_hf_weights(model, body)
    if "head.weight" in weights:
        weights["words.weight"] = weights.pop("head.weight")
    return {**weights, "head.weight": tensors[SCORE]}


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
