"""Ids to text one at a time, for writing while the model still thinks."""

import codecs

from .base import Tokenizer


class StreamDecoder:
    """Text as it becomes certain: a character is given out once all of its bytes are there.

    The parts joined, `flush` included, are what `Tokenizer.decode` gives for all ids at once.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: int) -> str:
        """The text that is certain now; often empty within a character of several bytes."""
        return self._decoder.decode(self._tokenizer.spell(id))

    def flush(self) -> str:
        """What is left: U+FFFD for an unfinished character. The decoder can then be used anew."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
