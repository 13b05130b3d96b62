"""checkpoints/step-N: everything a run needs to go on, whole or absent.

    model.safetensors  optimizer.safetensors  random.safetensors  state.json  manifest.json
    recurrent_state.safetensors, where the model has one

Knows neither the meaning of the tensors nor when to save. The newest has the highest step number:
a clock may jump, and a copied folder has new times.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..errors import DamagedError, InputError
from ..files import (
    REPLACED,
    Content,
    make_folder,
    printable,
    remove_folder,
    remove_leftovers,
    write_file,
)
from ..manifest import (
    MANIFEST,
    NewerFormatError,
    build_manifest,
    read_error,
    read_listed,
    read_manifest,
    verify_folder,
    verify_listed,
)
from .weights import encode, read_tensors

FOLDER = "checkpoints"
_NAME = re.compile(rf"(?:{re.escape(REPLACED)})?step-(0|[1-9][0-9]{{0,17}})")
_SUFFIX = ".safetensors"

Tensors = dict[str, dict[str, torch.Tensor]]
"""Group (`model`, `optimizer`, `random`, `recurrent_state`) -> name -> tensor."""


class Checkpoint(NamedTuple):
    """What was saved, read back onto the CPU."""

    step: int
    tensors: Tensors
    state: dict[str, Any]
    warnings: list[str]
    """One sentence for each newer checkpoint that is damaged and was skipped."""


def save(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, torch.Tensor]],
    state: Mapping[str, Any],
) -> Path:
    """Writes a checkpoint to the disk and returns its folder; the same step is replaced.

    Args:
        tensors: group -> name -> tensor, one file per group.
        state: JSON values; infinite numbers come back as they are.

    Raises:
        ResourceError: the disk is full or broken; earlier checkpoints are untouched.
        InputError: the folder cannot be written to.
    """
    assert step >= 0, f"step {step}"
    parent = folder / FOLDER
    # 1. the content; tensors on the CPU are not copied
    files: dict[str, Content] = {}
    for group, named in tensors.items():
        assert group.isidentifier(), f"{group!r} cannot be a file name"
        files[group + _SUFFIX] = encode(named)
    files["state.json"] = json.dumps(state, indent=1).encode("ascii")
    # 2. the manifest, last in the folder: it lists all others
    files[MANIFEST] = build_manifest(files, step=step)
    # 3. one rename publishes the folder
    make_folder(parent)
    remove_leftovers(parent)
    path = parent / f"step-{step}"
    write_file(path, files)
    return path


def branch_folder(folder: Path, branch: int) -> Path:
    """Where the checkpoints of a branch are: beside the model, or in a folder of their own."""
    return folder / f"branch-{branch}" if branch else folder


def steps(folder: Path) -> list[int]:
    """The steps of which there is a checkpoint, whole or damaged, newest first."""
    return sorted({step for step, _ in _places(folder)}, reverse=True)


def load_step(folder: Path, step: int) -> Checkpoint:
    """Reads one checkpoint.

    Raises:
        InputError: there is none of this step; the text lists those there are.
        DamagedError: it is not what was written.
    """
    places = [place for each, place in _places(folder) if each == step]
    if not places:
        known = ", ".join(str(each) for each in steps(folder)) or "none"
        raise InputError(f"no checkpoint of step {step} in {printable(folder)}: there are {known}")
    return Checkpoint(step, *_load(places[0], step), warnings=[])


def load_newest(folder: Path) -> Checkpoint | None:
    """Reads the newest whole checkpoint; None when the run has no checkpoint yet.

    Raises:
        DamagedError: all are damaged, or the newest is from a later release.
    """
    warnings: list[str] = []
    for step, place in _places(folder):
        try:
            tensors, state = _load(place, step)
        # an older checkpoint would silently undo what a later release has trained
        except NewerFormatError:
            raise
        except DamagedError as error:
            warnings.append(f"checkpoint of step {step} is not used: {error}")
        else:
            return Checkpoint(step, tensors, state, warnings)
    # every checkpoint is damaged: starting again would destroy what may be rescued
    if warnings:
        raise DamagedError(
            f"no whole checkpoint in {printable(folder)}: {warnings[0]}; delete its folder "
            f"{FOLDER} to start again"
        )
    return None


def prune(
    folder: Path,
    keep: int,
    best: int | None = None,
    healthy: int | None = None,
    flat: int | None = None,
) -> list[int]:
    """Deletes old checkpoints and returns their steps; one that cannot be deleted stays and stops
    nothing. The last undamaged one is never deleted.

    Args:
        keep: how many of the newest stay, at least 1.
        best: the step with the lowest loss, which stays.
        healthy: the last step known to be sound, which stays.
        flat: the last step before the learning rate fell, which stays.
    """
    # 1. what a save of the same step has replaced, where a kill came in between
    for step, place in _places(folder):
        new = place.with_name(f"step-{step}")
        if place != new and _is_whole(new, step):
            remove_folder(place)
    # 2. what may go
    places = _places(folder)
    newest = sorted({step for step, _ in places})[-max(keep, 1) :]
    old = [(step, place) for step, place in places if step not in {*newest, best, healthy, flat}]
    if not old:
        return []
    # 3. one whole checkpoint must stay, whatever else is damaged; newest first, so that usually
    # one is read
    ordered = [item for item in places if item not in old] + old
    whole = next((step for step, place in ordered if _is_whole(place, step)), None)
    if whole is None:
        return []  # nothing here can be resumed: leave it all for a person to look at
    return sorted(
        {step for step, place in old if step != whole and remove_folder(place)},
        reverse=True,
    )


def _places(folder: Path) -> list[tuple[int, Path]]:
    """(step, folder) of every checkpoint, newest first, a replaced one after its replacement."""
    parent = folder / FOLDER
    try:
        names = os.listdir(parent)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise read_error(parent, error) from error
    # step-7 and its replaced .old-step-7 have the same step: the replacement first
    matches = [(match, name) for name in names if (match := _NAME.fullmatch(name))]
    matches.sort(key=lambda item: (-int(item[0][1]), item[1].startswith(REPLACED)))
    return [(int(match[1]), parent / name) for match, name in matches]


def _is_whole(place: Path, step: int) -> bool:
    try:
        verify_folder(place, step=step)
    except (DamagedError, InputError):
        return False
    return True


def _load(place: Path, step: int) -> tuple[Tensors, dict[str, Any]]:
    tensors: Tensors = {}
    state: Any = None
    for name, expected in read_manifest(place, step=step).items():
        # SHA-256 of the whole file, read in blocks
        path = verify_listed(place, name, expected)
        if name.endswith(_SUFFIX):
            # copied: the folder may be pruned while the tensors are in use
            tensors[name.removesuffix(_SUFFIX)] = read_tensors(path, copy=True)
        elif name == "state.json":
            try:
                state = json.loads(read_listed(place, name, expected))
            except (ValueError, RecursionError) as error:
                raise DamagedError(f"{printable(place / name)} is no JSON") from error
    if not isinstance(state, dict):
        raise DamagedError(f"{printable(place)} has no state.json")
    return tensors, state
