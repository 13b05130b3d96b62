"""The rows of bench/results.jsonl as tables of ratios, the newest of each kind.

    python bench/table.py
    python bench/table.py --into docs/benchmarks.md

`--into` puts them between the two marks of the page.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import alone

RESULTS = Path(__file__).with_name("results.jsonl")
SPECIAL_TOKENS = ("<!-- results -->", "<!-- end of results -->")
NOTHING = "Nothing has been measured yet."

KEY = ("what", "shape", "arch", "dropout", "bits", "rival", "processor")
"""Rows that agree in these are measurements of the same thing; the last one counts."""


def newest(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The last row of each kind, in the order in which kinds first came."""
    kept: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in found:
        kept[tuple(row.get(name) for name in KEY)] = row
    return list(kept.values())


def contests(found: Sequence[Mapping[str, Any]]) -> str:
    """Training steps and writing: figures of each side, and how many times ours is faster."""
    chosen = [row for row in newest(found) if "rival" in row and "ratio" in row]
    if not chosen:
        return NOTHING
    lines = [
        "| what | shape | of | tokens/s | ours is faster by | settings | threads, machine |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in chosen:
        own = row["rival"] == "scriven"  # what the ratios are to
        kind = f"dropout {row['dropout']:g}" if "dropout" in row else str(row["bits"])
        spread = row["seconds"]
        rate = f"{row['tokens_per_second']:,.0f}"
        wide = (spread["max"] - spread["min"]) / spread["median"]
        settings = ", ".join(f"{name} {value}" for name, value in row["settings"].items())
        times = "" if own else f"{row['ratio']:.2f}×"
        lines.append(
            f"| {row['what']}, {kind} | {row['shape']} {row['arch']} | {row['rival']} "
            f"{_version(row)} | {rate} (±{wide / 2:.0%}) | {times} "
            f"| {settings} | {row['contest_threads']}, {row['processor']} |"
        )
    return "\n".join(lines)


def races(found: Sequence[Mapping[str, Any]]) -> str:
    """Time to a loss, whole process."""
    chosen = [row for row in newest(found) if row["what"].startswith("time to ")]
    chosen = [row for row in chosen if "target" in row]
    if not chosen:
        return ""
    lines = [
        "| loss | of | seconds, whole process | losses | how | threads, machine, commit |",
        "|---|---|---|---|---|---|",
    ]
    for row in chosen:
        seconds = f"{row['seconds']['median']:,.1f}"
        losses = ", ".join(f"{loss:.4f}" for loss in row["losses"]) or "not run"
        lines.append(
            f"| {row['target']} | {row['rival']} {_version(row)} | {seconds} | {losses} "
            f"| {row['how']} | {row['contest_threads']}, {row['processor']}, {row['commit']} |"
        )
    return "\n".join(lines)


def growth(found: Sequence[Mapping[str, Any]]) -> str:
    """Time per step against arithmetic."""
    chosen = [row for row in newest(found) if row["what"] == "growth"]
    if not chosen:
        return ""
    lines = [
        "| parameters | GFLOP a step | seconds | GFLOP/s | seconds per FLOP against the best "
        "| machine |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['parameters']:,} | {row['gflop']:,.0f} | {row['seconds']['median']:.3f} "
        f"| {row['gflops']:,.0f} | {row['against_best']:.2f}× | {row['processor']} |"
        for row in chosen
    ]
    return "\n".join(lines)


def page(found: Sequence[Mapping[str, Any]]) -> str:
    """All tables."""
    parts = (contests(found), races(found), *alone.page(found), growth(found))
    return "\n\n".join(part for part in parts if part)


def put(text: str, made: str) -> str:
    """The page with the tables between its marks."""
    before, _, rest = text.partition(SPECIAL_TOKENS[0])
    _, _, after = rest.partition(SPECIAL_TOKENS[1])
    return f"{before}{SPECIAL_TOKENS[0]}\n{made}\n{SPECIAL_TOKENS[1]}{after}"


def _version(row: Mapping[str, Any]) -> str:
    versions = row.get("versions", {})
    return str(next(iter(versions.values()), "")) if row["rival"] != "nanoGPT" else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--into", type=Path)
    asked = parser.parse_args()
    lines = asked.results.read_text(encoding="utf-8").splitlines() if asked.results.exists() else []
    made = page([json.loads(line) for line in lines])
    if asked.into is None:
        print(made)
    else:
        text = asked.into.read_text(encoding="utf-8")
        asked.into.write_text(put(text, made), encoding="utf-8")


if __name__ == "__main__":
    main()
