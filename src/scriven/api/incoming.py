"""Models of other programs, as runs."""

from pathlib import Path

from ..import_.huggingface import import_folder
from ..report import write_report
from .model import Model, load


def import_run(path: str | Path, out: str | Path | None = None, *, convert: bool = False) -> Model:
    """Makes a run folder of a Hugging Face folder, and loads it.

    Args:
        path: a folder with config.json, weights and tokenizer.json.
        out: the run folder; runs/NAME by default.
        convert: take the weights out of a pickle (`.bin`, `.pt`), in a confined process.

    Raises:
        InputError: it cannot be used; nothing was made. DamagedError: its weights are broken.
    """
    made = import_folder(Path(path), None if out is None else Path(out), convert=convert)
    write_report(made.folder)
    return load(made.folder)
