"""Bytes to characters: decompression, decoding as a stream, and the encoding bytes seem to have.

Bytes become characters in `decode` and nowhere else, so a wrong encoding is refused in one way.
"""

import bz2
import codecs
import contextlib
import gzip
import lzma
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from ..errors import InputError, MissingExtra, SettingError

COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".tgz", ".tbz2", ".txz", ".tzst")
"""All come with Python but zstd, which comes with pyarrow (extra `data`). The short ones of a tar
end as their compression does."""
AUTO = "auto"
"""The encoding of files that may each be in another one."""
BLOCK = 1 << 20
"""Bytes that are read at once."""
HEAD = 1 << 16
"""Bytes at the beginning of a file, or around a wrong byte, that tell what it holds."""

_BOMS = [
    # a byte order mark of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]
_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_FEW = 6
_ISO_2022 = b"\x1b$B"
_ASCII = bytes(range(128))
_CONTROL = bytes((*range(9), *range(14, 27), *range(28, 32)))
_WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
_TYPOGRAPHY = frozenset(" ‘’‚“”„«»‹›–—…•·°§©®™€£¡¿ºª´×÷\u00a0\u00ad½¼¾²³±µ¶†‡‰¢¥")
_LETTER_WORDS = frozenset("àèéóåöøő")
"""Letters beyond ASCII that are words by themselves, such as à in French and é in Portuguese."""
_LATIN = (
    # French, German, Spanish, Portuguese, Italian, the Nordic languages, Dutch
    (
        ("cp1252", "iso8859_15", "mac_roman", "cp850"),
        ("àâæçéèêëîïôœùûüÿ", "äöüß", "áéíñóúü", "àáâãçéêíóôõú", "àèéìîòù", "åäöæøé", "áæéíðóöúýþ",
         "éèëïóöü"),
    ),
    # Polish, Czech, Slovak, Hungarian, Romanian, Croatian and Slovene
    (
        ("cp1250", "iso8859_2", "cp852"),
        ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "ăâîşţșț", "čćđšž"),
    ),
    (("cp1254", "cp857"), ("ğışçöüâîûi\u0307",)),  # Turkish
    (("cp1257",), ("āčēģīķļņšūž", "ąčęėįšųūž", "äöüõšž")),  # Latvian, Lithuanian, Estonian
)  # fmt: skip
"""Encodings of the Latin script, the likelier first, and the letters of each of their languages."""
_COMMON_NAMES = ("cp1251", "koi8_r", "cp866", "cp932", "euc_jp", "big5", "gb18030", "cp949")
"""What an encoding is called where several fit the same bytes."""


class Guess(NamedTuple):
    """The encoding that bytes seem to be in."""

    encoding: str
    certainty: float
    """From 0 to 1."""
    sample: str
    """A line of the text, read so."""


def strip_compression(path: Path) -> Path:
    """The name without the suffix of a compression: a.jsonl.zst -> a.jsonl, a.tgz -> a.tar."""
    suffix = path.suffix.lower()
    return path.with_suffix(".tar" * suffix.startswith(".t")) if suffix in COMPRESSED else path


