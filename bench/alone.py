"""Tables of what is measured without a peer: losses, speculative decoding, busy machines, corpora.

Rows of different CPUs are kept apart in all of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Cells = tuple[str, Callable[[Row], str]]


def _table(rows: Iterable[Row], *columns: Cells) -> str:
    columns = (*columns, ("machine", lambda row: row["processor"]))
    lines = [" | ".join(cell(row) for _, cell in columns) for row in rows]
    head = " | ".join(name for name, _ in columns)
    return "\n".join(f"| {line} |" for line in (head, " | ".join("---" for _ in columns), *lines))


def _newest(found: Sequence[Row], what: str, *names: str) -> list[Row]:
    """The last row of each value of these names, on each processor."""
    names = (*names, "processor")
    kept = {str([row[name] for name in names]): row for row in found if row["what"] == what}
    return list(kept.values())


def losses(found: Sequence[Row]) -> str:
    """Whole process: the newest run of each seed; earlier recipes stay in the file."""
    rows = _newest(found, "time to loss", "text", "budget", "seed")
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (round(row["whole_process_seconds"], -1), row["seed"])):
        groups.setdefault((row["processor"], row["text"], row["budget"]), []).append(row)
    return _table(
        [{**same[-1], "rows": same} for same in groups.values()],
        ("characters of", lambda each: each["text"]),
        ("after", lambda each: each["budget"]),
        ("loss of each seed", lambda each: ", ".join(f"{r['val_loss']:.3f}" for r in each["rows"])),
        ("5-grams", lambda each: f"{each['ngram_loss']:.3f}"),
        ("parameters", lambda each: f"{each['parameters']:,}"),
        ("tokens/s", lambda each: f"{each['tokens_per_second']:,.0f}"),
        ("commits", lambda each: ", ".join(dict.fromkeys(r["commit"] for r in each["rows"]))),
    )


def guesses(found: Sequence[Row]) -> str:
    """With and without guessing ahead."""
    return _table(
        _newest(found, "guesses", "prompts", "temperature"),
        ("texts at once", lambda row: str(row["prompts"])),
        ("", lambda row: "drawn" if row["temperature"] else "greedy"),
        (
            "tokens/s with speculative decoding",
            lambda row: f"{row['tokens_per_second']['with']:,.0f}",
        ),
        ("without", lambda row: f"{row['tokens_per_second']['without']:,.0f}"),
        ("faster by", lambda row: f"{row['ratio']:.2f}×"),
    )


def busy(found: Sequence[Row]) -> str:
    """Beside processes that never rest."""
    return _table(
        _newest(found, "training on a busy machine", "others"),
        ("processes that never rest", lambda row: str(row["others"])),
        ("tokens/s", lambda row: f"{row['tokens_per_second']['busy']['median']:,.0f}"),
        ("of the idle speed", lambda row: f"{row['kept']:.0%}"),
    )


def processes(found: Sequence[Row]) -> str:
    """Two processes of one thread against one of two."""
    rows = _newest(found, "two processes against two threads", "shape")
    return _table(
        rows,
        ("two processes, shape", lambda row: row["shape"]),
        ("tokens/s, two threads", lambda row: _rate(row, "threads")),
        ("ddp", lambda row: f"{_rate(row, 'ddp')} ({row['ratio']['ddp']:.2f}×)"),
        ("fsdp", lambda row: f"{_rate(row, 'fsdp')} ({row['ratio']['fsdp']:.2f}×)"),
    )


def preparing(found: Sequence[Row]) -> str:
    """`scriven prepare`, two processes."""
    return _table(
        [row for row in _newest(found, "prepare", "form", "tokenizer") if row["megabytes"] >= 1000],
        ("1 GB of", lambda row: f".{row['form']}, {row['tokenizer']}"),
        ("MB/s", lambda row: f"{row['megabytes_per_second']:.0f}"),
        ("peak memory", lambda row: f"{row['peak_megabytes']} MB"),
        ("kills", lambda row: f"{row['kills']}, {'the same' if row['equal'] else 'DIFFERENT'}"),
    )


def _rate(row: Row, name: str) -> str:
    return f"{row['tokens_per_second'][name]['median']:,.0f}"


KINDS = {
    "time to loss": losses,
    "guesses": guesses,
    "training on a busy machine": busy,
    "two processes against two threads": processes,
    "prepare": preparing,
}


def page(found: Sequence[Row]) -> list[str]:
    """Every table that has rows."""
    there = {row["what"] for row in found}
    return [make(found) for what, make in KINDS.items() if what in there]
