"""What the tables made from the plays share: which play is in which split, and seeded choice.

Whole plays are split, never passages, so that no character, plot or phrase of a test play is seen
in training. Nothing here depends on the machine or on Python's own random numbers.
"""

import re
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from itertools import groupby
from typing import Literal

from ..corpora import shakespeare
from ..corpora.shakespeare import Play, Speech
from ..sampler import seeded_hash

SplitName = Literal["train", "validation", "test"]

SEED = "plays"

BOUND = (
    "henry-vi-part-1", "henry-vi-part-2", "henry-vi-part-3", "richard-iii",
    "richard-ii", "henry-iv-part-1", "henry-iv-part-2", "henry-v", "the-merry-wives-of-windsor",
    "julius-caesar", "antony-and-cleopatra",
)  # fmt: skip
"""Plays that share characters with another one; all of them are for training."""

VALIDATION = (
    "all-s-well-that-ends-well", "measure-for-measure", "edward-iii", "titus-andronicus", "macbeth",
)  # fmt: skip
TEST = (
    "the-tempest", "the-comedy-of-errors", "henry-viii", "king-john", "hamlet",
    "troilus-and-cressida",
)  # fmt: skip
"""Of each label the plays that come first by `hash_rank`, those of BOUND left aside: two for the
test, the next two for validation (of the histories one, as no more are free)."""

TRAGEDIES = (
    "antony-and-cleopatra", "coriolanus", "cymbeline", "hamlet", "julius-caesar", "king-lear",
    "macbeth", "othello", "romeo-and-juliet", "timon-of-athens", "titus-andronicus",
    "troilus-and-cressida",
)  # fmt: skip
"""As the First Folio (1623) and its printers class them."""

SHORT = 8
"""Words; a shorter speech (`What is the matter?`) may stand in several plays by chance."""


def plays_of(part: SplitName) -> Iterator[Play]:
    """The plays of a part, in the order of the corpus; raises as `shakespeare.plays`."""
    held_out = {"train": (*VALIDATION, *TEST), "validation": VALIDATION, "test": TEST}[part]
    return (play for play in _all() if (play.name in held_out) != (part == "train"))


def genre_of(play: Play) -> str:
    """comedy, history or tragedy: the division of the First Folio.

    Of the two plays it lacks, Edward III is a history and Pericles a comedy.
    """
    # Cymbeline is a tragedy and The Winter's Tale a comedy in the Folio, whatever editors say now
    if play.name in TRAGEDIES:
        return "tragedy"
    return "history" if play.genre == "histories" else "comedy"


def hash_rank(name: str) -> str:
    """What the plays are sorted by to draw the parts."""
    return sha256(f"{SEED}/{name}".encode()).hexdigest()


def choose_index(key: str, below: int) -> int:
    """A number from 0 to `below - 1` that depends on the key alone."""
    return seeded_hash(f"{SEED}/{key}") % below


def count_words(text: str) -> int:
    """Number of words, separated by white space."""
    return len(text.split())


def normalised(text: str) -> str:
    """The words alone, in lower case: texts that differ only in punctuation become equal."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def earlier_speeches(part: SplitName) -> frozenset[str]:
    """Normalised speeches of the parts before this one: for test those of train and validation."""
    # what a model was tuned or chosen on must not come back in a later split
    before = {"train": (), "validation": ("train",), "test": ("train", "validation")}[part]
    return frozenset().union(*(_spoken(each) for each in before))


def scenes(play: Play) -> Iterator[list[Speech]]:
    """The speeches scene by scene, so that no example spans two scenes."""
    for _, speeches in groupby(play.speeches, key=lambda speech: speech.scene):
        yield list(speeches)


@cache
def _all() -> tuple[Play, ...]:
    """Parsed once per process: 38 plays, about 5 MB."""
    return tuple(shakespeare.plays())


@cache
def _spoken(part: SplitName) -> frozenset[str]:
    return frozenset(normalised(speech.text) for play in plays_of(part) for speech in play.speeches)
