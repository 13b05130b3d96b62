"""`scriven.prepare`: encodes corpora larger than memory into a folder of token files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import config
from .data.prepare import run_prepare
from .data.prepare_plan import PrepareArgs
from .errors import InputError, SettingError, for_python
from .format import print_message
from .runs.folder import find_run
from .settings import DataSettings, TokenizerSettings


@for_python
def prepare(
    *sources: str | Path,
    out: str | Path | None,
    tokenizer: str | Path | None = None,
    weights: str | None = None,
    processes: int | None = None,
    seed: int = 0,
    format: str | None = None,
    quiet: bool = False,
    settings: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Encodes texts of any size once, in parallel; on an unfinished folder it resumes.

    Args:
        sources: files, folders and globs, a built-in corpus, or
            `hf:NAME[/CONFIG][@REVISION][:SPLIT][#COLUMN]`.
        out: the folder to write, which `scriven.train` reads.
        tokenizer: a tokenizer.json, a run or a prepared folder; learned from a sample by default.
        weights: shares of the sources in the training text, as "wiki=0.7,books=0.3".
        processes: number of processes, one for each core by default; the result is the same.
        seed: draws the documents that are held out, and the order of weighted sources.
        format: "datatrove": the sources are folders of token files that it wrote.
        quiet: no progress on standard error.
        settings: `data.*` and `tokenizer.*`, by name.

    Returns:
        Documents, bytes, tokens of both parts, shards, seconds, and the folder.

    Raises:
        InputError, SettingError: say what is wrong and how to fix it, before anything is written.
    """
    if not sources:
        raise InputError("no text: name files, folders, or hf:NAME")
    if not out:
        raise SettingError("name the folder to write: --out FOLDER")
    # settings: only those that decide how the text is encoded
    sections = config.sections(settings or {})
    for name, changes in sections.items():
        if name not in ("data", "tokenizer"):
            raise config.unknown(f"--{name}.{next(iter(changes))}", ["--data.", "--tokenizer."])
    tokenizer_from = None
    if tokenizer is not None:  # a path, or a run by its name
        exists = Path(tokenizer).exists()
        tokenizer_from = Path(tokenizer) if exists else find_run(str(tokenizer))
    # without a given fraction, the validation part of a large corpus is bounded
    args = PrepareArgs(
        sources=tuple(map(str, sources)),
        out=Path(out),
        data=config.replace(DataSettings(), sections.get("data", {}), "data"),
        tokenizer=config.replace(TokenizerSettings(), sections.get("tokenizer", {}), "tokenizer"),
        tokenizer_from=tokenizer_from,
        weights=weights,
        processes=processes,
        seed=seed,
        format=format,
        bounded="val_fraction" not in sections.get("data", {}),
    )
    if quiet:
        return run_prepare(args)
    return run_prepare(args, print_message)
