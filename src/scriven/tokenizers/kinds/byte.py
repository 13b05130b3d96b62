"""One id per byte of the UTF-8 text: 256 ids, the same for every text in the world."""

from collections.abc import Iterable

from tokenizers.decoders import ByteLevel
from tokenizers.models import BPE

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from ...settings import TokenizerSettings
from ..alphabet import BYTE_TO_CHARACTER
from ..base import Tokenizer
from ..patterns import splitter
from ..special_tokens import EOS, PAD


def train(pieces: Iterable[str], settings: TokenizerSettings) -> Tokenizer:
    """A byte-level BPE without merges: the id of a byte is the byte. The pieces are not read."""
    vocab_size = {character: byte for byte, character in BYTE_TO_CHARACTER.items()}
    backend = Backend(BPE(vocab=vocab_size, merges=[]))
    backend.pre_tokenizer = splitter("none")
    backend.decoder = ByteLevel()
    backend.add_special_tokens([AddedToken(name, normalized=False) for name in (EOS, PAD)])
    return Tokenizer(backend, "byte")
