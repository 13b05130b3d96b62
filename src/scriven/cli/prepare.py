"""`scriven prepare`: encodes corpora larger than memory into a folder of shards."""

from typing import Any

from ..format import plural, table
from .base import Json, Quiet, Settings, emit

DEFAULTS = ("seed", "data", "tokenizer")


def prepare(
    *sources: str,
    out: str | None = None,
    tokenizer: str | None = None,
    weights: str | None = None,
    processes: int | None = None,
    seed: int = 0,
    format: str | None = None,
    quiet: Quiet = False,
    json: Json = False,
    settings: Settings = None,
) -> None:
    """Encode texts of any size once, in parallel, for `scriven train FOLDER`.

    The same command on an unfinished folder resumes.

    Parameters
    ----------
    sources
        Files, folders and globs (.txt, .md, .jsonl, .csv, .tsv, .parquet, also .gz and .zst), a
        built-in corpus, or hf:NAME[/CONFIG][@REVISION][:SPLIT][#COLUMN].
    out
        The folder to write.
    tokenizer
        A tokenizer.json, a run or a prepared folder; learned from a sample by default.
    weights
        Shares of the sources in the training text, as wiki=0.7,books=0.3.
    processes
        Number of processes, one for each core by default; the result is the same.
    seed
        Random seed, for the documents that are held out and the order of weighted sources.
    format
        datatrove: the sources are folders of token files (.ds) that it wrote.
    """
    from ..prepare import prepare as run_prepare

    summary = run_prepare(
        *sources, out=out, tokenizer=tokenizer, weights=weights, processes=processes, seed=seed,
        format=format, quiet=quiet, settings=settings,
    )  # fmt: skip
    emit(summary, _summary_table(summary), json)


def _summary_table(summary: dict[str, Any]) -> str:
    rows = [
        ("documents", f"{summary['documents']:,}"),
        ("bytes", f"{summary['bytes']:,}"),
        ("training tokens", f"{summary['train_tokens']:,}"),
        ("validation tokens", f"{summary['validation_tokens']:,}"),
        ("tokenizer", f"{summary['tokenizer_kind']}, {summary['vocab_size']:,} ids"),
        ("shards", f"{summary['shards']:,}"),
        ("seconds", f"{summary['seconds']:.1f} ({summary['megabytes_per_second']:.1f} MB/s)"),
    ]
    for source in summary["sources"]:
        if source["weight"] is not None:
            share = f"{source['weight']:.1%} of the training text, {source['rounds']:g} epochs"
            rows.append((source["name"], share))
    if summary["skipped"]:
        rows.append(
            ("skipped", f"{plural(summary['skipped'], 'row')}, first {summary['first_skipped']}")
        )
    return f"{table(rows)}\n\nnext: scriven train {summary['out']}"
