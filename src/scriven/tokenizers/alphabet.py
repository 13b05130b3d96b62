"""Tokens as bytes: which bytes an id stands for, in both spellings that tokenizer.json knows.

Byte-level vocabularies write each byte as one printable character (GPT-2's table, Radford et al.
2019); character vocabularies write characters as themselves and bytes as `<0xE2>`.
"""

import re
from collections.abc import Mapping

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
BYTE_TO_CHARACTER = {byte: chr(byte) for byte in _PRINTABLE} | {
    byte: chr(256 + place) for place, byte in enumerate(_OTHERS)
}
"""GPT-2's spelling of a byte: itself when printable, else a character from U+0100 on."""

CHARACTER_TO_BYTE = {character: byte for byte, character in BYTE_TO_CHARACTER.items()}

_HEX = re.compile(r"<0x([0-9A-F]{2})>")


def byte_token(byte: int) -> str:
    """The name of a byte in a character vocabulary: 0xE2 -> `<0xE2>`."""
    return f"<0x{byte:02X}>"


def spell_levels(token: str) -> bytes:
    """The bytes of a byte-level token; KeyError when it has a character outside the table."""
    return bytes(CHARACTER_TO_BYTE[character] for character in token)


def spell_characters(token: str) -> bytes:
    """The bytes of a token of a character vocabulary."""
    found = _HEX.fullmatch(token)
    return bytes([int(found[1], 16)]) if found else token.encode("utf-8")


def bytes_of_ids(
    vocab_size: Mapping[str, int], special: Mapping[str, int], byte_level: bool
) -> list[bytes]:
    """What each id writes; special ids and gaps write nothing.

    Raises:
        KeyError: a token with a character that stands for no byte.
    """
    spell = spell_levels if byte_level else spell_characters
    size = max([*vocab_size.values(), *special.values()], default=-1) + 1
    table = [b""] * size
    for token, number in vocab_size.items():
        if token not in special:
            table[number] = spell(token)
    return table
