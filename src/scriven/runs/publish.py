"""The best weights at the top of the run folder, in the Hugging Face layout.

    config.json  tokenizer.json  ...  README.md     written once, listed in manifest.json
    model.safetensors                               replaced by one rename, verifies itself

A run has one tokenizer and one shape, so new weights are one file, and a kill leaves the old or
the new one beside files that fit both. Weights come last: without them, nothing is there. Where
the other files do change (a later release describes a model in more words), the manifest names
old and new content while they are replaced.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from ..errors import DamagedError, InputError
from ..files import printable, read_file, write_file
from . import manifest, weights

WEIGHTS = "model.safetensors"
FIXED = {"tokenizer.json"}
"""Files that give the weights their meaning: with another one, it is another model."""
PROSE = {"README.md"}
"""Files for people only: no program reads them, so they may change and be edited."""


def publish(
    folder: Path,
    files: Mapping[str, bytes],
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Makes these weights the model of the run folder: `publish_files`, then `publish_weights`."""
    publish_files(folder, files)
    publish_weights(folder, tensors, metadata)


def publish_weights(
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


def publish_files(folder: Path, files: Mapping[str, bytes]) -> None:
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


def verify_published(folder: Path) -> list[str]:
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


def read_published(folder: Path, name: str) -> bytes:
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
