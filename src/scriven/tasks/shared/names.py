"""Label names: gathered from the training rows, kept with the model, and looked up again."""

from collections import Counter
from collections.abc import Iterable, Sequence

from ...errors import InputError
from .columns import BadValue, Row

MOST = 10_000
"""Labels; a column with more is no column of labels."""


def survey_labels(rows: Iterable[Row]) -> list[str]:
    """The names of all labels, sorted; whole numbers by their value.

    Raises:
        InputError: fewer than two, or so many that it cannot be a column of labels.
    """
    counts = Counter(row["label"] for row in rows)
    if len(counts) < 2:
        only = next(iter(counts), None)
        raise InputError(f"every row has the label {only!r}: there is nothing to tell apart")
    total = counts.total()
    if len(counts) > MOST or (len(counts) > 20 and len(counts) > 0.5 * total):
        raise InputError(
            f"{len(counts):,} labels in {total:,} rows, such as {next(iter(counts))[:40]!r}: that "
            "is no column of labels; name another one with --columns label=NAME"
        )
    whole = all(name.lstrip("-").isdecimal() for name in counts)
    return sorted(counts, key=lambda name: (int(name), name) if whole else (0, name))


def number_of(name: str | None, labels: Sequence[str]) -> int | None:
    """The place of a label; None where the answer is not known.

    Raises:
        BadValue: it was never seen in training.
    """
    if name is None:
        return None
    if name not in labels:
        known = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
        raise BadValue(f"has the label {name[:60]!r}, which training never saw; known are {known}")
    return labels.index(name)
