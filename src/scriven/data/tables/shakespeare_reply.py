"""A cue and its reply as a chat: `messages` with a user's and an assistant's turn.

Two speeches that follow each other in a scene, by two speakers, of 2 to 60 words each and without
names. Every speech can be a reply once and a cue once. A pair that was there before is left out,
and one of two speeches that earlier parts have too; a short reply (`Ay, my lord.`) may answer many
cues.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from ..corpora.shakespeare import Speech
from . import base
from .base import SplitName

COLUMNS = ("messages",)
FEWEST, MOST = 2, 60


def read(part: SplitName) -> Iterator[dict[str, Any]]:
    """The rows of a part, play by play; raises as `shakespeare.plays`."""
    seen = base.earlier_speeches(part)
    written: set[tuple[str, str]] = set()
    for play in base.plays_of(part):
        for scene in base.scenes(play):
            for cue, reply in pairwise(scene):
                # a pair is known when it was written before, or earlier splits hold both sides
                words = (base.normalised(cue.text), base.normalised(reply.text))
                known = words in written or (words[0] in seen and words[1] in seen)
                if cue.speaker == reply.speaker or known or not (_fits(cue) and _fits(reply)):
                    continue
                written.add(words)
                turns = (("user", cue.text), ("assistant", reply.text))
                yield {"messages": [{"role": role, "content": text} for role, text in turns]}


def _fits(speech: Speech) -> bool:
    return FEWEST <= base.count_words(speech.text) <= MOST
