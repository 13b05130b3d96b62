"""`hf:ORG/NAME[@REVISION]`: a model of the Hugging Face hub, as a folder in the hub's own cache.

Only its config, its tokenizer and its safetensors are downloaded, never code or pickles. A model
that is in the cache is opened without the network; a model that only a file names, and no user, is
never downloaded.
"""

import json
import re
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingExtra, ResourceError, ScrivenError

PREFIX = "hf:"
INDEX = "model.safetensors.index.json"
_NAME = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_FILES = ["*.json", "*.safetensors", "*.jinja", "merges.txt", "tokenizer.model", "README.md"]
_WANTED: dict[str, Any] = {"allow_patterns": _FILES, "ignore_patterns": ["*/*"]}
_CACHED = re.compile(r"models--(?P<owner>.+?)--(?P<name>.+)")


def download(name: str, *, offline: bool = False) -> Path:
    """The folder of a model of the hub, downloaded where it is not in the cache yet.

    Args:
        name: hf:ORG/NAME, with @REVISION a branch, tag or commit; the newest one by default.
        offline: never use the network.

    Raises:
        InputError: another form of name, no such model or revision, or one that needs access to be
            granted. ResourceError: the hub cannot be reached, or the disk is full.
        MissingExtra: huggingface_hub is not installed.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(f"{name[:200]}: write hf:ORG/NAME or hf:ORG/NAME@REVISION")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtra("huggingface_hub", "data", "a model of the hub") from error
    repository, revision = match["repository"], match["revision"]
    try:
        found = Path(
            snapshot_download(repository, revision=revision, local_files_only=True, **_WANTED)
        )
        if offline or is_complete(found):
            return found
    except LocalEntryNotFoundError as error:
        # from version 2 on, also where files are missing that are of no use here
        partial = Path(getattr(error, "snapshot_path", None) or ".")
        if is_complete(partial):
            return partial
        if offline:
            raise InputError(
                f"{name} is not in the cache of this machine: download it first, as with "
                f"`scriven import {name}`"
            ) from error
    try:
        return Path(snapshot_download(repository, revision=revision, **_WANTED))
    except Exception as error:  # it raises its own errors, and those of two HTTP libraries
        raise _explain(name, error) from error


def is_complete(folder: Path) -> bool:
    """Whether a snapshot holds the weights too: other programs download single files."""
    if not (folder / "config.json").exists():
        return False
    names = {path.name for path in folder.glob("*.safetensors")}
    try:  # weights in several files are listed
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return set(index["weight_map"].values()) <= names
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return bool(names) and not any(folder.glob("*.incomplete"))


def _explain(name: str, error: Exception) -> ScrivenError:
    """Why a model cannot be downloaded, in one line with the remedy."""
    from huggingface_hub import errors

    # the more specific ones first
    if isinstance(error, errors.GatedRepoError):
        return InputError(
            f"{name} is gated: ask for access on its page at huggingface.co, then `hf auth login`"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return InputError(
            f"{name} is not on the hub, or is private: correct the name, or `hf auth login`"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(f"{name}: the model has no such revision: leave @REVISION away")
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return ResourceError(
        f"{name} cannot be downloaded ({reason}): connect to the network, or name a folder"
    )


def snapshot_of(folder: Path) -> Path:
    """The snapshot that `main` means in the cache folder of a model, `models--ORG--NAME`.

    Raises:
        InputError: it has none.
    """
    try:
        commit = (folder / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        commit = ""
    snapshots = folder / "snapshots"
    found = snapshots / commit
    if re.fullmatch(r"[0-9a-f]{4,64}", commit) and found.is_dir():
        return found
    others = sorted(snapshots.iterdir()) if snapshots.is_dir() else []
    if len(others) == 1:
        return others[0]
    raise InputError(
        f"{folder} says no revision that is there: name one of the folders in its snapshots"
    )


def is_cached_model(folder: Path) -> bool:
    """Whether a folder is that of a model in the cache of the hub."""
    return _CACHED.fullmatch(folder.name) is not None and (folder / "snapshots").is_dir()


def repository_of(folder: Path) -> tuple[str, str, str] | None:
    """(ORG, NAME, commit) of a snapshot in the cache of the hub; None for any other folder."""
    match = _CACHED.fullmatch(folder.parent.parent.name)
    if match is None or folder.parent.name != "snapshots":
        return None
    return match["owner"], match["name"], folder.name
