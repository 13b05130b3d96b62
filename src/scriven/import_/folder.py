"""What a Hugging Face folder holds: which architecture of ours it is, of which shape, and where
its weights are.

Everything is refused here that can be told from the small files, before any weights are read.
Knows no tensor.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import config, registry
from ..errors import InputError, SettingError
from ..files import printable, read_file
from ..models.base import pretraining
from ..runs import metadata
from ..tokenizers import Tokenizer, chat_template, load_tokenizer

CONFIG = "config.json"
SINGLE = "model.safetensors"
PICKLED = ("pytorch_model.bin", "model.bin", "model.pt", "model.pth")
"""Weights that can only be read by a loader that runs what it finds."""
LONGEST = 64 << 20


@dataclass(frozen=True)
class Foreign:
    """A folder of another program."""

    path: Path
    config: dict[str, Any]
    """The content of config.json."""
    kind: str
    """The class in transformers that it is, `LlamaForCausalLM`."""
    name: str
    """The architecture of ours."""
    module: ModuleType
    """Its file."""
    model: Any
    """Its Config, of this shape."""
    tokenizer: Tokenizer
    talks: bool
    """Whether it comes with our template for conversations, so that it has learnt to answer."""

    @property
    def task(self) -> str:
        """What it was trained for. An encoder-decoder without a mask has never seen a gap, so it
        was trained on pairs."""
        usual = pretraining(self.module)
        if self.talks and usual != "masked":
            return "chat"
        return "pairs" if usual == "seq2seq" and self.tokenizer.mask is None else usual


def open_foreign(path: Path) -> Foreign:
    """Reads the small files of a folder and refuses what cannot be used.

    Raises:
        InputError: no such folder, an architecture or a field that we do not have, a size that is
            too large, or a tokenizer that is not this model's. DamagedError: a file is broken.
    """
    where = printable(path)
    if not path.is_dir():
        raise InputError(f"{where} is no folder: name a Hugging Face folder with {CONFIG} in it")
    if not (path / CONFIG).exists():
        raise InputError(f"{where} holds no {CONFIG}: it is no Hugging Face folder")
    theirs = read_json(path / CONFIG)
    name, module, fields = _adopt(theirs, where)
    try:
        model = config.replace(module.Config(), fields, "model")
        metadata.check_size({"architecture": name, "model": config.to_dict(model)})
    except InputError as error:
        text = str(error).removeprefix(f"{metadata.NAME}: ")
        raise InputError(f"{where}/{CONFIG} cannot be used: {text}") from error
    tokenizer = load_tokenizer(path)
    _check_tokenizer(tokenizer, theirs, model, path)
    kind = str(module.foreign(model)["architectures"][0])
    talks = (
        _template(path) == chat_template.TEMPLATE
        and set(chat_template.NEEDS) <= tokenizer.special_token_ids.keys()
    )
    found = Foreign(path, theirs, kind, name, module, model, tokenizer, talks)
    for each in registry.module("scriven.tasks", found.task).Task.EXTRA_TOKENS:
        if each not in tokenizer.special_token_ids:
            raise InputError(
                f"{where}/tokenizer_config.json names no {each}_token: add "
                "the one that the model was trained with"
            )
    return found


def _template(path: Path) -> object:
    """What the folder says of writing a conversation; it is compared, and never run."""
    alone = path / chat_template.TEMPLATE_FILE
    if alone.is_file():
        return read_file(alone, LONGEST).decode("utf-8", "replace")
    return read_json(path / "tokenizer_config.json").get("chat_template")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of another program.

    Raises:
        InputError: it is none.
    """
    try:
        content = json.loads(read_file(path, LONGEST))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{printable(path)} is not JSON: get the file again") from error
    if not isinstance(content, dict):
        raise InputError(f"{printable(path)} is not a JSON object: get the file again")
    return content


