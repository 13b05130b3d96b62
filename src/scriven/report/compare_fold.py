"""Runs that differ in their seed only, as one row: the mean, and how far the seeds lie apart."""

from dataclasses import replace

from .compare_row import Row, Value

MEASURED = (
    "steps", "train_loss", "val_loss", "train_accuracy", "val_accuracy", "bits_per_byte",
    "ngram_loss", "tokens", "seconds", "tokens_per_second", "score", "control",
)  # fmt: skip
"""Columns that are results; the others are settings, equal in all folded runs."""


def fold(rows: list[Row]) -> list[Row]:
    """One row for each set of finished runs that differ in their seed only, where the first stood.

    The spread is half the distance between the lowest and the highest: with the two or three
    seeds that people run, a standard deviation would promise more than they can tell.
    """
    sets: dict[str, list[Row]] = {}
    for row in rows:
        # an unfinished run is not one more sample of what a finished one reaches
        key = row.same if row.finished else f"{row.same} {row.folder}"
        sets.setdefault(key, []).append(row)
    return [_folded(each) if len(each) > 1 else each[0] for each in sets.values()]


def _folded(rows: list[Row]) -> Row:
    values: dict[str, Value] = dict(rows[0].values)
    spread: dict[str, float] = {}
    for name in MEASURED:
        found = [value for row in rows if isinstance(value := row.values[name], (int, float))]
        if len(found) < len(rows):
            values[name] = None
            continue
        values[name] = sum(found) / len(found)
        spread[name] = (max(found) - min(found)) / 2
    for name in ("interval", "baseline"):  # those of one seed
        values[name] = None
    values["seed"] = f"{len(rows)} seeds"
    return replace(
        rows[0],
        name=_name([row.name for row in rows]),
        values=values,
        spread=spread,
        best_step=None,
        runs=[path for row in rows for path in row.runs],
    )


def _name(names: list[str]) -> str:
    """What the names begin with: gpt2 for gpt2-0 and gpt2-1."""
    shortest = min(map(len, names))
    same = (n for n in range(shortest, 0, -1) if len({name[:n] for name in names}) == 1)
    return names[0][: next(same, 0)].rstrip("0123456789").rstrip("-_. ") or names[0]
