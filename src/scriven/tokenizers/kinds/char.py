"""One id per character: the smallest vocabulary, the longest sequences; best for a small text.

Characters that the training text lacks are spelled in bytes, so no text is ever refused.
"""

from collections.abc import Iterable

from tokenizers.decoders import ByteFallback, Fuse, Sequence
from tokenizers.models import BPE

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from ...settings import TokenizerSettings
from ..alphabet import byte_token
from ..base import Tokenizer
from ..special_tokens import EOS, PAD, clean


def train(pieces: Iterable[str], settings: TokenizerSettings) -> Tokenizer:
    """A character vocabulary: the characters in code point order, 256 bytes, EOS and PAD.

    It is written as a BPE without merges, which every reader of tokenizer.json understands.
    """
    characters: set[str] = set()
    for piece in pieces:
        characters.update(clean(piece))
    names = [*sorted(characters), *(byte_token(byte) for byte in range(256))]
    vocab_size = {name: number for number, name in enumerate(names)}
    backend = Backend(BPE(vocab=vocab_size, merges=[], byte_fallback=True))
    backend.decoder = Sequence([ByteFallback(), Fuse()])
    backend.add_special_tokens([AddedToken(name, normalized=False) for name in (EOS, PAD)])
    return Tokenizer(backend, "char")
