"""A run folder as a Hugging Face model: what `from_pretrained` wants to find in it."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .. import config, registry
from ..errors import DamagedError, InputError
from ..files import printable, read_file, write_file
from ..models.shared.names import from_twin, to_twin
from ..tasks.shared.classification import SequenceClassification
from ..tokenizers import Tokenizer, chat_template, save_tokenizer
from . import card_task, manifest, weights
from .model_card import Curve, model_card, read_loss_curve

CLASSIFIERS = {
    "LlamaForCausalLM": "LlamaForSequenceClassification",
    "Qwen3ForCausalLM": "Qwen3ForSequenceClassification",
    "GPT2LMHeadModel": "GPT2ForSequenceClassification",
    "OpenAIGPTLMHeadModel": "OpenAIGPTForSequenceClassification",
}
"""The twin with a head for labels, of the twin with one for tokens."""
SCORE = "score.weight"


def is_labelled(task: str) -> bool:
    """Whether a task, a file of tasks/, ends in a head for labels or scores."""
    return issubclass(registry.module("scriven.tasks", task).Task, SequenceClassification)


def hf_config_of(
    architecture: ModuleType,
    model: Any,
    task: str | None = None,
    facts: dict[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Hugging Face's config.json; None where no twin of this model with this head exists.

    Args:
        task: of the run; what the architecture is pre-trained for by default.
        facts: of a fine-tuning, with the names of its labels.
    """
    twin: dict[str, Any] | None = architecture.foreign(model)
    if (facts or {}).get("copy_head") or (facts or {}).get("lm_score_weight"):
        return None
    if twin is None or task is None or not is_labelled(task):
        return twin
    kind = CLASSIFIERS.get(twin["architectures"][0])
    if kind is None:
        return None
    labels = (facts or {}).get("labels") or ["SCORE"]
    return {
        **twin,
        "architectures": [kind],
        "num_labels": len(labels),
        "id2label": {str(number): name for number, name in enumerate(labels)},
        "label2id": {name: number for number, name in enumerate(labels)},
        "problem_type": "regression" if len(labels) == 1 else "single_label_classification",
    }


def config_json_of(
    architecture: ModuleType, model: Any, task: str | None, facts: dict[str, Any] | None
) -> dict[str, Any]:
    """The twin's config.json, or one that only describes a model without a twin."""
    twin = hf_config_of(architecture, model, task, facts)
    if twin is not None:
        return twin
    kind = f"scriven-{Path(architecture.__file__ or '').stem}"
    return {"model_type": kind, **config.to_dict(model)}


def to_hf_weights(
    architecture: ModuleType, model: Any, tensors: dict[str, Tensor], task: str | None = None
) -> dict[str, Tensor]:
    """Our weights under Hugging Face's names, in main memory; a tied head is not stored.

    Where Hugging Face has no twin of this model, under our own names.
    """
    plain = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    if _copies(plain) or hf_config_of(architecture, model, task) is None:
        return plain
    if task is None or not is_labelled(task):
        return to_twin(architecture, model, plain)
    score, words = plain.pop("head.weight"), plain.pop("words.weight", None)
    if words is not None:
        plain["head.weight"] = words
    return {**to_twin(architecture, model, plain), SCORE: score}


def from_hf_weights(
    architecture: ModuleType, model: Any, tensors: dict[str, Tensor], task: str | None = None
) -> dict[str, Tensor]:
    """The inverse of `foreign_weights`.

    Raises:
        DamagedError: tensors that are missing or belong to another model.
    """
    if _copies(tensors) or hf_config_of(architecture, model, task) is None:
        return tensors
    if task is None or not is_labelled(task) or SCORE not in tensors:
        return from_twin(architecture, model, tensors)
    theirs = {name: tensor for name, tensor in tensors.items() if name != SCORE}
    found = from_twin(architecture, model, theirs)
    if "head.weight" in found:
        found["words.weight"] = found.pop("head.weight")
    return {**found, "head.weight": tensors[SCORE]}


def _copies(tensors: dict[str, Tensor]) -> bool:
    """Whether a model copies from its source, which no twin does."""
    return "pointer.query.weight" in tensors


CARD = "README.md"


