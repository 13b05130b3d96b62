"""`scriven import`: a Hugging Face folder becomes a run folder, whole or not at all.

Everything that the small files tell is checked before any weights are read. The run is built under
a temporary name, loaded again, compared with transformers, and only then gets its name. Knows no
architecture: their files say themselves which config.json they can be made from.
"""

import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import __version__, config, registry
from ..errors import DamagedError, InputError, SettingError
from ..export.parity_check import ParityReport
from ..files import new_folder, printable, read_file
from ..runs import folder, metadata
from ..runs.huggingface import from_hf_weights, hf_files, save_pretrained, to_hf_weights
from ..runs.load import load_run
from ..runtime import choose_runtime
from ..settings import RuntimeSettings, Settings
from ..tokenizers import Tokenizer, chat_template, load_tokenizer
from .parity import check_parity
from .tensors import (
    CONFIG,
    MAX_JSON,
    PICKLED,
    converted_folder,
    expected_tensors,
    read_json,
    read_weights,
    refuse_pickle,
    weight_files,
)

_LICENSE = re.compile(r"^license:[ \t]*([\w.+-]{1,40})[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class HFFolder:
    """A Hugging Face folder whose small files have been checked."""

    path: Path
    hf_config: dict[str, Any]
    """The content of config.json."""
    class_name: str
    """The class of transformers to compare with, such as `LlamaForCausalLM`."""
    architecture: str
    """Our architecture."""
    module: ModuleType
    """Its file."""
    model_config: Any
    """Its Config for this model."""
    tokenizer: Tokenizer
    is_chat: bool
    """Whether it has our chat template, so that it was trained on conversations."""

    @property
    def task(self) -> str:
        """The task it was trained for. An encoder-decoder without a mask token cannot have been
        trained to fill gaps, so it was trained on pairs."""
        task = self.module.Model.pretraining_task
        if self.is_chat and task != "masked":
            return "chat"
        return "pairs" if task == "seq2seq" and self.tokenizer.mask is None else task


@dataclass(frozen=True)
class Imported:
    """The run folder that an import has made."""

    folder: Path
    architecture: str
    class_name: str
    """The class of transformers it was."""
    parameters: int
    parity: ParityReport | None
    """None where transformers is not installed."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "run": str(self.folder),
            "architecture": self.architecture,
            "kind": self.class_name,
            "parameters": self.parameters,
            "compared": None if self.parity is None else self.parity.to_dict(),
        }


def import_folder(
    path: Path,
    out: Path | None = None,
    *,
    convert: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Imported:
    """Imports a Hugging Face model.

    Args:
        path: its folder; with `convert` also a file of pickled weights in it.
        out: the run folder, which must not exist or be empty; runs/NAME by default.
        convert: take the weights out of a pickle, in a sandboxed process.
        say: called with progress, one sentence at a time.

    Raises:
        InputError: it cannot be used; nothing was written. DamagedError: its weights are broken.
        CheckFailed: the run does not compute what transformers does; nothing was written.
        ResourceError: memory or disk are too small.
    """
    name = _run_name(path)
    out = _check_free(folder.RUNS / name if out is None else out)
    if not convert:
        _refuse_file(path)
    with converted_folder(path) if convert else nullcontext(path) as place:
        # 1. config.json, tokenizer and shapes
        hf = open_hf_folder(place)
        files, weight_map = weight_files(place)
        special = hf.tokenizer.special_token_ids
        expected = expected_tensors(hf.module, hf.model_config, special)
        parameters = sum(tensor.numel() for tensor in expected.values())
        # 2. the weights, through our own names, so that the files are those that `train` writes
        hf_weights = read_weights(files, weight_map, expected)
        weights = from_hf_weights(hf.module, hf.model_config, hf_weights)
        hf_weights = to_hf_weights(hf.module, hf.model_config, weights)
        say(f"{printable(path)}: {hf.class_name}, {parameters:,} parameters, as {hf.architecture}")
        about = _metadata(hf, name, path, out, parameters)
        # 3. write, load again, compare
        with new_folder(out) as temporary:
            small = hf_files(hf.module, hf.model_config, name, hf.tokenizer, about)
            save_pretrained(temporary, small, hf_weights, {"step": "0"})
            del weights, hf_weights
            metadata.write_metadata(temporary, about)
            parity = check_parity(load_run(temporary), hf.path, hf.hf_config, hf.class_name)
    return Imported(out, hf.architecture, hf.class_name, parameters, parity)


def open_hf_folder(path: Path) -> HFFolder:
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
    hf_config = read_json(path / CONFIG)
    architecture, module, fields = _find_architecture(hf_config, where)
    try:
        model_config = config.replace(module.Config(), fields, "model")
        metadata.check_size({"architecture": architecture, "model": config.to_dict(model_config)})
    except InputError as error:
        text = str(error).removeprefix(f"{metadata.NAME}: ")
        raise InputError(f"{where}/{CONFIG} cannot be used: {text}") from error
    tokenizer = load_tokenizer(path)
    _check_tokenizer(tokenizer, hf_config, model_config, path)
    class_name = str(module.Model.to_hf_config(model_config)["architectures"][0])
    is_chat = (
        _chat_template(path) == chat_template.TEMPLATE
        and set(chat_template.NEEDS) <= tokenizer.special_token_ids.keys()
    )
    hf = HFFolder(
        path, hf_config, class_name, architecture, module, model_config, tokenizer, is_chat
    )
    for name in registry.module("scriven.tasks", hf.task).Task.EXTRA_TOKENS:
        if name not in tokenizer.special_token_ids:
            raise InputError(
                f"{where}/tokenizer_config.json names no {name}_token: add "
                "the one that the model was trained with"
            )
    return hf


def _find_architecture(
    hf_config: dict[str, Any], where: str
) -> tuple[str, ModuleType, dict[str, Any]]:
    """The architecture of ours that can be made from a config.json, and the fields of its
    Config."""
    if hf_config.get("quantization_config") is not None:
        raise InputError(f"{where} is quantised: import the original weights")
    known = {}
    for name in registry.names("scriven.models"):
        module = registry.module("scriven.models", name)
        if module.Model.HF_CLASSES:
            known[name] = module
    for name, module in known.items():
        try:
            fields = module.Model.from_hf_config(hf_config)
        except SettingError as error:
            raise InputError(f"{where}/{error}") from error
        if fields is not None:
            return name, module, fields
    # none of them: say what it is, and what there is
    named = hf_config.get("architectures") or hf_config.get("model_type")
    class_name = named[0] if isinstance(named, list) and named else named
    if str(class_name).startswith("scriven-"):
        raise InputError(f"{where} is a run folder already: use it as it is, or copy it")
    raise InputError(
        f"{where} is a {str(class_name)[:80]!r}, which has no architecture here: there are "
        f"{', '.join(known)}"
    )


def _check_tokenizer(
    tokenizer: Tokenizer, hf_config: dict[str, Any], model_config: Any, path: Path
) -> None:
    """Refuses a tokenizer that cannot be the one the model was trained with."""
    where = printable(path / "tokenizer.json")
    if tokenizer.vocab_size > model_config.vocab_size:
        raise InputError(
            f"{where} is not this model's: it has {tokenizer.vocab_size:,} tokens and the model "
            f"knows {model_config.vocab_size:,}; put the right one there"
        )
    padding = getattr(model_config, "padding", None)
    if padding is not None and padding != tokenizer.pad:  # positions are counted from it
        raise InputError(
            f"{where} is not this model's: it pads with {tokenizer.pad} ({tokenizer.pad_token}) "
            f"and the model with {padding}; put the right one there"
        )
    # a list where several tokens end a text, as with chat models
    ends = hf_config.get("eos_token_id")
    if ends is not None and tokenizer.eos not in (ends if isinstance(ends, list) else [ends]):
        raise InputError(
            f"{where} is not this model's: it ends a text with {tokenizer.eos} "
            f"({tokenizer.eos_token}) and the model with {str(ends)[:40]}; put the right one there"
        )
    if (path / metadata.NAME).exists():  # a run folder of ours knows its tokenizer exactly
        recorded = metadata.read_metadata(path).get("tokenizer")
        if isinstance(recorded, dict) and recorded.get("fingerprint") != tokenizer.fingerprint:
            raise InputError(
                f"{where} is not the one this model was trained with: put the original file back"
            )


def _chat_template(path: Path) -> object:
    """The folder's chat template; it is compared, and never rendered."""
    file = path / chat_template.TEMPLATE_FILE
    if file.is_file():
        return read_file(file, MAX_JSON).decode("utf-8", "replace")
    return read_json(path / "tokenizer_config.json").get("chat_template")


def _refuse_file(path: Path) -> None:
    """Refuses a file in place of a folder, with the remedy."""
    if path.suffix in {Path(name).suffix for name in PICKLED} | {".ckpt", ".pkl"}:
        raise refuse_pickle(path)
    if path.is_file():
        raise InputError(f"{printable(path)} is a file: name its folder, {printable(path.parent)}")


def _run_name(path: Path) -> str:
    """The run's name, from the folder's."""
    given = path.resolve()
    name = given.parent.name if given.is_file() else given.name
    return re.sub(r"[^\w.-]+", "-", name).strip(".-")[:60] or "imported"


def _check_free(out: Path) -> Path:
    """Refuses a folder that is not empty, before anything is written."""
    try:
        taken = out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir())))
    except (OSError, ValueError) as error:
        raise InputError(f"{printable(out)} cannot be used: choose another --out") from error
    if taken:
        raise InputError(f"{printable(out)} is there already: choose a new folder with --out")
    return out


