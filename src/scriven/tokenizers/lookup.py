"""Text to ids by table look-up: the same ids as the `tokenizers` library, fifty times faster.

For vocabularies without merges (char and byte), where each character stands for itself.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from .alphabet import BYTE_TO_CHARACTER, byte_token

Ids = npt.NDArray[np.int32]
_NONE: Ids = np.empty(0, dtype=np.int32)
_PART = 1 << 15


class CharacterLookup:
    """Ids by code point; characters that are not in the vocabulary are spelled in bytes."""

    def __init__(self, vocab_size: Mapping[str, int]) -> None:
        known = {ord(token): number for token, number in vocab_size.items() if len(token) == 1}
        self.table = np.full(max(known, default=0) + 2, -1, dtype=np.int32)
        for code, number in known.items():
            self.table[code] = number
        self.bytes = np.array([vocab_size[byte_token(byte)] for byte in range(256)], dtype=np.int32)

    def __call__(self, text: str) -> Ids:
        # in parts that stay in the processor's cache
        parts = [self._short(text[at : at + _PART]) for at in range(0, len(text), _PART)]
        return parts[0] if len(parts) == 1 else np.concatenate([_NONE, *parts])

    def many(self, texts: list[str]) -> list[Ids]:
        """Of several texts: short ones together, since each call costs as much as a short text."""
        found: list[Ids] = []
        for group in _groups(texts):
            codes = np.frombuffer("".join(group).encode("utf-32-le"), dtype="<u4")
            ids = self.table.take(codes, mode="clip")
            if (ids < 0).any():
                found += [self(text) for text in group]
            else:
                found += _parts(ids, [len(text) for text in group])
        return found

    def _short(self, text: str) -> Ids:
        codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
        # The table's last entry is unknown, and every larger code point is sent there.
        ids = self.table.take(codes, mode="clip")
        unknown = ids < 0
        return self._with_bytes(codes, ids, unknown) if unknown.any() else ids

    def _with_bytes(
        self, codes: npt.NDArray[np.uint32], ids: Ids, unknown: npt.NDArray[np.bool_]
    ) -> Ids:
        width = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
        counts = np.where(unknown, width, 1)
        whole = np.repeat(ids, counts)
        # Both sides are in the order of the text: unknown characters, and their bytes.
        spelled = codes[unknown].tobytes().decode("utf-32-le").encode("utf-8")
        whole[np.repeat(unknown, counts)] = self.bytes[np.frombuffer(spelled, dtype=np.uint8)]
        return whole


class ByteLookup:
    """Ids by byte of the UTF-8 text."""

    def __init__(self, vocab_size: Mapping[str, int]) -> None:
        ids = [vocab_size[BYTE_TO_CHARACTER[byte]] for byte in range(256)]
        self.table = np.array(ids, dtype=np.int32)

    def __call__(self, text: str) -> Ids:
        return self.table[np.frombuffer(text.encode("utf-8"), dtype=np.uint8)]

    def many(self, texts: list[str]) -> list[Ids]:
        """Of several texts: short ones together, since each call costs as much as a short text."""
        found: list[Ids] = []
        for group in _groups(texts):
            raw = [text.encode("utf-8") for text in group]
            ids = self.table[np.frombuffer(b"".join(raw), dtype=np.uint8)]
            found += _parts(ids, [len(each) for each in raw])
        return found


def _groups(texts: list[str]) -> Iterator[list[str]]:
    """Texts in groups of about a part that stays in the processor's cache."""
    group: list[str] = []
    characters = 0
    for text in texts:
        group.append(text)
        characters += len(text)
        if characters >= _PART:
            yield group
            group, characters = [], 0
    if group:
        yield group


def _parts(ids: Ids, lengths: list[int]) -> list[Ids]:
    found, start = [], 0
    for length in lengths:
        found.append(ids[start : start + length])
        start += length
    return found
