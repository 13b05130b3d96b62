"""A model in the Hugging Face layout, opened as it is: its small files checked, then its weights.

Everything that the small files tell is checked before any weights are read. Knows no architecture:
their files say themselves which config.json they can be made from. A GGUF file is opened as the
folder that it was made from (`gguf.py`), so both end here.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from .. import config, registry
from ..errors import DamagedError, InputError, SettingError
from ..files import printable
from ..manifest import read_file
from ..models.shared.hf_config import Unsupported
from ..runs import metadata
from ..runs.load import ChooseDtype, Loaded, build_uninitialized
from ..runs.weights import from_hf_weights, to_hf_weights
from ..runtime import choose_runtime
from ..settings import RuntimeSettings, Settings
from ..tokenizers import Tokenizer, chat_template, load_tokenizer
from ..tokenizers.imported import ImportedTokenizer
from .hub import repository_of
from .tensors import (
    CONFIG,
    MAX_JSON,
    check_memory,
    copy_converted,
    copy_weights,
    read_json,
    stored_names,
    weight_files,
)

_LICENSE = re.compile(r"^license:[ \t]*([\w.+-]{1,40})[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class HFModel:
    """A model whose config and tokenizer have been checked, and whose weights can be read."""

    path: Path
    name: str
    """What people call it."""
    hf_config: dict[str, Any]
    """The content of config.json."""
    class_name: str
    """Its class in transformers, such as `LlamaForCausalLM`."""
    architecture: str
    """Our architecture."""
    module: ModuleType
    """Its file."""
    model_config: Any
    """Its Config for this model."""
    tokenizer: Tokenizer
    fill: Callable[[dict[str, Tensor]], None]
    """Copies the weights into tensors under Hugging Face's names."""
    is_chat: bool = False
    """Whether it has our chat template, so that it was trained on conversations."""
    license: str | None = None

    @property
    def task(self) -> str:
        """The task it was trained for. An encoder-decoder without a mask token cannot have been
        trained to fill gaps, so it was trained on pairs."""
        task = self.module.Model.task_of(self.model_config)
        if self.is_chat and task != "masked":
            return "chat"
        return "pairs" if task == "seq2seq" and self.tokenizer.mask is None else task

    def load(
        self,
        dtype: ChooseDtype | None = None,
        model_changes: Mapping[str, object] | None = None,
    ) -> Loaded:
        """The model with its weights, each converted on its own: there is never a second copy.

        Raises:
            ResourceError: too little memory. DamagedError, InputError: of the weights.
        """
        special, module = self.tokenizer.special_token_ids, self.module
        model_config = config.replace(self.model_config, model_changes or {}, "model")
        check_memory(module, model_config, dtype)
        # a masked model is pre-trained for gaps, a chat model was fine-tuned: the weights are alike
        task = build_uninitialized(module, model_config, self.task, special, dtype=dtype)
        ours = task.state_dict()
        hf_weights = to_hf_weights(module, model_config, ours, self.task)
        # pieces of our matrices under other names, in the same memory; GPT-2's are transposed
        memory = {each.untyped_storage().data_ptr() for each in ours.values()}
        is_shared = all(each.untyped_storage().data_ptr() in memory for each in hf_weights.values())
        self.fill(hf_weights)
        if not is_shared:
            task.load_state_dict(from_hf_weights(module, model_config, hf_weights, self.task))
        about = describe(self, sum(each.numel() for each in ours.values()))
        notes = [f"{self.name}: {module.Model.note}"] if module.Model.note else []
        if isinstance(self.tokenizer, ImportedTokenizer) and (lost := self.tokenizer.lost_bytes):
            notes.append(
                f"{self.name} has no token for {len(lost)} of the bytes that texts consist of: "
                "characters with them are left out"
            )
        return Loaded(self.path, about, task.eval(), self.tokenizer, self.architecture, notes)


def open_hf_folder(path: Path) -> HFModel:
    """Reads the small files of a folder and refuses what cannot be used.

    Raises:
        InputError: no such folder, an architecture or a field that we do not have, a size that is
            too large, or a tokenizer that is not this model's. DamagedError: a file is broken.
    """
    where = printable(path)
    if not path.is_dir():
        raise InputError(f"{where} is no folder: name a Hugging Face folder with {CONFIG} in it")
    if not (path / CONFIG).exists():
        raise InputError(
            f"{where} is no run folder and holds no {CONFIG}: name a run or a Hugging Face folder"
        )
    hf_config = read_json(path / CONFIG)
    architecture, module, model_config = find_architecture(hf_config, f"{where}/{CONFIG}")
    tokenizer = load_tokenizer(path)
    _check_tokenizer(tokenizer, hf_config, model_config, path)
    files, weight_map = weight_files(path)
    class_name = str(module.Model.to_hf_config(model_config)["architectures"][0])
    is_chat = (
        _chat_template(path) == chat_template.TEMPLATE
        and set(chat_template.NEEDS) <= tokenizer.special_token_ids.keys()
    )
    model = HFModel(
        path, _name(path), hf_config, class_name, architecture, module, model_config,
        tokenizer, partial(_fill, module, model_config, files, weight_map), is_chat,
        _license(path),
    )  # fmt: skip
    for name in registry.module("scriven.tasks", model.task).Task.EXTRA_TOKENS:
        if name not in tokenizer.special_token_ids:
            raise InputError(
                f"{where}/tokenizer_config.json names no {name}_token: add "
                "the one that the model was trained with"
            )
    return model


