"""What a reader must know before two losses are compared, as numbered footnotes.

Runs are ranked only among runs that measured the same thing over the same tokens.
"""

from collections.abc import Sequence

from ..format import integer
from .compare_row import NEXT_TOKEN, Row


def add_notes(rows: Sequence[Row]) -> list[str]:
    """Gives each row the numbers of its footnotes and marks the best of each group.

    Returns:
        The footnotes, in the order of their numbers.
    """
    notes: list[str] = []
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        row.notes, row.best = [], False
        groups.setdefault((*row.text, row.measure), []).append(row)
    usual = _usual(groups)
    for group in groups.values():
        _mark_best(group)
    for row in rows:
        alone = row.judged == "score" and len({each.measure for each in rows}) == 1
        if row.measure != NEXT_TOKEN and not alone:
            text = f"the loss is that of {row.measure}: not comparable with losses of {NEXT_TOKEN}"
            _note(row, text, notes)
        if usual is not None and row.text != usual.text:
            _note(row, _other_text(row, usual), notes)
        if not row.finished:
            step = "" if row.best_step is None else f"; the best so far, of step {row.best_step:,}"
            _note(row, f"unfinished{step}", notes)
        if len(row.runs) > 1:
            text = (
                f"{len(row.runs)} seeds: mean ± half the distance from the lowest to the highest; "
                "a difference smaller than that shows nothing"
            )
            _note(row, text, notes)
    return notes


def _usual(groups: dict[tuple[object, ...], list[Row]]) -> Row | None:
    """A row of the text most runs share, the first of equals."""
    texts: dict[object, list[Row]] = {}
    for group in groups.values():
        texts.setdefault(group[0].text, []).extend(group)
    largest = max(texts.values(), key=len, default=[])
    return largest[0] if largest else None


def _other_text(row: Row, usual: Row) -> str:
    if row.judged == usual.judged == "score":
        return "other rows or another split than most of these runs: the scores are not comparable"
    mine, theirs = (_number(each.values["vocab_size"]) for each in (row, usual))
    sizes = "" if mine == theirs else f" (vocabulary {integer(mine)} against {integer(theirs)})"
    return (
        f"another text, split or tokenizer than most of these runs{sizes}: the losses are not "
        "comparable"
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _mark_best(group: list[Row]) -> None:
    """The lowest loss or the highest score, where there is something to be better than."""
    measured = [
        (figure, row) for row in group if (figure := _number(row.values[row.judged])) is not None
    ]
    if len(measured) < 2:
        return
    finished = [pair for pair in measured if pair[1].finished]
    if finished:
        sign = -1 if finished[0][1].judged == "score" else 1
        min(finished, key=lambda pair: sign * pair[0])[1].best = True


def _note(row: Row, text: str, notes: list[str]) -> None:
    if text not in notes:
        notes.append(text)
    row.notes.append(notes.index(text) + 1)
