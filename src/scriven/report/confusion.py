"""Which labels a model takes for which: a small table in one hue, darker where more rows are.

The shade is the share of a row of the table, so rare labels show as well as common ones; the
numbers stand in the cells, so nothing depends on seeing the shade.
"""

from collections.abc import Sequence

from ..format import integer, percent
from .history import History, finite
from .markup import Markup, element

LEVELS = (0.05, 0.2, 0.4, 0.65, 0.85)
"""Shares from which on a cell is one shade darker."""
NAME = 40  # characters of a label that are shown


def confusion(history: History) -> Markup:
    """The table with a sentence on the commonest mistake; empty markup where there is none."""
    labels = history.pick("finetune", "labels")
    counts = _counts(history.pick("results", "confusion"), labels)
    if not counts:
        return Markup("")
    names = [str(each)[:NAME] for each in labels]
    head = element(
        "tr",
        element("th", "is", scope="col"),
        *(element("th", element("bdi", name), scope="col", class_="number") for name in names),
        element("th", "found", scope="col", class_="number"),
    )
    body = []
    for place, row in enumerate(counts):
        total = sum(row)
        found = percent(row[place] / total, 0) if total else ""
        cells = [
            _cell(count, total, names[place], other)
            for count, other in zip(row, names, strict=True)
        ]
        body.append(
            element(
                "tr",
                element("th", element("bdi", names[place]), scope="row"),
                *cells,
                element("td", found, class_="number"),
            )
        )
    table = element(
        "table",
        element("thead", head),
        element("tbody", *body),
        class_="confusion",
    )
    told = f"{_mistake(counts, names)} A row for each label as it is, a column as the model says."
    return element("div", element("p", told), table, class_="scroll")


def _counts(found: object, labels: object) -> list[list[int]]:
    """The counts, where they are as many as there are labels; else none."""
    if not isinstance(found, list) or not isinstance(labels, list) or not labels:
        return []
    if len(found) != len(labels):
        return []
    counts = []
    for row in found:
        if not isinstance(row, list) or len(row) != len(labels):
            return []
        numbers = [finite(each) for each in row]
        if any(each is None or each < 0 for each in numbers):
            return []
        counts.append([int(each or 0) for each in numbers])
    return counts


def _cell(count: int, total: int, is_label: str, said: str) -> Markup:
    share = count / total if total else 0.0
    level = sum(share >= least for least in LEVELS)
    words = f"{integer(count)} of {integer(total)} that are {is_label} called {said}"
    return element("td", integer(count), class_=f"number c{level}", title=words)


def _mistake(counts: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    wrong = [
        (count, place, other)
        for place, row in enumerate(counts)
        for other, count in enumerate(row)
        if place != other
    ]
    count, place, other = max(wrong, key=lambda each: each[0], default=(0, 0, 0))
    if not count:
        return "It has made no mistake on these rows."
    total = sum(each for each, _, _ in wrong)
    return (
        f"Its commonest mistake, {integer(count)} of {integer(total)}: what is {names[place]} it "
        f"calls {names[other]}."
    )