def _fill(
    module: ModuleType,
    model_config: Any,
    files: list[Path],
    weight_map: dict[str, str] | None,
    into: dict[str, Tensor],
) -> None:
    """Copies weights into tensors under Hugging Face's names."""
    # names of other releases are known to transformers alone
    if module.Model.has_head and not into.keys() <= stored_names(files):
        copy_converted(files, weight_map, partial(module.Model.read_folder, model_config), into)
    else:
        copy_weights(files, weight_map, into)


def _name(path: Path) -> str:
    repository = repository_of(path)
    return path.resolve().name if repository is None else repository[1]


def find_architecture(hf_config: dict[str, Any], where: str) -> tuple[str, ModuleType, Any]:
    """The architecture of ours for a config.json: its name, its file, and its Config.

    Raises:
        InputError: there is none, or a field of it cannot be expressed or asks for an absurd size.
    """
    name, module, fields = _find_architecture(hf_config, where.removesuffix(f"/{CONFIG}"))
    try:
        model_config = config.replace(module.Config(), fields, "model")
        metadata.check_size({"architecture": name, "model": config.to_dict(model_config)})
    except InputError as error:
        text = str(error).removeprefix(f"{metadata.NAME}: ")
        raise InputError(f"{where} cannot be used: {text}") from error
    return name, module, model_config


def _find_architecture(
    hf_config: dict[str, Any], where: str
) -> tuple[str, ModuleType, dict[str, Any]]:
    """The architecture of ours that can be made from a config.json, and the fields of its
    Config."""
    if hf_config.get("quantization_config") is not None:
        raise InputError(f"{where} is quantised: import the original weights")
    refused: Unsupported | None = None
    # the last one by name, `transformers`, takes what no other can express
    for name in registry.names("scriven.models"):
        module = registry.module("scriven.models", name)
        try:
            fields = module.Model.from_hf_config(hf_config)
        except Unsupported as error:
            refused = error
        except SettingError as error:
            raise InputError(f"{where}/{error}") from error
        else:
            if fields is not None:
                return name, module, fields
    if refused is not None:
        raise InputError(f"{where}/{refused}") from refused
    # none of them: say what it is, and what there is
    named = hf_config.get("architectures") or hf_config.get("model_type")
    class_name = named[0] if isinstance(named, list) and named else named
    if str(class_name).startswith("scriven-"):
        raise InputError(f"{where} is a run folder already: use it as it is, or copy it")
    raise InputError(
        f"{where} is a {str(class_name)[:80]!r}, which has no architecture here, and is no causal, "
        "masked or sequence-to-sequence model of this release of transformers"
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


def describe(model: HFModel, parameters: int) -> dict[str, Any]:
    """What scriven.json would say of a model that was trained elsewhere."""
    runtime = choose_runtime(RuntimeSettings(dtype="float32"))
    hub = repository_of(model.path)
    return {
        "name": model.name,
        "architecture": model.architecture,
        "task": model.task,
        "model": config.to_dict(model.model_config),
        "settings": {
            **config.to_dict(Settings(runtime=RuntimeSettings(dtype="float32"))),
            "budget": {"unit": "steps", "amount": 0},
            "steps": 0,
            "seed": 0,
        },
        "reasons": {},
        "command": "",
        "environment": runtime.describe(),
        "data": {
            "fingerprint": None,
            "sources": [],
            "bos": _first_token(model.hf_config, model.tokenizer),
        },
        "tokenizer": {
            "kind": model.tokenizer.kind,
            "vocab_size": model.tokenizer.vocab_size,
        },
        "user_components": [],
        "imported": {
            "folder": model.path.resolve().name,
            "kind": model.class_name,
            "license": model.license,
            "hub": None if hub is None else "{}/{}@{}".format(*hub),
        },
        "results": {"finished": True, "stopped": "imported", "parameters": parameters},
    }


def _first_token(hf_config: Mapping[str, Any], tokenizer: Tokenizer) -> int:
    """The token in place of an empty prompt: the model's bos_token_id, or end-of-text."""
    bos = hf_config.get("bos_token_id")
    return bos if isinstance(bos, int) and 0 <= bos < tokenizer.vocab_size else tokenizer.eos


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
