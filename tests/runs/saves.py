"""The ways a run folder is written: how each is made, and how it is read back."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scriven import manifest
from scriven.errors import DamagedError
from scriven.runs import checkpoint, huggingface, metadata
from scriven.runs.model_card import CARD
from scriven.runs.weights import load_tensors

from .faults import calls_made, save, value_of


def verify_pretrained(folder: Path) -> list[str]:
    """Checks every published file.

    Returns:
        A sentence for each model card that was edited since.

    Raises:
        DamagedError: a file that programs read is missing or not what was written; names it.
    """
    notes = []
    for name in manifest.read_manifest(folder):
        try:
            huggingface.read_pretrained_file(folder, name)
        except DamagedError:
            if name != CARD:
                raise
            notes.append(f"{name} was edited after it was written")
    load_tensors(folder / huggingface.WEIGHTS)
    return notes


def publish_one(folder: Path, value: float) -> None:
    written = b"%d" % int(value)
    files = {"config.json": written, "tokenizer.json": b"[]", "README.md": written}
    huggingface.save_pretrained(folder, files, {"weight": torch.full((5,), value)})


def read_published_one(folder: Path) -> float:
    assert verify_pretrained(folder) == []
    assert huggingface.read_pretrained_file(folder, "config.json") in (b"1", b"2", b"3")
    return float(load_tensors(folder / huggingface.WEIGHTS)["weight"][0])


def _record(folder: Path, value: float) -> None:
    metadata.write_metadata(folder, {"name": "r", "value": value})


# How each kind of save is made (the old state, then the new one) and read back.
Save = Callable[[Path, float], object]
Read = Callable[[Path], float]
SAVES: dict[str, tuple[Save, Read]] = {
    "next step": (
        lambda folder, value: save(folder, int(value)),
        lambda folder: value_of(checkpoint.load_newest(folder)),
    ),
    "same step": (
        lambda folder, value: save(folder, 7, value),
        lambda folder: value_of(checkpoint.load_newest(folder)),
    ),
    "publish": (publish_one, read_published_one),
    "record": (_record, lambda folder: float(metadata.read_metadata(folder)["value"])),
}
ALL = pytest.mark.parametrize(("make", "read"), SAVES.values(), ids=SAVES.keys())


def fresh(folder: Path, number: object) -> Path:
    made = folder / str(number)
    made.mkdir()
    return made


def calls_of(make: Save, folder: Path) -> list[str]:
    """The disk calls of a second save."""
    probe = fresh(folder, "probe")
    make(probe, 1)
    return calls_made(lambda: make(probe, 2))
