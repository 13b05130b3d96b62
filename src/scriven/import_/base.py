"""What the name of a model means, wherever one is named: `--from`, `generate`, `finetune`, ...

book, runs/book          a run, by its name under runs/ or its folder
FOLDER                   a Hugging Face model: config.json, weights, tokenizer
FOLDER                   a PEFT adapter: adapter_config.json, with the base it names
models--ORG--NAME        a model in the cache of the Hugging Face hub, or a snapshot in it
FILE.gguf                a model of llama.cpp
hf:ORG/NAME[@REVISION]   a model of the Hugging Face hub

Nothing in a folder of others is trusted before it is checked, and no code in it is run; pickles are
read by a child process that can do nothing else (`sandbox.py`).
"""

import contextlib
import os
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingExtra
from ..files import printable
from ..format import portable_name
from ..manifest import hash_file
from ..runs import metadata
from ..runs.folder import find_run, list_runs, split_step
from ..runs.load import ChooseDtype, Loaded, load_run, model_digest
from ..runs.peft import TENSORS
from .adapter import add_adapter, is_adapter, places, without_base
from .gguf import open_gguf
from .hub import PREFIX, download, is_cached_model, repository_of, snapshot_of
from .huggingface import HFModel, open_hf_folder
from .tensors import PICKLED, refuse_pickle, weight_files


def open_base(
    name: str,
    arch: str | None = None,
    *,
    dtype: ChooseDtype | None = None,
    model_changes: Mapping[str, object] | None = None,
    offline: bool = False,
) -> Loaded:
    """The model that a name means, with its weights, in evaluation mode on the CPU.

    Args:
        name: see above. A run comes first: its name, its path, or `latest`; with `@` and a step
            the weights of that checkpoint.
        arch: the user's own file, where a run was trained with one.
        dtype: of the matrices, by the number of parameters.
        model_changes: fields of the Config that change no weight, such as dropout.
        offline: whether a model of the hub must be in its cache, as no user has named it.

    Raises:
        InputError: there is none of that name, or it cannot be used. DamagedError: a file is
            broken. ResourceError: too little memory.
    """
    run, step = split_step(name)
    if is_run(run):
        return load_run(
            find_run(run),
            arch,
            step=step,
            model_changes=model_changes,
            dtype=dtype,
            open_base=partial(open_recorded, arch=arch, dtype=dtype, model_changes=model_changes),
        )
    path = find_foreign(name, offline=offline)
    if not is_adapter(path):
        return open_foreign(name, offline=offline).load(dtype, model_changes)
    base = find_adapted(path)
    loaded = open_base(base, arch, dtype=dtype, model_changes=model_changes, offline=True)
    return add_adapter(loaded, path)


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
    if base_digest(name, offline=True) != base["digest"]:
        raise InputError(
            f"{printable(name)} has other weights than when {printable(folder)} was trained from "
            "it: put the former ones back"
        )
    return open_base(name, offline=True, **options)


def base_digest(name: str, *, offline: bool = False) -> str:
    """SHA-256 of the weights of a model as they are stored.

    Raises:
        InputError: there is no such model, or a run that has published no weights yet.
    """
    if is_run(name):
        return model_digest(find_run(name))
    path = find_foreign(name, offline=offline)
    digests = []
    if path.is_file():
        files = [path]
    elif is_adapter(path):
        digests, files = [base_digest(find_adapted(path), offline=True)], [path / TENSORS]
    else:
        files = weight_files(path)[0]
    digests += [hash_file(each).sha256 for each in files]
    return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()


def is_run(name: str) -> bool:
    """Whether a name is that of a run, or of nothing: then `find_run` says what is near."""
    path = Path(name)
    if name.startswith(PREFIX):
        return False
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
    if name.startswith(PREFIX):
        plain = name.removeprefix(PREFIX).partition("@")[0].rpartition("/")[2]
    else:
        path = Path(os.path.abspath(name))
        repository = repository_of(path) or repository_of(path / "snapshots" / "x")
        plain = path.stem if path.suffix == ".gguf" else path.name
        if repository is not None:
            plain = repository[1]
        elif path.is_file() and path.suffix != ".gguf":
            plain = path.parent.name
    return portable_name(plain, "imported", 60)


def pinned_name(name: str) -> str:
    """The name with the commit that it stands for now, of a model of the hub; else as it is."""
    if not name.startswith(PREFIX):
        return name
    found = repository_of(find_foreign(name, offline=True))
    return name if found is None else f"{PREFIX}{found[0]}/{found[1]}@{found[2]}"


def find_foreign(name: str, *, offline: bool = False) -> Path:
    """The folder or file of a model of another program; one of the hub is downloaded.

    Raises:
        InputError, ResourceError: as `hub.download`.
    """
    if name.startswith(PREFIX):
        return download(name, offline=offline)
    path = Path(name)
    return snapshot_of(path) if is_cached_model(path) else path


def find_adapted(path: Path) -> str:
    """The name of the base of an adapter folder.

    Raises:
        InputError: it is not here.
    """
    for name in places(path):
        with contextlib.suppress(InputError, MissingExtra):
            if is_run(name):
                find_run(name)
            else:
                find_foreign(name, offline=True)
            return name
    raise without_base(path)


def open_foreign(name: str, *, offline: bool = False) -> HFModel:
    """A model of another program, its small files checked and its weights not read yet.

    Raises:
        InputError: there is none, or it cannot be used. DamagedError: a file is broken.
    """
    path = find_foreign(name, offline=offline)
    if is_adapter(path):
        raise InputError(
            f"{printable(path)} is an adapter: use it as it is, or name its base to import"
        )
    if path.suffix in {Path(each).suffix for each in PICKLED} | {".ckpt", ".pkl"}:
        raise refuse_pickle(path)
    if path.suffix == ".gguf" and path.is_file():
        return open_gguf(path)
    if path.is_file():
        raise InputError(f"{printable(path)} is a file: name its folder, {printable(path.parent)}")
    return open_hf_folder(path)
