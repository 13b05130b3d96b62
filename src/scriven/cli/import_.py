"""`scriven import`: a Hugging Face folder in, a run folder out."""

import shlex
from pathlib import Path

from ..errors import SettingError
from .base import emit, note, table


def import_(
    path: str,
    *,
    out: str | None = None,
    convert: bool = False,
    json: bool = False,
) -> None:
    """Make a run of a Hugging Face folder.

    Parameters
    ----------
    path
        A folder with config.json, model.safetensors and tokenizer.json.
    out
        The run folder; runs/NAME by default.
    convert
        Take the tensors out of pickled weights (.bin, .pt), in a process that can do nothing else.
    json
        One JSON object on standard output.
    """
    from ..import_.huggingface import import_folder
    from ..import_.parity import UNCHECKED
    from ..report import write_report

    for name, value in (("PATH", path), ("--out", out)):
        if value == "":
            raise SettingError(f"{name} is empty: name a folder")
    made = import_folder(Path(path), None if out is None else Path(out), convert=convert, say=note)
    write_report(made.folder)
    rows = [("checked in", UNCHECKED)] if made.parity is None else made.parity.rows()
    word = shlex.quote(str(made.folder))
    text = f"{table(rows)}\n\nsaved as {made.folder}; next: scriven generate {word} PROMPT"
    emit(made.to_dict(), text, json)
