"""One id per frequent word, with its leading space; rare words are spelled in bytes.

Written as a byte-level BPE without merges that takes whole words first (`ignore_merges`), so every
text round-trips and every reader of tokenizer.json understands it.
"""

from collections.abc import Iterable

from tokenizers.decoders import ByteLevel
from tokenizers.models import BPE, WordLevel
from tokenizers.trainers import WordLevelTrainer

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from ..settings import TokenizerSettings
from . import base
from .base import BYTE_TO_CHARACTER, EOS, PAD
from .bpe import MIN_VOCAB_SIZE, checked_vocab_size, word_chunks
from .patterns import pre_tokenizer


class Tokenizer(base.Tokenizer):
    """Encodes through the library."""

    kind = "word"


def train(pieces: Iterable[str], settings: TokenizerSettings) -> Tokenizer:
    """The most frequent words of the pieces, 256 bytes, EOS and PAD.

    Raises:
        SettingError: a vocabulary too small to hold all bytes.
    """
    size = checked_vocab_size(settings.vocab_size)
    # 1. count words
    counter = Backend(WordLevel())
    counter.pre_tokenizer = pre_tokenizer("words")
    trainer = WordLevelTrainer(vocab_size=size, show_progress=False)
    counter.train_from_iterator(word_chunks(pieces), trainer)
    frequent = sorted(counter.get_vocab().items(), key=lambda entry: entry[1])
    # 2. the bytes first, then the most frequent words that are no single byte
    names = [BYTE_TO_CHARACTER[byte] for byte in range(256)]
    bytes_ = set(names)
    names += [word for word, _ in frequent if word not in bytes_][: size - MIN_VOCAB_SIZE]
    vocabulary = {name: number for number, name in enumerate(names)}
    # a word that is a token is taken whole; any other is left in bytes, since there are no merges
    backend = Backend(BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizer("words")
    backend.decoder = ByteLevel()
    backend.add_special_tokens([AddedToken(name, normalized=False) for name in (EOS, PAD)])
    return Tokenizer(backend, "words")
