"""Which tokenizer suits a text, how large a vocabulary it can support, and training it."""

from collections.abc import Iterator

from .. import registry
from ..settings import TokenizerSettings
from .base import NOT_KINDS, Tokenizer

SMALL_TEXT = 2_000_000
"""Characters. A shorter text is too small to teach longer pieces than characters."""
FEW_CHARACTERS = 512
"""Different characters that a character vocabulary may have."""
VOCAB_SIZES = [(5e6, 1024), (20e6, 2048), (100e6, 4096), (1e9, 8192), (4e9, 16_384)]
"""(text of fewer characters than this, vocabulary)"""
MAX_VOCAB_SIZE = 32_768


def choose_kind(characters: int, distinct: int) -> tuple[str, int, str]:
    """(kind, vocabulary, reason) for a text of so many characters, so many of them different.

    A token must be seen often to be learnt, so the vocabulary grows with the text: 1024 up to
    5 million characters, 2048 up to 20 million, then 4096, 8192, 16384 and 32768.
    """
    if characters < SMALL_TEXT and distinct <= FEW_CHARACTERS:
        reason = f"char: a text of {characters:,} characters is too small to teach longer pieces"
        return "char", distinct + 258, reason
    size = choose_vocab_size(characters)
    if characters < SMALL_TEXT:
        reason = f"bpe with {size}: {distinct:,} different characters are too many for one id each"
    else:
        reason = f"bpe with {size}: {characters:,} characters show each piece often enough"
    return "bpe", size, reason


def choose_vocab_size(characters: int) -> int:
    """The vocabulary that a text of so many characters can support."""
    return next((size for limit, size in VOCAB_SIZES if characters < limit), MAX_VOCAB_SIZE)


def train_tokenizer(kind: str, pieces: Iterator[str], settings: TokenizerSettings) -> Tokenizer:
    """A tokenizer of one kind (a file of this folder), its vocabulary trained on the pieces.

    Raises:
        InputError: no such kind.
    """
    module = registry.module("scriven.tokenizers", kind, exclude=NOT_KINDS)
    trained: Tokenizer = module.train(pieces, settings)
    return trained