@contextlib.contextmanager
def open_compressed(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for reading, decompressed if its name ends in one of COMPRESSED.

    Raises:
        InputError: a compressed file is damaged or ends too early; says how far it was read.
        MissingExtra: a .zst file without pyarrow. OSError: as `open`.
    """
    suffix = path.suffix.lower()
    with path.open("rb") as raw:
        stream: object = raw
        if suffix in (".gz", ".tgz"):
            stream = gzip.GzipFile(fileobj=raw)
        elif suffix in (".bz2", ".tbz2"):
            stream = bz2.BZ2File(raw)
        elif suffix in (".xz", ".txz"):
            stream = lzma.LZMAFile(raw)  # noqa: SIM115
        elif suffix in (".zst", ".tzst"):
            try:
                import pyarrow
            except ImportError as error:
                raise MissingExtra("pyarrow", "data", f"reading {path}") from error
            # reads several zstd frames in one file, as gzip does with its members
            stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd")
        try:
            yield cast(BinaryIO, stream)
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            if stream is raw:
                raise
            # `raw` knows how far the compressed file was read
            reason = " ".join(str(error).split())[:100]
            raise InputError(
                f"{path} is damaged at about byte {raw.tell():,} of {path.stat().st_size:,}"
                f" ({reason}): get the file again"
            ) from error


def read_head(path: Path, size: int = HEAD) -> bytes:
    """The first bytes of a file, decompressed; raises as `decode`."""
    compressed = path.suffix.lower() in COMPRESSED
    try:
        with open_compressed(path) if compressed else path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def decode(path: Path, encoding: str, start: int = 0, end: int | None = None) -> Iterator[str]:
    """The text of a file in blocks; line ends and NUL as they are, without a byte order mark.

    Args:
        start, end: bytes of the file to read, all by default; both lie between two characters.

    Raises:
        InputError: the file cannot be read, or is not in this encoding: names the offset of the
            first wrong byte, and the encoding that it seems to have.
        SettingError: no such encoding.
    """
    if encoding == AUTO:
        status = path.stat()
        encoding = _detect(path, status.st_size, status.st_mtime_ns)
    decoder = check_encoding(encoding)("strict")
    read, block, before, first = start, b"", b"", start == 0
    try:
        # a plain file is opened at once: most are
        compressed = path.suffix.lower() in COMPRESSED
        with open_compressed(path) if compressed else path.open("rb") as file:
            if start:
                file.seek(start)
            while True:
                block = file.read(BLOCK if end is None else min(BLOCK, end - read))
                text = decoder.decode(block, final=not block)
                if read == 0:
                    _check_wide(path, encoding, block[:HEAD])
                read += len(block)
                if first and text:  # U+FEFF at the beginning is no character of the text
                    text, first = text.removeprefix("\ufeff"), False
                if text:
                    yield text
                if not block:
                    return
                before = block[-HEAD // 2 :]
    except UnicodeDecodeError as error:
        # the decoder may hold bytes of the block before, of a character that was not complete
        held = len(error.object) - len(block)
        offset = read - held + error.start
        wrong = (
            f"byte 0x{error.object[error.start]:02x}" if error.start < len(error.object) else "end"
        )
        # the encoding shows where characters beyond ASCII are
        right = before[: len(before) - held] + error.object[: error.start]
        around = right[-HEAD // 2 :] + error.object[error.start :][: HEAD // 2]
        where = f"{path} is not {encoding} text: {wrong} at offset {offset}"
        raise InputError(f"{where}; {_advice(around, encoding, right)}") from error
    except UnicodeError as error:  # such as UTF-16 without a byte order mark
        raise InputError(
            f"{path} is not {encoding} text ({error}); {_advice(block, encoding)}"
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


@lru_cache(10_000)
def _detect(path: Path, size: int, mtime_ns: int) -> str:
    """UTF-8 where all of a file is that, or what the file seems to be in; UTF-8 where nothing is
    likely, so that reading it says what is wrong."""
    decoder, guess, is_first = codecs.getincrementaldecoder("utf-8")(), None, True
    with open_compressed(path) as file:
        while block := file.read(BLOCK):
            is_wide = block.startswith(_WIDE_MARKS) or block.count(b"\0") * 10 > len(block)
            if (is_first and is_wide) or _ISO_2022 in block:
                guess = guess_encoding(block[:HEAD])
                break
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                guess = guess_encoding(error.object[max(0, error.start - HEAD // 2) :][:HEAD])
                break
            is_first = False
    return guess.encoding if guess is not None and guess.certainty > 0.5 else "utf-8"


def check_encoding(encoding: str) -> Any:
    """The incremental decoder of an encoding of text; SettingError if there is none."""
    try:
        info = codecs.lookup(encoding)
    except (LookupError, ValueError):
        info = None
    # Python's codecs "hex", "zip" and so on are no encodings of text
    if info is None or not getattr(info, "_is_text_encoding", True) or not info.incrementaldecoder:
        raise SettingError(
            f"--data.encoding={encoding}: no such encoding; try utf-8, utf-16 or cp1252"
        )
    return info.incrementaldecoder


def guess_encoding(raw: bytes) -> Guess | None:
    """The encoding that bytes seem to be in; None where they are no text in any known one."""
    bom = next((name for mark, name in _BOMS if raw.startswith(mark)), None)
    if bom is not None:
        text = raw.decode(bom, "replace")
        return _guess(raw, bom, _readable(text)) if _readable(text) > 0.5 else None
    if _ISO_2022 in raw:
        return _guess(raw, "iso2022_jp", 1.0)
    # UTF-16 and UTF-32 without a mark: spaces and line ends bring NULs
    if b"\0" in raw:
        wide = {name: _decode_wide(raw, name) for name in _WIDE}
        name = max(wide, key=lambda name: sum(map(wide[name].count, " \n\u3000")))
        return _guess(raw, name, _readable(wide[name])) if wide[name] else None
    if 50 * sum(map(raw.count, _CONTROL)) > len(raw):
        return None
    # most letters are ASCII: the others tell the encoding
    latin, beyond = _guess_latin(raw), len(raw.translate(None, _ASCII))
    if latin is not None and latin.certainty > 0.49 and 2 * beyond < len(raw):
        return latin
    if beyond < _FEW:  # too few to tell scripts apart
        return latin
    for encoding in ("euc_jp", "cp932"):  # the same bytes may be letters of Thai
        text = raw.decode(encoding, "replace")
        hiragana = sum("\u3040" < each < "\u30a0" for each in text)
        if 16 * hiragana > beyond > 64 * text.count("\ufffd"):
            return _guess(raw, encoding, beyond / (beyond + _FEW))
    best = _guess_script(raw)
    if best is None:
        # a character of several bytes that is cut at an end rules its encoding out; a line end is
        # a byte of its own in all of these encodings
        best = _guess_script(raw[raw.find(b"\n") + 1 : raw.rfind(b"\n") + 1])
    if best is None:
        return latin and latin._replace(certainty=latin.certainty / 2)
    names = best.could_be_from_charset
    name = next((each for each in _COMMON_NAMES if each in names), best.encoding)
    # a short text says little
    return _guess(raw, name, (1 - best.chaos) * beyond / (beyond + _FEW))


def _guess_script(raw: bytes) -> Any:
    """charset-normalizer's best match in another script than the Latin one, or None: it tells
    scripts apart, but hardly languages of the Latin one."""
    from charset_normalizer import from_bytes  # 20 ms that most texts do without

    best = from_bytes(raw).best()
    letters = [each for each in str(best or "") if each > "\x7f" and each.isalpha()]
    in_latin = sum("LATIN" in unicodedata.name(each, "") for each in letters)
    if best is None or 2 * in_latin >= len(letters) or best.encoding.startswith("utf"):
        return None
    return best


def _decode_wide(raw: bytes, encoding: str) -> str:
    """The text in an encoding of two or four bytes; empty where it would be none."""
    width = 4 if "32" in encoding else 2
    try:
        text = raw[: len(raw) // width * width].decode(encoding)
    except UnicodeDecodeError as error:  # the last character may be cut
        text = raw[: error.start].decode(encoding) if len(raw) - error.start < 4 else ""
    return text if _readable(text) > 0.95 else ""


def _guess_latin(raw: bytes) -> Guess | None:
    """The encoding in which the characters beyond ASCII are letters of one language, or
    punctuation, where such belong."""
    best = Guess("", 0.0, "")
    for encodings, languages in _LATIN:
        for encoding in encodings:
            text = f" {raw.decode(encoding, 'replace')} "
            # how often each character stands inside, at the end of and outside words
            places = Counter(
                (_lower(each, before), before.isalpha() + after.isalpha())
                for before, each, after in zip(text, text[1:], text[2:], strict=False)
                if each > "\x7f"
            )
            total = sum(places.values())
            for letters in languages:
                score = sum(
                    count * _plausible(each, neighbours, letters)
                    for (each, neighbours), count in places.items()
                )
                # one character of evidence is half a certainty
                if score / (total + 1) > best.certainty:
                    best = Guess(encoding, score / (total + 1), "")
    return _guess(raw, best.encoding, best.certainty) if best.certainty > 0.2 else None


def _lower(character: str, before: str) -> str:
    """A character as a small one; a capital after a small letter belongs to no language."""
    return "\ufffd" if character.isupper() and before.islower() else character.lower()


def _plausible(character: str, neighbours: int, letters: str) -> float:
    """From 0 to 1: whether a character belongs at a place between so many letters."""
    if character in letters:
        return 1.0 if neighbours or character in _LETTER_WORDS else 0.5
    if character in _TYPOGRAPHY:
        return 1.0 if neighbours < 2 or character in "’\u00ad–—" else 0.0
    return 0.0


def _guess(raw: bytes, encoding: str, certainty: float) -> Guess:
    text = raw.decode(encoding, "replace").removeprefix("\ufeff")
    # around the first character that depends on the encoding
    place = next((index for index, each in enumerate(text) if "\x7f" < each != "\ufffd"), 0)
    part = text[max(0, place - 20) : place + 50]
    sample = " ".join("".join(each if each.isprintable() else " " for each in part).split())
    return Guess(encoding.replace("_", "-"), min(certainty, 0.99), sample)


def _advice(raw: bytes, encoding: str, right: bytes = b"") -> str:
    """What to do about `raw`, which follows on `right`, bytes that are in this encoding."""
    text = raw.decode("utf-8", "replace")
    mostly = 20 * text.count("\ufffd") < sum(each > "\x7f" for each in text)
    if codecs.lookup(encoding).name != "utf-8":
        if mostly:
            return "it looks like utf-8: use --data.encoding=utf-8"
    # text in other encodings hardly ever has the sequences of bytes of UTF-8
    elif mostly or sum(each > "\x7f" for each in right.decode("utf-8", "ignore")) >= _FEW:
        return "the text around is utf-8: get the file again, or remove the damaged place"
    guess = guess_encoding(raw)
    if guess is None:
        return "it looks like binary data: convert it to text first"
    return (
        f"it looks like {guess.encoding} ({guess.certainty:.0%} certain) and then reads as:"
        f" “{guess.sample}”: use --data.encoding={guess.encoding}"
    )


def _check_wide(path: Path, encoding: str, raw: bytes) -> None:
    """Refuses what is valid UTF-8 but no text in it: UTF-16 and UTF-32 without a byte order mark,
    ISO-2022, and some binary data."""
    control = sum(map(raw.count, _CONTROL))
    is_other = control * 10 > len(raw) or _ISO_2022 in raw
    if is_other and encoding.lower().replace("_", "-") in ("utf-8", "utf8", "ascii"):
        raise InputError(
            f"{path} is not {encoding} text: {_advice(raw[: len(raw) // 4 * 4], encoding)}"
        )


def _readable(text: str) -> float:
    """The fraction of the characters that a text has: no control characters, all assigned."""
    good = sum(each in "\t\n\r\f" or unicodedata.category(each)[0] != "C" for each in text)
    return good / max(1, len(text))
