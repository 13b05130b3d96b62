"""`scriven prepare`: corpora larger than memory into a folder of shards."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from .base import emit, note, table


def prepare(
    *sources: str,
    out: str | None = None,
    tokenizer: str | None = None,
    weights: str | None = None,
    processes: int | None = None,
    seed: int = 0,
    format: str | None = None,
    quiet: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
    settings: Annotated[dict[str, object] | None, Parameter(parse=False)] = None,
) -> None:
    """Encode texts of any size once, in parallel, for `scriven train FOLDER`.

    The same command on an unfinished folder goes on with it.

    Parameters
    ----------
    sources
        Files, folders and globs (.txt, .md, .jsonl, .csv, .tsv, .parquet, also .gz and .zst), a
        built-in corpus, or hf:NAME[/CONFIG][:SPLIT][#COLUMN].
    out
        The folder to write.
    tokenizer
        A tokenizer.json, a run or a prepared folder; learned from a sample by default.
    weights
        Shares of the sources in the training text, as wiki=0.7,books=0.3.
    processes
        How many; one for each core by default. The outcome is the same.
    seed
        Of the draw of documents that are held out, and of the order of weighted sources.
    format
        datatrove: the sources are folders of token files (.ds) that it wrote.
    quiet
        No progress on standard error.
    json
        One JSON object on standard output.
    """
    from .. import config
    from ..data.bulk.build import Wanted, build
    from ..errors import InputError, SettingError
    from ..settings import DataSettings, TokenizerSettings

    if not sources:
        raise InputError("no text: name files, folders, or hf:NAME")
    if not out:
        raise SettingError("name the folder to write: --out FOLDER")
    sections = config.sections(settings or {})
    for name, changes in sections.items():
        if name not in ("data", "tokenizer"):
            raise config.unknown(f"--{name}.{next(iter(changes))}", ["--data.", "--tokenizer."])
    wanted = Wanted(
        sources=sources,
        out=Path(out),
        data=config.replace(DataSettings(), sections.get("data", {}), "data"),
        tokenizer=config.replace(TokenizerSettings(), sections.get("tokenizer", {}), "tokenizer"),
        tokenizer_from=None if tokenizer is None else _tokenizer(tokenizer),
        weights=weights,
        processes=processes,
        seed=seed,
        format=format,
        bounded="validation" not in sections.get("data", {}),
    )
    made = build(wanted, (lambda _: None) if quiet else note)
    emit(made, _told(made), json)


def _tokenizer(name: str) -> Path:
    """What a person means by --tokenizer: a path, or a run by its name."""
    if Path(name).exists():
        return Path(name)
    from ..run.folder import resolve

    return resolve(name)


def _told(made: dict[str, Any]) -> str:
    rows = [
        ("documents", f"{made['documents']:,}"),
        ("bytes", f"{made['bytes']:,}"),
        ("training tokens", f"{made['train_tokens']:,}"),
        ("validation tokens", f"{made['validation_tokens']:,}"),
        ("tokenizer", f"{made['tokenizer_kind']}, {made['vocabulary']:,} ids"),
        ("shards", f"{made['shards']:,}"),
        ("seconds", f"{made['seconds']:.1f} ({made['megabytes_per_second']:.1f} MB/s)"),
    ]
    for each in made["sources"]:
        if each["weight"] is not None:
            share = f"{each['weight']:.1%} of the training text, read {each['rounds']:g} times"
            rows.append((each["name"], share))
    if made["skipped"]:
        rows.append(("skipped", f"{made['skipped']:,} rows, first {made['first_skipped']}"))
    return f"{table(rows)}\n\nnext: scriven train {made['out']}"
