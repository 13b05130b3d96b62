"""`scriven import`: imports a Hugging Face model as a run."""

import shlex
from pathlib import Path

from ..errors import SettingError
from ..format import table
from .base import Json, emit, note


def import_(
    path: str,
    *,
    out: str | None = None,
    convert: bool = False,
    json: Json = False,
) -> None:
    """Import a Hugging Face model.

    Parameters
    ----------
    path
        A folder with config.json, model.safetensors and tokenizer.json.
    out
        The run folder; runs/NAME by default.
    convert
        Read pickled weights (.bin, .pt), in a sandboxed process.
    """
    from ..importing import import_model

    for name, value in (("PATH", path), ("--out", out)):
        if value == "":
            raise SettingError(f"{name} is empty: name a folder")
    imported = import_model(path, None if out is None else Path(out), convert=convert, say=note)
    parity = imported.parity
    rows = [("checked in", imported.unchecked)] if parity is None else parity.rows()
    word = shlex.quote(str(imported.folder))
    text = f"{table(rows)}\n\nsaved as {imported.folder}; next: scriven generate {word} PROMPT"
    emit(imported.to_dict(), text, json)
