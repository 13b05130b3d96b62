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

from ...settings import TokenizerSettings
from ..alphabet import BYTE_TO_CHARACTER
from ..base import Tokenizer
from ..patterns import splitter
from ..special_tokens import EOS, PAD
from .bpe import DEFAULT, checked_size, words


def train(pieces: Iterable[str], settings: TokenizerSettings) -> Tokenizer:
    """The most frequent words of the pieces, 256 bytes, EOS and PAD.

    Raises:
        SettingError: a vocabulary too small to hold all bytes.
    """
    size = checked_size(settings.vocab_size or DEFAULT)
    counter = Backend(WordLevel())
    counter.pre_tokenizer = splitter("words")
    counter.train_from_iterator(
        words(pieces), WordLevelTrainer(vocab_size=size, show_progress=False)
    )
    frequent = sorted(counter.get_vocab().items(), key=lambda entry: entry[1])
    names = [BYTE_TO_CHARACTER[byte] for byte in range(256)]
    known = set(names)
    names += [word for word, _ in frequent if word not in known][: size - 258]
    backend = Backend(
        BPE(vocab={name: id for id, name in enumerate(names)}, merges=[], ignore_merges=True)
    )
    backend.pre_tokenizer = splitter("words")
    backend.decoder = ByteLevel()
    backend.add_special_tokens([AddedToken(name, normalized=False) for name in (EOS, PAD)])
    return Tokenizer(backend, "word", "words")
