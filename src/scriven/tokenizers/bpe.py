"""Byte-level BPE (Sennrich et al. 2016; on bytes as in Radford et al. 2019).

Frequent byte pairs are merged within words until the vocabulary is full; the words are split by the
pattern that other engines recognise, and the full byte alphabet makes every text encodable.
"""

from collections.abc import Iterable, Iterator

from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from ..errors import SettingError
from ..settings import TokenizerSettings
from . import base
from .base import EOS, PAD, clean
from .patterns import chunks, pre_tokenizer

MIN_VOCAB_SIZE = 258  # all bytes, EOS and PAD
DEFAULT_VOCAB_SIZE = 8192
LONGEST_WORD = 4096
"""Characters. A longer stretch without a space is no word, and merging takes quadratic time."""


class Tokenizer(base.Tokenizer):
    """Encodes through the library."""

    kind = "bpe"


def train(pieces: Iterable[str], settings: TokenizerSettings) -> Tokenizer:
    """Merges learnt from the pieces; fewer than `vocab_size` where the text has too few pairs.

    Raises:
        SettingError: a vocabulary too small to hold all bytes, or beyond what 32 bits index well.
    """
    size = checked_vocab_size(settings.vocab_size)
    backend = Backend(BPE())
    # merges never cross the borders of words that the pattern sets
    backend.pre_tokenizer = pre_tokenizer(settings.pattern)
    backend.decoder = ByteLevelDecoder()
    # the alphabet of 256 bytes is there from the start, so every text can be encoded
    trainer = BpeTrainer(
        vocab_size=size - 2,  # EOS and PAD come on top
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(word_chunks(pieces), trainer)
    backend.add_special_tokens([AddedToken(name, normalized=False) for name in (EOS, PAD)])
    return Tokenizer(backend, settings.pattern)


def checked_vocab_size(size: int | None) -> int:
    """The size, or the default, when a byte-level vocabulary can have it."""
    size = size or DEFAULT_VOCAB_SIZE
    if not MIN_VOCAB_SIZE <= size <= 1 << 20:
        raise SettingError(
            f"--tokenizer.vocab_size={size}: from {MIN_VOCAB_SIZE} (256 bytes and 2 special tokens)"
            f" to {1 << 20:,}"
        )
    return size


def word_chunks(pieces: Iterable[str]) -> Iterator[str]:
    """The pieces in chunks; of a chunk without any space only the head, which bounds memory."""
    for piece in pieces:
        for chunk in chunks(clean(piece)):
            is_spaced = len(chunk) <= LONGEST_WORD or " " in chunk or "\n" in chunk
            yield chunk if is_spaced else chunk[:LONGEST_WORD]