def hf_files(
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
    twin = config_json_of(architecture, model, told.get("task"), told.get("finetune"))
    if twin.get("is_encoder_decoder"):
        ids["decoder_start_token_id"] = tokenizer.pad
    # readers before transformers 5 look for torch_dtype, later ones for dtype
    shape = {**twin, **ids, "dtype": "float32", "torch_dtype": "float32"}
    generation: dict[str, Any] = {"do_sample": True, "temperature": 0.8, "max_new_tokens": 200}
    template = chat_template.TEMPLATE if told.get("task") in chat_template.TASKS else None
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(
            tokenizer, Path(folder), context_length=model.context_length, template=template
        )
        written = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    if template is not None:
        written[chat_template.TEMPLATE_FILE] = template.encode()
        generation |= _answers(tokenizer, [tokenizer.special_token_ids["end"], tokenizer.eos])
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


def rewrite_model_card(folder: Path, record: Mapping[str, Any]) -> None:
    """The model card anew, of a run that has more to tell than when it was published."""
    names = [name for name in manifest.read(folder) if name != CARD]
    files = {name: read_pretrained_file(folder, name) for name in names}
    card = model_card(record, json.loads(files["config.json"]), read_loss_curve(folder))
    save_pretrained_files(folder, {**files, CARD: card.encode(errors="replace")})


def _answers(tokenizer: Tokenizer, ends: list[int]) -> dict[str, Any]:
    """What ends an answer; no other special token is written."""
    never = sorted(set(tokenizer.special_token_ids.values()) - set(ends))
    return {"eos_token_id": ends, "suppress_tokens": never}


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


WEIGHTS = "model.safetensors"
FIXED = {"tokenizer.json"}
"""Files that give the weights their meaning: with another one, it is another model."""
PROSE = {"README.md"}
"""Files for people only: no program reads them, so they may change and be edited."""


def save_pretrained(
    folder: Path,
    files: Mapping[str, bytes],
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Makes these weights the model of the run folder: `publish_files`, then `publish_weights`."""
    save_pretrained_files(folder, files)
    save_pretrained_weights(folder, tensors, metadata)


def save_pretrained_weights(
    folder: Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Replaces the weights, by one rename.

    Args:
        folder: the run folder, where `publish_files` has been called.
        tensors: the weights; tied ones are named once.
        metadata: further text for the header.

    Raises:
        ResourceError: the disk is full or broken; the weights published before are untouched.
        InputError: the folder cannot be written to.
    """
    weights.save_tensors(folder / WEIGHTS, tensors, metadata)


def save_pretrained_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes the files that go with every state of the weights; those already there are kept.

    Args:
        folder: the run folder.
        files: plain file name -> content; tokenizer.json is the same in every call.

    Raises:
        InputError: the folder already holds a model of another tokenizer, or cannot be written to.
        ResourceError: the disk is full or broken; what was published before is untouched.
    """
    assert WEIGHTS not in files and manifest.NAME not in files
    assert all(Path(name).name == name for name in files), "plain names only"
    wanted = {name: manifest.entry(content) for name, content in files.items()}
    listed = _listed(folder) if os.path.exists(folder / WEIGHTS) else {}
    for name in FIXED & listed.keys():
        if wanted.get(name) != listed[name]:
            raise InputError(
                f"{printable(folder)} already holds another model ({name} differs): choose "
                "another folder with --out"
            )
    if listed not in ({}, wanted):
        write_file(folder / manifest.NAME, manifest.build(files, before=listed))
    for name, content in files.items():
        if not _holds(folder / name, content):
            write_file(folder / name, content)
    if listed != wanted:
        write_file(folder / manifest.NAME, manifest.build(files))


def verify_pretrained(folder: Path) -> list[str]:
    """Checks every published file.

    Returns:
        A sentence for each file for people that was edited since.

    Raises:
        DamagedError: a file that programs read is missing or not what was written; names it.
    """
    notes = []
    before = manifest.read(folder, "before")
    for name, entry in manifest.read(folder).items():
        try:
            _read(folder, name, entry, before.get(name))
        except DamagedError:
            if name not in PROSE:
                raise
            notes.append(f"{name} was edited after it was written")
    weights.load_tensors(folder / WEIGHTS)
    return notes


def read_pretrained_file(folder: Path, name: str) -> bytes:
    """The content of one published file (config.json, tokenizer.json), checked.

    Raises:
        DamagedError: it is missing or not what was written.
    """
    listed = manifest.read(folder)
    if name not in listed:
        raise DamagedError(f"{printable(folder / name)} is not among the published files")
    before = manifest.read(folder, "before")
    return bytes(_read(folder, name, listed[name], before.get(name)))


def _read(
    folder: Path, name: str, entry: manifest.Entry, before: manifest.Entry | None
) -> bytearray:
    """The content of a listed file, which may be the former one in the middle of a change."""
    try:
        return manifest.read_checked(folder, name, entry)
    except DamagedError:
        if before is None:
            raise
    return manifest.read_checked(folder, name, before)


def _listed(folder: Path) -> dict[str, manifest.Entry]:
    """What is published; nothing where the list is damaged, so that it is written again."""
    try:
        return manifest.read(folder)
    except DamagedError:
        return {}


def _holds(path: Path, content: bytes) -> bool:
    try:
        return read_file(path, len(content)) == content
    except DamagedError:
        return False
