"""Texts to be measured as a whole: encoded with a tokenizer that exists, nothing held out."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..settings import DataSettings
from ..tokenizers import Tokenizer
from .cache import disk_errors
from .encode import FILES, encode
from .pairs import PairDataset, PairSources
from .shards import TokenFile
from .sources import Sources
from .split import VALIDATION, SplitChunk
from .survey import cleaned


@dataclass(frozen=True)
class EvalText:
    """A text in ids."""

    shard: TokenFile
    bytes: int
    """Of the text in UTF-8, for bits per byte."""


@contextmanager
def encode_eval_text(
    sources: Sequence[str], data: DataSettings, tokenizer: Tokenizer, *, pairs: bool = False
) -> Iterator[EvalText]:
    """The texts one after the other, each ended by EOS where there are several.

    With `pairs` the sources are tables of them, and the bytes those of the targets.

    The ids live in a temporary folder for the length of the block, so memory stays flat.

    Raises:
        InputError: a source cannot be used, or holds no text.
        ResourceError: the disk is full.
    """
    kind = PairSources if pairs else Sources
    with tempfile.TemporaryDirectory(prefix="scriven-") as place, kind(sources) as found:
        folder = Path(place)
        pieces = [*_two_documents(found, data)]
        with disk_errors(folder, 0, "encoding the text"):
            read = cleaned(found.read(data))
            parts = (SplitChunk(VALIDATION, piece.text, piece.ends) for piece in read)
            facts = encode(
                parts,
                tokenizer,
                folder,
                characters=1,
                close_documents=len(pieces) > 1,
                say=lambda _: None,
            )
        tokens = int(str(facts["validation_tokens"]))
        if tokens == 0:
            raise InputError(f"{found.label} holds no text: give a file that has some")
        shard = TokenFile(folder / FILES[VALIDATION], str(facts["dtype"]), tokens)
        size = int(str(facts["validation_bytes"]))
        if pairs:
            size = PairDataset(shard, tokenizer.eos).target_bytes(tokenizer)
        try:
            yield EvalText(shard, size)
        finally:
            shard.close()


def _two_documents(found: Sources, data: DataSettings) -> Iterator[bool]:
    """One entry for each document, at most two: whether there are several is all that matters."""
    count = 0
    for piece in cleaned(found.read(data)):
        if piece.ends:
            count += 1
            yield True
        if count == 2:
            return