def _metadata(hf: HFFolder, name: str, path: Path, out: Path, parameters: int) -> dict[str, Any]:
    """The content of scriven.json for a model that was trained elsewhere."""
    runtime = choose_runtime(RuntimeSettings(dtype="float32"))
    # newer than its neighbours, so that `latest` is the run just imported
    others = folder.list_runs(out.parent).values()
    return {
        "scriven": __version__,
        "created": max(int(time.time()), 1 + max(map(metadata.created, others), default=0)),
        "name": name,
        "architecture": hf.architecture,
        "task": hf.task,
        "model": config.to_dict(hf.model_config),
        "settings": {
            **config.to_dict(Settings(runtime=RuntimeSettings(dtype="float32"))),
            "budget": {"unit": "steps", "amount": 0},
            "steps": 0,
            "seed": 0,
        },
        "reasons": {},
        "command": "",
        "environment": runtime.describe(),
        "data": {"fingerprint": None, "sources": [], "bos": _first_token(hf)},
        "tokenizer": {
            "kind": hf.tokenizer.kind,
            "vocab_size": hf.tokenizer.vocab_size,
            "fingerprint": hf.tokenizer.fingerprint,
        },
        "own": [],
        "imported": {
            "folder": path.resolve().name,
            "kind": hf.class_name,
            "license": _license(hf.path),
        },
        "results": {"finished": True, "stopped": "imported", "parameters": parameters},
    }


def _first_token(hf: HFFolder) -> int:
    """The token in place of an empty prompt: the model's bos_token_id, or end-of-text."""
    bos = hf.hf_config.get("bos_token_id")
    if isinstance(bos, int) and 0 <= bos < hf.tokenizer.vocab_size:
        return bos
    return hf.tokenizer.eos


def _license(path: Path) -> str | None:
    """The license that the original's model card names, which goes with every copy."""
    try:
        text = read_file(path / "README.md", metadata.SIZE_LIMIT).decode("utf-8", "replace")
    except (InputError, DamagedError):
        return None
    # only the front matter counts: the text of a card may quote another license
    front = text.split("---", 2)[1] if text.startswith("---") and text.count("---") > 1 else ""
    match = _LICENSE.search(front)
    return match[1] if match else None
