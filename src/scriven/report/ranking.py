"""Models on one held-out text, by bits per byte: trained from nothing, and a base model as it came
and adapted. Bits per byte compare models of different tokenizers, which losses do not.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..format import ABSENT, duration, integer, table
from ..runs.metadata import read_run_metadata

HEADS = ("model", "bits per byte", "parameters", "time")


def rank(
    own: Mapping[str, Sequence[Path]], base: str, adapted: Sequence[Path]
) -> list[dict[str, Any]]:
    """A row for each model, the best first: `name`, `bits_per_byte` (a mean over seeds), `spread`
    (half the distance between the lowest and the highest seed), `parameters` and `seconds`.

    Args:
        own: runs from nothing, one for each seed, by architecture.
        base: what the base model is called.
        adapted: the runs that went on from it, one for each seed.
    """
    # a guess that sees both sides of a token is no prediction of it
    own = {name: runs for name, runs in own.items() if _predicts_next(runs[0])}
    rows = [_row(f"{name}, from nothing", _results(runs)) for name, runs in own.items()]
    after = _results(adapted)
    rows.append(_row(f"{base}, adapted", after))
    before = [{**each, "val_bits_per_byte": each["base_val_bits_per_byte"]} for each in after[:1]]
    rows.append({**_row(f"{base}, as it came", before), "seconds": 0.0})
    for runs in list(own.values())[:1]:
        rows.append(_ngram(read_run_metadata(runs[0])))
    return sorted(rows, key=lambda row: row["bits_per_byte"])


def _predicts_next(run: Path) -> bool:
    return bool(read_run_metadata(run)["measure"] == "next token")


def _results(runs: Sequence[Path]) -> list[dict[str, Any]]:
    return [read_run_metadata(run)["results"] for run in runs]


def _row(name: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values = [float(each["val_bits_per_byte"]) for each in results]
    return {
        "name": name,
        "bits_per_byte": statistics.fmean(values),
        "spread": (max(values) - min(values)) / 2,
        "seeds": len(values),
        "parameters": results[0]["parameters"],
        "seconds": statistics.fmean(float(each["seconds"]) for each in results),
    }


def _ngram(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The n-gram model that a run was compared with."""
    baseline = metadata["baseline"]
    return {
        "name": f"{baseline['order']}-grams", "bits_per_byte": baseline["bits_per_byte"],
        "spread": 0.0, "seeds": 1, "parameters": None, "seconds": None,
    }  # fmt: skip


def cells(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The rows as texts, under `HEADS`."""
    return [
        (
            row["name"],
            f"{row['bits_per_byte']:.3f}" + (f" ± {row['spread']:.3f}" if row["seeds"] > 1 else ""),
            ABSENT if row["parameters"] is None else integer(row["parameters"]),
            duration(row["seconds"]) if row["seconds"] else ABSENT,
        )
        for row in rows
    ]


def ranking_verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """The answer in a sentence: which one to use, and by how much."""
    first = rows[0]
    own = next((row for row in rows if row["name"].endswith("from nothing")), None)
    other = next((row for row in rows if not row["name"].endswith(("from nothing", "grams"))), None)
    if own is None or other is None:
        return ""
    gap, noise = abs(own["bits_per_byte"] - other["bits_per_byte"]), own["spread"] + other["spread"]
    if gap <= noise:
        return f"no difference beyond the seeds: {own['name']} and {other['name']}"
    better, worse = (own, other) if own["bits_per_byte"] < other["bits_per_byte"] else (other, own)
    share = gap / worse["bits_per_byte"]
    text = f"{better['name']} needs {share:.0%} fewer bits per byte than {worse['name']}"
    if first is better:
        return text
    return f"{text}; {first['name']} need fewer still: give them more budget"


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """For a terminal."""
    return f"{table([HEADS, *cells(rows)])}\n{ranking_verdict(rows)}".rstrip()


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """For a file."""
    lines = ["| " + " | ".join(row) + " |" for row in [HEADS, *cells(rows)]]
    lines.insert(1, "|---" * len(HEADS) + "|")
    return "\n".join([*lines, "", ranking_verdict(rows)]) + "\n"