def shards(path: Path) -> tuple[list[Path], dict[str, str] | None]:
    """(files with weights, which tensor is in which file), the second None for a single file.

    Raises:
        InputError: there are none, or only ones that would have to be unpickled.
    """
    index = path / f"{SINGLE}.index.json"
    if (path / SINGLE).exists():
        return [path / SINGLE], None
    if index.exists():
        places = listed(index)
        return [path / name for name in sorted(set(places.values()))], places
    if pickled(path):
        raise InputError(refuse_pickle(pickled(path)[0]))
    raise InputError(f"{printable(path)} holds no weights: {SINGLE} is missing")


def listed(index: Path) -> dict[str, str]:
    """Tensor -> file, as an index of several files says; only files beside it are named."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise InputError(f"{printable(index)} has no weight_map: get the file again")
    for name in places.values():
        if not isinstance(name, str) or Path(name).name != name or name in ("", "..", "."):
            raise InputError(f"{printable(index)} names a file outside the folder: not followed")
    return places


def pickled(path: Path) -> list[Path]:
    """The files of a folder that hold weights as a pickle."""
    index = path / f"{PICKLED[0]}.index.json"
    if index.exists():
        return [path / name for name in sorted(set(listed(index).values()))]
    return [path / name for name in PICKLED if (path / name).exists()][:1]


def refuse_pickle(path: Path) -> str:
    """What to say of a pickle."""
    folder = path if path.is_dir() else path.parent
    return (
        f"{printable(path)} is a pickle, which can run code when it is read: "
        f"`scriven import {printable(folder)} --convert` takes only the tensors out of it, in a "
        "confined process"
    )


def _adopt(theirs: dict[str, Any], where: str) -> tuple[str, ModuleType, dict[str, Any]]:
    """The architecture of ours that this is, and the fields of its Config."""
    if theirs.get("quantization_config") is not None:
        raise InputError(f"{where} is quantised: import the original weights")
    names = registry.names("scriven.models")
    for name in names:
        module = registry.module("scriven.models", name)
        if not hasattr(module, "adopt"):
            continue
        try:
            fields = module.adopt(theirs)
        except SettingError as error:
            raise InputError(f"{where}/{error}") from error
        if fields is not None:
            return name, module, fields
    named = theirs.get("architectures") or theirs.get("model_type")
    kind = named[0] if isinstance(named, list) and named else named
    if str(kind).startswith("scriven-"):
        raise InputError(f"{where} is a run folder already: use it as it is, or copy it")
    known = (each for each in names if hasattr(registry.module("scriven.models", each), "adopt"))
    raise InputError(
        f"{where} is a {str(kind)[:80]!r}, which has no architecture here: there are "
        f"{', '.join(known)}"
    )


def _check_tokenizer(tokenizer: Tokenizer, theirs: dict[str, Any], model: Any, path: Path) -> None:
    """Refuses a tokenizer that is not the one the model was trained with, as far as can be told."""
    where = printable(path / "tokenizer.json")
    if tokenizer.vocab_size > model.vocab_size:
        raise InputError(
            f"{where} is not this model's: it has {tokenizer.vocab_size:,} tokens and the model "
            f"knows {model.vocab_size:,}; put the right one there"
        )
    padding = getattr(model, "padding", None)
    if padding is not None and padding != tokenizer.pad:  # positions are counted from it
        raise InputError(
            f"{where} is not this model's: it pads with {tokenizer.pad} ({tokenizer.pad_token}) "
            f"and the model with {padding}; put the right one there"
        )
    ends = theirs.get("eos_token_id")
    if ends is not None and tokenizer.eos not in (ends if isinstance(ends, list) else [ends]):
        raise InputError(
            f"{where} is not this model's: it ends a text with {tokenizer.eos} "
            f"({tokenizer.eos_token}) and the model with {str(ends)[:40]}; put the right one there"
        )
    if (path / metadata.NAME).exists():  # a run folder of ours knows its tokenizer exactly
        kept = metadata.read_metadata(path).get("tokenizer")
        if isinstance(kept, dict) and kept.get("fingerprint") != tokenizer.fingerprint:
            raise InputError(
                f"{where} is not the one this model was trained with: put the original file back"
            )
