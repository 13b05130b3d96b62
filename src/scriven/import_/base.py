"""What the name of a model means, wherever one is named: `--from`, `generate`, `finetune`, ...

book, runs/book          a run, by its name under runs/ or its folder
FOLDER                   a Hugging Face model: config.json, weights, tokenizer
FOLDER                   a PEFT adapter: adapter_config.json, with the base it names
models--ORG--NAME        a model in the cache of the Hugging Face hub, or a snapshot in it
FILE.gguf                a model of llama.cpp
hf:ORG/NAME[@REVISION]   a model of the Hugging Face hub
"""

import os
import re
from pathlib import Path

from ..errors import InputError
from ..files import printable
from ..runs import metadata
from ..runs.folder import find_run, list_runs
from ..runs.load import Loaded, load_run
from .huggingface import HFModel, open_hf_folder
from .tensors import PICKLED, refuse_pickle


def open_base(name: str, arch: str | None = None) -> Loaded:
    """The model that a name means, with its weights, in evaluation mode on the CPU.

    Args:
        name: see above. A run comes first: its name, its path, or `latest`.
        arch: the user's own file, where a run was trained with one.

    Raises:
        InputError: there is none of that name, or it cannot be used. DamagedError: a file is
            broken. ResourceError: too little memory.
    """
    if is_run(name):
        return load_run(find_run(name), arch)
    return open_foreign(name).load()


def is_run(name: str) -> bool:
    """Whether a name is that of a run, or of nothing: then `find_run` says what is near."""
    path = Path(name)
    return (
        name == "latest"
        or name in list_runs()
        or os.path.lexists(path / metadata.NAME)
        or not os.path.exists(path)
    )


def base_name(name: str) -> str:
    """The name of what is made from a model, where the user gives none: that of the run, or one
    after the folder or file."""
    return find_run(name).name if is_run(name) else foreign_name(name)


def foreign_name(name: str) -> str:
    """The name of a run made from a model of another program: after its folder or file."""
    path = Path(name).resolve()
    plain = path.stem if path.suffix == ".gguf" else path.name
    if path.is_file() and path.suffix != ".gguf":
        plain = path.parent.name
    return re.sub(r"[^\w.-]+", "-", plain).strip(".-")[:60] or "imported"


def open_foreign(name: str) -> HFModel:
    """A model of another program, its small files checked and its weights not read yet.

    Raises:
        InputError: there is none, or it cannot be used. DamagedError: a file is broken.
    """
    path = Path(name)
    if path.suffix in {Path(each).suffix for each in PICKLED} | {".ckpt", ".pkl"}:
        raise refuse_pickle(path)
    if path.is_file():
        raise InputError(f"{printable(path)} is a file: name its folder, {printable(path.parent)}")
    return open_hf_folder(path)
