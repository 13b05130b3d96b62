"""Which of four speeches comes next: `context`, `choices` (four texts) and `answer` (0 to 3).

The context is the up to three speeches before, within the scene, as the corpus writes them, and
then the name of the one who speaks next with its colon: who answers is told, what is said is
asked. The choices have no names, since in a dialogue the name alone would give the answer.

The three wrong choices come from the same play, at least eight speeches away, out of the same
group of lengths; each row draws anew. Speeches of 5 to 60 words count, and only those that are a
right answer somewhere can be a wrong one elsewhere (no first speech of a scene, for one), so
nothing about a choice by itself tells whether it is right: not its length, its style or its place.

A speech that an earlier part has too is neither a right nor a wrong choice.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from ..corpora import shakespeare
from ..corpora.shakespeare import Play
from . import base
from .base import SplitName

COLUMNS = ("context", "choices", "answer")
CHOICES = 4
BEFORE = 3
AWAY = 8
SHORTEST, LONGEST = 5, 60


def read(part: SplitName) -> Iterator[dict[str, Any]]:
    """The rows of a part, play by play; raises as `shakespeare.plays`."""
    seen = base.earlier_speeches(part)
    for play in base.plays_of(part):
        yield from _rows(play, seen)


def _rows(play: Play, seen: frozenset[str]) -> Iterator[dict[str, Any]]:
    speeches = play.speeches
    # 1. candidates: speeches that follow another one in their scene, grouped by length
    plain = [base.normalised(speech.text) for speech in speeches]
    groups: dict[int, list[int]] = defaultdict(list)
    for place in range(1, len(speeches)):
        size = base.count_words(speeches[place].text)
        follows = speeches[place - 1].scene == speeches[place].scene
        if follows and SHORTEST <= size <= LONGEST and plain[place] not in seen:
            groups[_group(size)].append(place)
    # 2. a row for each candidate that finds three wrong answers
    group_of = {place: group for group in groups.values() for place in group}
    for place in sorted(group_of):
        wrong = _draw(f"{play.name}/{place}", place, group_of[place], plain)
        if wrong is None:
            continue
        answer = base.choose_index(f"{play.name}/{place}/answer", CHOICES)
        order = [*wrong[:answer], place, *wrong[answer:]]
        yield {
            "context": _context(play, place),
            "choices": [speeches[each].text for each in order],
            "answer": answer,
        }


def _draw(key: str, place: int, group: list[int], plain: list[str]) -> list[int] | None:
    """Three places of the group with other words; None where the group is too small."""
    taken = {plain[place]}
    wrong: list[int] = []
    left = [other for other in group if abs(other - place) >= AWAY]
    # drawn without replacement; a refrain with the same words would be a second right answer
    while left and len(wrong) < CHOICES - 1:
        other = left.pop(base.choose_index(f"{key}/{len(left)}", len(left)))
        if plain[other] not in taken:
            taken.add(plain[other])
            wrong.append(other)
    return wrong if len(wrong) == CHOICES - 1 else None


def _context(play: Play, place: int) -> str:
    """The speeches before, and the name of the next speaker."""
    speeches = play.speeches
    before = [
        speech
        for speech in speeches[max(0, place - BEFORE) : place]
        if speech.scene == speeches[place].scene
    ]
    return f"{shakespeare.render(before)}{speeches[place].speaker}:"


def _group(size: int) -> int:
    """Lengths within about a fifth of each other: 5, 6, 7, 8, 9 to 10, 11 to 12, 13 to 15 ..."""
    return int(math.log(size) * 6)
