"""Prints the table of docs/results.md from bench/tasks/results.jsonl.

python bench/tasks/table.py
"""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.jsonl")
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


def main() -> None:
    """Prints the table."""
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
