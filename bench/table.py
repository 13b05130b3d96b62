"""Formats the rows of bench/results.jsonl as tables, the newest row of each kind.

    python bench/table.py
    python bench/table.py --into docs/benchmarks.md

`--into` replaces the text between the two markers of the page. Different CPUs have
their own rows.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.jsonl")
MARKERS = ("<!-- results -->", "<!-- end of results -->")
NOTHING = "Nothing has been measured yet."

KEY = ("what", "shape", "arch", "dropout", "bits", "rival", "processor")
"""Rows that agree in these are measurements of the same thing; the last one counts. `rival` is the
program, `processor` the CPU."""

LABELS = {"writing": "generation", "writing 32 at once": "generation, batch of 32"}
"""Measurements whose name in the file is an older one."""

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]


def newest(rows: Sequence[Row], *names: str) -> list[Row]:
    """The last row of each kind, in the order in which kinds first came."""
    last = {str([row.get(name) for name in names or KEY]): row for row in rows}
    return list(last.values())


def contests(rows: Sequence[Row]) -> str:
    """Training steps and generation: tokens per second of each program, and our speedup."""
    chosen = [row for row in newest(rows) if "rival" in row and "ratio" in row]
    if not chosen:
        return NOTHING

    def kind(row: Row) -> str:
        return f"dropout {row['dropout']:g}" if "dropout" in row else str(row["bits"])

    def rate(row: Row) -> str:
        seconds = row["seconds"]
        spread = (seconds["max"] - seconds["min"]) / seconds["median"]
        return f"{row['tokens_per_second']:,.0f} (±{spread / 2:.0%})"

    def settings(row: Row) -> str:
        return ", ".join(f"{name} {value}" for name, value in row["settings"].items())

    return _table(
        chosen,
        ("what", lambda row: f"{LABELS.get(row['what'], row['what'])}, {kind(row)}"),
        ("shape", lambda row: f"{row['shape']} {row['arch']}"),
        ("program", lambda row: f"{row['rival']} {_version(row)}"),
        ("tokens/s", rate),
        # the ratios are to our own time
        (
            "ours is faster by",
            lambda row: f"{row['ratio']:.2f}×" if row["rival"] != "scriven" else "",
        ),
        ("settings", settings),
        ("threads", lambda row: str(row["contest_threads"])),
    )


def races(rows: Sequence[Row]) -> str:
    """Time to a loss, whole process."""
    chosen = [row for row in newest(rows) if row["what"].startswith("time to ") and "target" in row]
    return _table(
        chosen,
        ("loss", lambda row: str(row["target"])),
        ("program", lambda row: f"{row['rival']} {_version(row)}"),
        ("seconds, whole process", lambda row: f"{row['seconds']['median']:,.1f}"),
        ("losses", lambda row: ", ".join(f"{each:.4f}" for each in row["losses"]) or "not run"),
        ("how", lambda row: row["how"]),
        ("threads", lambda row: str(row["contest_threads"])),
        ("commit", lambda row: row["commit"]),
    )


def losses(rows: Sequence[Row]) -> str:
    """Validation loss by budget, whole process: the newest run of each seed."""
    kind = ("processor", "text", "budget", "arch")
    runs = newest(_of(rows, "time to loss"), *kind, "seed")
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in sorted(runs, key=lambda row: (round(row["whole_process_seconds"], -1), row["seed"])):
        groups.setdefault(tuple(row[name] for name in kind), []).append(row)
    return _table(
        [{**seeds[-1], "seeds": seeds} for seeds in groups.values()],
        ("characters of", lambda row: row["text"]),
        ("budget", lambda row: row["budget"]),
        ("architecture", lambda row: row["arch"]),
        ("loss of each seed", lambda row: ", ".join(f"{s['val_loss']:.3f}" for s in row["seeds"])),
        ("5-gram baseline", lambda row: f"{row['ngram_loss']:.3f}"),
        ("parameters", lambda row: f"{row['parameters']:,}"),
        ("tokens/s", lambda row: f"{row['tokens_per_second']:,.0f}"),
        ("commits", lambda row: ", ".join(dict.fromkeys(s["commit"] for s in row["seeds"]))),
    )


def speculative_decoding(rows: Sequence[Row]) -> str:
    """Generation with and without speculative decoding."""

    def rate(row: Row, name: str) -> str:
        return f"{row['tokens_per_second'][name]:,.0f}"

    return _table(
        newest(_of(rows, "guesses"), "prompts", "temperature", "processor"),
        ("batch size", lambda row: str(row["prompts"])),
        ("sampling", lambda row: "temperature 0.8" if row["temperature"] else "greedy"),
        ("tokens/s with speculative decoding", lambda row: rate(row, "with")),
        ("without", lambda row: rate(row, "without")),
        ("faster by", lambda row: f"{row['ratio']:.2f}×"),
    )


def busy_machine(rows: Sequence[Row]) -> str:
    """Training beside busy-looping processes."""
    return _table(
        newest(_of(rows, "training on a busy machine"), "others", "processor"),
        ("busy-looping processes", lambda row: str(row["others"])),
        ("tokens/s", lambda row: _median(row, "busy")),
        ("of the idle speed", lambda row: f"{row['kept']:.0%}"),
    )


def processes(rows: Sequence[Row]) -> str:
    """Two processes of one thread against one of two."""
    return _table(
        newest(_of(rows, "two processes against two threads"), "shape", "processor"),
        ("two processes, shape", lambda row: row["shape"]),
        ("tokens/s, two threads", lambda row: _median(row, "threads")),
        ("DDP", lambda row: f"{_median(row, 'ddp')} ({row['ratio']['ddp']:.2f}×)"),
        ("FSDP", lambda row: f"{_median(row, 'fsdp')} ({row['ratio']['fsdp']:.2f}×)"),
    )


def preparing(rows: Sequence[Row]) -> str:
    """`scriven prepare`, two processes."""
    chosen = newest(_of(rows, "prepare"), "form", "tokenizer", "processor")
    return _table(
        [row for row in chosen if row["megabytes"] >= 1000],
        ("1 GB of", lambda row: f".{row['form']}, {row['tokenizer']}"),
        ("MB/s", lambda row: f"{row['megabytes_per_second']:.0f}"),
        ("peak memory", lambda row: f"{row['peak_megabytes']} MB"),
        ("kills", lambda row: f"{row['kills']}, {'the same' if row['equal'] else 'DIFFERENT'}"),
    )


def growth(rows: Sequence[Row]) -> str:
    """Time per training step relative to its FLOPs, by model size."""
    return _table(
        [row for row in newest(rows) if row["what"] == "growth"],
        ("parameters", lambda row: f"{row['parameters']:,}"),
        ("GFLOP per step", lambda row: f"{row['gflop']:,.0f}"),
        ("seconds", lambda row: f"{row['seconds']['median']:.3f}"),
        ("GFLOP/s", lambda row: f"{row['gflops']:,.0f}"),
        ("seconds per FLOP, relative to the best", lambda row: f"{row['against_best']:.2f}×"),
    )


def earlier(rows: Sequence[Row]) -> str:
    """The default small model beside an earlier version of this project."""

    def figure(row: Row, name: str) -> str:
        if "milliseconds" in row:
            return f"{row['milliseconds'][name]['median']:,.0f} ms"
        return f"{_median(row, name)} tokens/s"

    def precision(row: Row) -> str:
        fast = row.get("bfloat16_gflops", 0) > row.get("float32_gflops", 0)
        return "bfloat16" if fast else "float32"

    known = [{**row, "precision": precision(row)} for row in rows if "earlier" in row]
    return _table(
        newest(known, "what", "earlier", "processor", "precision"),
        ("default model, 0.85 M", lambda row: row["what"].partition(" beside")[0]),
        ("now", lambda row: figure(row, "now")),
        ("earlier", lambda row: figure(row, "earlier")),
        ("faster by", lambda row: f"{row['speedup']:.2f}×"),
        ("commits", lambda row: f"{row['commit']}, {row['earlier']}"),
        ("fastest products", lambda row: row["precision"]),
    )


TABLES = (losses, speculative_decoding, busy_machine, processes, preparing, growth, earlier)


def page(rows: Sequence[Row]) -> str:
    """All tables that have rows."""
    parts = [contests(rows), races(rows), *(table(rows) for table in TABLES)]
    return "\n\n".join(part for part in parts if part)


def replace_tables(text: str, tables: str) -> str:
    """The page with these tables between its markers."""
    before, _, rest = text.partition(MARKERS[0])
    _, _, after = rest.partition(MARKERS[1])
    return f"{before}{MARKERS[0]}\n{tables}\n{MARKERS[1]}{after}"


def _table(rows: Iterable[Row], *columns: Column) -> str:
    columns = (*columns, ("machine", lambda row: row["processor"]))
    lines = [" | ".join(cell(row) for _, cell in columns) for row in rows]
    if not lines:
        return ""
    head = " | ".join(name for name, _ in columns)
    return "\n".join(f"| {line} |" for line in (head, " | ".join("---" for _ in columns), *lines))


def _of(rows: Sequence[Row], what: str) -> list[Row]:
    return [row for row in rows if row["what"] == what]


def _median(row: Row, name: str) -> str:
    return f"{row['tokens_per_second'][name]['median']:,.0f}"


def _version(row: Row) -> str:
    versions = row.get("versions", {})
    return str(next(iter(versions.values()), "")) if row["rival"] != "nanoGPT" else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--into", type=Path, help="a page with the two markers")
    args = parser.parse_args()
    lines = args.results.read_text(encoding="utf-8").splitlines() if args.results.exists() else []
    tables = page([json.loads(line) for line in lines])
    if args.into is None:
        print(tables)
    else:
        text = args.into.read_text(encoding="utf-8")
        args.into.write_text(replace_tables(text, tables), encoding="utf-8")


if __name__ == "__main__":
    main()
