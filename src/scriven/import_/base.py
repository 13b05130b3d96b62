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
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import printable
from ..manifest import hash_file
from ..runs import metadata
from ..runs.folder import find_run, list_runs
from ..runs.load import ChooseDtype, Loaded, always_float32, load_run, model_digest
from .gguf import open_gguf
from .huggingface import HFModel, open_hf_folder
from .tensors import PICKLED, refuse_pickle, weight_files


def open_base(
    name: str,
    arch: str | None = None,
    *,
    dtype: ChooseDtype = always_float32,
    model_changes: Mapping[str, object] | None = None,
) -> Loaded:
    """The model that a name means, with its weights, in evaluation mode on the CPU.

    Args:
        name: see above. A run comes first: its name, its path, or `latest`.
        arch: the user's own file, where a run was trained with one.
        dtype: of the matrices, by the number of parameters.
        model_changes: fields of the Config that change no weight, such as dropout.

    Raises:
        InputError: there is none of that name, or it cannot be used. DamagedError: a file is
            broken. ResourceError: too little memory.
    """
    if is_run(name):
        return load_run(
            find_run(name),
            arch,
            model_changes=model_changes,
            dtype=dtype,
            open_base=partial(open_recorded, arch=arch, dtype=dtype, model_changes=model_changes),
        )
    return open_foreign(name).load(dtype, model_changes)


def open_recorded(folder: Path, base: Mapping[str, Any], **options: Any) -> Loaded:
    """The model that a run went on from.

    Args:
        folder: of the run.
        base: the section `base` of its scriven.json.
        options: as of `open_base`.

    Raises:
        InputError: it is not there any more, or its weights have changed since.
    """
    beside = folder / str(base["folder"])  # runs are moved together
    name = str(beside) if beside.exists() else str(base["run"])
    if base_digest(name) != base["digest"]:
        raise InputError(
            f"{printable(name)} has other weights than when {printable(folder)} was trained from "
            "it: put the former ones back"
        )
    return open_base(name, **options)


def base_digest(name: str) -> str:
    """SHA-256 of the weights of a model as they are stored.

    Raises:
        InputError: there is no such model, or a run that has published no weights yet.
    """
    if is_run(name):
        return model_digest(find_run(name))
    path = Path(name)
    digests = [
        hash_file(each).sha256 for each in ([path] if path.is_file() else weight_files(path)[0])
    ]
    return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()


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
    if path.suffix == ".gguf" and path.is_file():
        return open_gguf(path)
    if path.is_file():
        raise InputError(f"{printable(path)} is a file: name its folder, {printable(path.parent)}")
    return open_hf_folder(path)
