"""One id per byte of the UTF-8 text: 256 ids, the same for every text in the world."""

from collections.abc import Iterable, Mapping

import numpy as np
from tokenizers.decoders import ByteLevel
from tokenizers.models import BPE

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from ..settings import TokenizerSettings
from . import base
from .base import BYTE_TO_CHARACTER, CHARACTER_TO_BYTE, EOS, PAD, Ids, clean, in_groups, split_ids
from .patterns import pre_tokenizer


def train(pieces: Iterable[str], settings: TokenizerSettings) -> "Tokenizer":
    """A byte-level BPE without merges: the id of a byte is the byte. The pieces are not read."""
    # the vocabulary in byte order: the id of a byte is its value
    backend = Backend(BPE(vocab=dict(CHARACTER_TO_BYTE), merges=[]))
    backend.pre_tokenizer = pre_tokenizer("none")
    backend.decoder = ByteLevel()
    backend.add_special_tokens([AddedToken(name, normalized=False) for name in (EOS, PAD)])
    return Tokenizer(backend)


class Tokenizer(base.Tokenizer):
    """Encodes by a table of bytes: the ids of the library, fifty times faster."""

    kind = "byte"
    has_words = False

    def _build_tables(self, vocabulary: Mapping[str, int]) -> None:
        ids = [vocabulary[BYTE_TO_CHARACTER[byte]] for byte in range(256)]
        self.table = np.array(ids, dtype=np.int32)

    def encode_array(self, text: str) -> Ids:
        return self.table[np.frombuffer(clean(text).encode("utf-8"), dtype=np.uint8)]

    def encode_chunks(self, texts: list[str]) -> list[Ids]:
        encoded: list[Ids] = []
        for group in in_groups(texts):
            # one look-up for the whole group
            utf8 = [text.encode("utf-8") for text in group]
            ids = self.table[np.frombuffer(b"".join(utf8), dtype=np.uint8)]
            encoded += split_ids(ids, [len(each) for each in utf8])
        return encoded
