"""One id per character: the smallest vocabulary, the longest sequences; best for a small text.

Characters that the training text lacks are spelled in bytes, so no text is ever refused.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from tokenizers.decoders import ByteFallback, Fuse, Sequence
from tokenizers.models import BPE

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from ..settings import TokenizerSettings
from . import base
from .base import BYTE_TOKENS, CACHED_PART, EOS, PAD, Ids, clean, in_groups, split_ids


def train(pieces: Iterable[str], settings: TokenizerSettings) -> "Tokenizer":
    """A character vocabulary: the characters in code point order, 256 bytes, EOS and PAD.

    It is written as a BPE without merges, which every reader of tokenizer.json understands.
    """
    characters: set[str] = set()
    for piece in pieces:
        characters.update(clean(piece))
    names = [*sorted(characters), *BYTE_TOKENS.values()]
    vocabulary = {name: number for number, name in enumerate(names)}
    # without merges each character stays alone; unknown ones fall back to bytes
    backend = Backend(BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    # bytes <0xE2><0x80><0x93> become a character again, and all are joined without spaces
    backend.decoder = Sequence([ByteFallback(), Fuse()])
    backend.add_special_tokens([AddedToken(name, normalized=False) for name in (EOS, PAD)])
    return Tokenizer(backend)


class Tokenizer(base.Tokenizer):
    """Encodes by a table of code points: the ids of the library, fifty times faster."""

    kind = "char"
    is_byte_level = False
    has_words = False

    def _build_tables(self, vocabulary: Mapping[str, int]) -> None:
        known = {ord(token): number for token, number in vocabulary.items() if len(token) == 1}
        # -1 is unknown. So is the last entry, to which every larger code point is clipped.
        self.table = np.full(max(known, default=0) + 2, -1, dtype=np.int32)
        for code, number in known.items():
            self.table[code] = number
        self.byte_ids = np.array(
            [vocabulary[each] for each in BYTE_TOKENS.values()], dtype=np.int32
        )

    def encode_array(self, text: str) -> Ids:
        text = clean(text)
        # an empty text is one empty part, so there is always something to concatenate
        starts = range(0, max(len(text), 1), CACHED_PART)
        parts = [self._encode(text[start : start + CACHED_PART]) for start in starts]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def encode_chunks(self, texts: list[str]) -> list[Ids]:
        encoded: list[Ids] = []
        for group in in_groups(texts):
            # one look-up for the whole group
            codes = np.frombuffer("".join(group).encode("utf-32-le"), dtype="<u4")
            ids = self.table.take(codes, mode="clip")
            if (ids < 0).any():  # an unknown character has several ids: lengths differ
                encoded += [self.encode_array(text) for text in group]
            else:
                encoded += split_ids(ids, [len(text) for text in group])
        return encoded

    def _encode(self, text: str) -> Ids:
        codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")  # (characters,)
        ids: Ids = self.table.take(codes, mode="clip")  # (characters,)
        unknown = ids < 0
        if not unknown.any():
            return ids
        # each unknown character is replaced by the ids of its UTF-8 bytes: 1 below U+0080,
        # 2 below U+0800, 3 below U+10000, else 4
        width = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
        counts = np.where(unknown, width, 1)
        spelled = np.repeat(ids, counts)  # (tokens,)
        # both sides are in the order of the text: unknown characters, and their bytes
        utf8 = codes[unknown].tobytes().decode("utf-32-le").encode("utf-8")
        spelled[np.repeat(unknown, counts)] = self.byte_ids[np.frombuffer(utf8, dtype=np.uint8)]
        return spelled
