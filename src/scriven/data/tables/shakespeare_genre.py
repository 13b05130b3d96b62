"""Passages of the plays and their genre: `text` and `label` (comedy, history or tragedy).

A passage is a run of whole speeches within one scene, of 60 to 120 words, as the corpus writes
them but without the speakers' names, which would tell the play and with it the genre. A speech of
more than 120 words is cut at the ends of lines. Passages do not overlap; what is left of a scene
and does not reach 60 words is dropped. Names that are spoken stay.

The label is the First Folio's, from the whole play: a comic scene of Hamlet is a tragedy here, so
no reader can be right about every passage.
"""

from collections.abc import Iterator
from typing import Any

from ..corpora.shakespeare import Speech
from . import base
from .base import SplitName

COLUMNS = ("text", "label")
FEWEST, MOST = 60, 120


def read(part: SplitName) -> Iterator[dict[str, Any]]:
    """The rows of a part, play by play; raises as `shakespeare.plays`."""
    seen = base.earlier_speeches(part)
    for play in base.plays_of(part):
        for scene in base.scenes(play):
            # without speeches that an earlier part has too, and not by chance
            fresh = [
                speech
                for speech in scene
                if base.count_words(speech.text) < base.SHORT
                or base.normalised(speech.text) not in seen
            ]
            # each row is a passage; its label is that of the whole play
            for text in passages(fresh):
                yield {"text": text, "label": base.genre_of(play)}


def passages(speeches: list[Speech]) -> Iterator[str]:
    """The passages of one scene."""
    # collect speeches until there are enough words
    held: list[str] = []
    count = 0
    for speech in speeches:
        for group in line_groups(speech.text):
            size = base.count_words(group)
            if count + size > MOST:
                # too short for a passage, too long with the next speech: dropped
                held, count = [], 0
            held.append(group)
            count += size
            if count >= FEWEST:
                yield "\n\n".join(held)
                held, count = [], 0


def line_groups(text: str) -> Iterator[str]:
    """A speech, or where it is too long its lines in groups; a line that is too long is dropped."""
    # as many lines as fit, then the next group
    held: list[str] = []
    for line in text.split("\n"):
        if held and base.count_words("\n".join([*held, line])) > MOST:
            yield "\n".join(held)
            held = []
        if base.count_words(line) <= MOST:
            held.append(line)
    if held:
        yield "\n".join(held)
