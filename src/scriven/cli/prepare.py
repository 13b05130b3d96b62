"""`scriven prepare`: corpora larger than memory into a folder of shards."""

from typing import Any

from .base import Settings, emit, table

DEFAULTS = ("seed", "data", "tokenizer")
"""What scriven.toml and SCRIVEN_* variables may set of this command."""


def prepare(
    *sources: str,
    out: str | None = None,
    tokenizer: str | None = None,
    weights: str | None = None,
    processes: int | None = None,
    seed: int = 0,
    format: str | None = None,
    quiet: bool = False,
    json: bool = False,
    settings: Settings = None,
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
    from ..api.preparing import prepare as start

    made = start(
        *sources, out=out, tokenizer=tokenizer, weights=weights, processes=processes, seed=seed,
        format=format, quiet=quiet, settings=settings,
    )  # fmt: skip
    emit(made, _told(made), json)


def _told(made: dict[str, Any]) -> str:
    rows = [
        ("documents", f"{made['documents']:,}"),
        ("bytes", f"{made['bytes']:,}"),
        ("training tokens", f"{made['train_tokens']:,}"),
        ("validation tokens", f"{made['validation_tokens']:,}"),
        ("tokenizer", f"{made['tokenizer_kind']}, {made['vocab_size']:,} ids"),
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
