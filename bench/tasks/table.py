"""Prints the tables of docs/results.md from bench/tasks/results.jsonl and defaults.jsonl.

    python bench/tasks/table.py
    python bench/tasks/table.py --into docs/results.md

`--into` replaces the table of what fine-tuning does without a setting.
"""

import argparse
import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.jsonl")
DEFAULTS = Path(__file__).with_name("defaults.jsonl")
MARKERS = ("<!-- defaults -->", "<!-- end of defaults -->")
MAIN = {
    "sentiment": "accuracy",
    "topic": "accuracy",
    "entailment": "accuracy",
    "similarity": "pearson",
    "choice": "accuracy",
    "translation": "bleu",
    "headlines": "rouge_l",
    "chat": "ended",
}
"""The metric of each row."""

PARTS = ("pretrain_seconds", "between_seconds", "finetune_seconds")


def shown(figure: dict[str, Any] | None, places: int) -> str:
    """`35.5 (33.9 to 36.9)`"""
    if figure is None:
        return "–"
    value, low, high = (f"{figure[name]:.{places}f}" for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    score = MAIN[row["task"]]
    places = 1 if score in ("bleu", "rouge_l") else 3
    trivial = ", ".join(
        f"{name.replace('_', ' ')} {each['scores'][score]['value']:.{places}f}"
        for name, each in row["baseline"].items()
        if score in each["scores"]
    )
    cells = [
        row["task"],
        f"{score.replace('_', ' ')} {shown(row['scores'][score], places)}",
        trivial or "–",
        shown((row.get("control") or {}).get(score), places),
        shown(row.get("gain"), 3),
        str(row["seed"]),
        " + ".join(f"{row[part] / 60:.0f}" for part in PARTS if part in row) + " min",
        f"{row['rows']:,}",
    ]
    return f"| {' | '.join(cells)} |"


def defaults(rows: list[dict[str, Any]]) -> str:
    """The table of what `bench/tasks/defaults.py` measured last, a line for each set and base."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        base = "none" if row["base"] == "base" else row["base"]
        found.setdefault((row["set"], base, row["budget"]), []).append(row)
    lines = [
        "| set | from | budget | score by seed (95 %) | best baseline |",
        "|---|---|---|---|---|",
    ]
    for (name, base, budget), group in found.items():
        score = "pearson" if "pearson" in group[0]["evaluation"]["scores"] else "accuracy"
        group = sorted({row["seed"]: row for row in group}.values(), key=lambda row: row["seed"])
        scores = ", ".join(shown(row["evaluation"]["scores"][score], 3) for row in group)
        trivial = max(
            (each["scores"][score]["value"], kind.replace("_", " "))
            for kind, each in group[0]["evaluation"]["baseline"].items()
        )
        spent = budget if base != "none" else f"{budget} + {budget}"
        cells = [name, base, spent, f"{score} {scores}", f"{trivial[1]} {trivial[0]:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def replaced(page: str, table: str) -> str:
    """A page with another table between its markers."""
    before, _, rest = page.partition(MARKERS[0])
    after = rest.partition(MARKERS[1])[2]
    return f"{before}{MARKERS[0]}\n\n{table}\n\n{MARKERS[1]}{after}"


def main() -> None:
    """Prints the tables, or replaces one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--into", type=Path, help="a page with the two markers")
    given = parser.parse_args()
    measured = [json.loads(text) for text in DEFAULTS.read_text(encoding="utf-8").splitlines()]
    if given.into is not None:
        page = given.into.read_text(encoding="utf-8")
        given.into.write_text(replaced(page, defaults(measured)), encoding="utf-8")
        return
    print(defaults(measured))
    rows = [json.loads(text) for text in RESULTS.read_text(encoding="utf-8").splitlines()]
    rows = list({(row["task"], row["seed"]): row for row in rows}.values())  # the last of each
    rows.sort(key=lambda row: (list(MAIN).index(row["task"]), row["seed"]))
    print(
        "| task | test score (95 %) | trivial | without pre-training | gain | seed "
        "| time, one core | test rows |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(line(row))


if __name__ == "__main__":
    main()
