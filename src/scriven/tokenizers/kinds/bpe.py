"""Byte-level BPE (Sennrich et al. 2016; on bytes as in Radford et al. 2019).

Frequent byte pairs are merged within words until the vocabulary is full; the words are cut by the
pattern that other engines recognise, and the full byte alphabet makes every text encodable.
"""

from collections.abc import Iterable

from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from ...errors import SettingError
from ...settings import TokenizerSettings
from ..base import Tokenizer
from ..patterns import chunks, splitter
from ..special_tokens import EOS, PAD, clean

SMALLEST = 258  # all bytes, EOS and PAD
DEFAULT = 8192
LONGEST_WORD = 4096  # a longer stretch without a boundary is no word; its head is enough


def train(pieces: Iterable[str], settings: TokenizerSettings) -> Tokenizer:
    """Merges learnt from the pieces; fewer than asked for when the text has too few pairs.

    Raises:
        SettingError: a vocabulary too small to hold all bytes, or beyond what 32 bits index well.
    """
    size = checked_size(settings.vocab_size or DEFAULT)
    backend = Backend(BPE())
    backend.pre_tokenizer = splitter(settings.pattern)
    backend.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=size - 2,
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(words(pieces), trainer)
    backend.add_special_tokens([AddedToken(name, normalized=False) for name in (EOS, PAD)])
    return Tokenizer(backend, "bpe", settings.pattern)


def checked_size(size: int) -> int:
    """The size, when a byte-level vocabulary can have it."""
    if not SMALLEST <= size <= 1 << 20:
        raise SettingError(f"--tokenizer.vocab_size={size}: between {SMALLEST} and {1 << 20}")
    return size


def words(pieces: Iterable[str]) -> Iterable[str]:
    """The pieces in chunks; of a chunk without any space only the head, which bounds memory."""
    for piece in pieces:
        for chunk in chunks(clean(piece)):
            spaced = len(chunk) <= LONGEST_WORD or " " in chunk or "\n" in chunk
            yield chunk if spaced else chunk[:LONGEST_WORD]
