"""Which tokenizer suits a text, and how large a vocabulary it can feed."""

from collections.abc import Iterator

from .. import registry
from ..settings import TokenizerSettings
from .base import Tokenizer

SMALL_TEXT = 2_000_000
FEW_CHARACTERS = 512
_SIZES = [(5e6, 1024), (20e6, 2048), (100e6, 4096), (1e9, 8192), (4e9, 16_384)]
LARGEST = 32_768


def choose_kind(characters: int, distinct: int) -> tuple[str, int, str]:
    """(kind, vocabulary, reason) for a text of so many characters, so many of them different.

    A token must be seen often to be learnt, so the vocabulary grows with the text: 1024 up to
    5 million characters, 2048 up to 20 million, then 4096, 8192, 16384 and 32768.
    """
    if characters < SMALL_TEXT and distinct <= FEW_CHARACTERS:
        reason = f"char: a text of {characters:,} characters is too small to teach longer pieces"
        return "char", distinct + 258, reason
    size = vocabulary_for(characters)
    if characters < SMALL_TEXT:
        reason = f"bpe with {size}: {distinct:,} different characters are too many for one id each"
    else:
        reason = f"bpe with {size}: {characters:,} characters show each piece often enough"
    return "bpe", size, reason


def vocabulary_for(characters: int) -> int:
    """The vocabulary that a text of so many characters can feed."""
    return next((size for limit, size in _SIZES if characters < limit), LARGEST)


def train_tokenizer(kind: str, pieces: Iterator[str], settings: TokenizerSettings) -> Tokenizer:
    """A tokenizer of one kind (a file of `kinds/`), its vocabulary found in the pieces.

    Raises:
        InputError: no such kind.
    """
    made: Tokenizer = registry.module(f"{__package__}.kinds", kind).train(pieces, settings)
    return made
