"""What the readers of documents share: whole files, zip containers, XML, and errors in one line.

A reader holds at most `LARGEST_PART` of a document in memory. Nothing of a document is run, no
address in it is opened, and XML that declares entities is refused before they are expanded.
"""

import contextlib
import io
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from ..errors import InputError, MissingExtra, ResourceError, ScrivenError
from ..files import disk_errors, temporary_folder
from ..format import format_bytes
from ..settings import DataSettings
from .decoding import BLOCK, COMPRESSED, decode, open_compressed, strip_compression

LARGEST_PART = 64 << 20
"""Characters of a text, and bytes of a file inside a document, that are read as a whole."""
LARGEST_COPY = 16 << 30
"""Bytes that a compressed document or an archive may have when it is decompressed."""
MOST_PARTS = 100_000
"""Files inside one document."""

_MACROS = ("vbaproject.bin", "basic/script-lc.xml")


@contextlib.contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """A block that reads a document with a library; what it raises becomes one line.

    Args:
        kind: what the file should be, such as "a Word document".

    Raises:
        InputError: names the file and why it cannot be read.
    """
    try:
        yield
    except (ScrivenError, MemoryError):
        raise
    except Exception as error:  # libraries raise anything on a damaged file
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise InputError(
            f"{path} cannot be read as {kind} ({reason}): open it in its program and save it again"
        ) from error


@contextlib.contextmanager
def plain_file(path: Path) -> Iterator[Path]:
    """The file itself, or a decompressed copy for the length of the block.

    Raises:
        InputError: the file is damaged, or larger than `LARGEST_COPY`.
        ResourceError: the disk is full.
    """
    if path.suffix.lower() not in COMPRESSED:
        yield path
        return
    with temporary_folder() as folder:
        copy = folder / strip_compression(path).name
        remedy = "set TMPDIR to a folder with more room"
        with disk_errors(folder, remedy=remedy), open_compressed(path) as file:
            copy_bounded(file, copy, copy_limit(path), str(path))
        yield copy


def copy_bounded(source: IO[bytes], target: Path, limit: int, label: str) -> int:
    """Writes a stream to a new file, at most `limit` bytes of it; the number of bytes.

    Raises:
        InputError: the stream is longer. ResourceError: the disk would be full.
    """
    written, room = 0, shutil.disk_usage(target.parent).free
    with target.open("xb") as file:
        while block := source.read(BLOCK):
            written += len(block)
            if written > limit:
                raise InputError(
                    f"{label} has more than {format_bytes(limit)} when it is decompressed:"
                    " decompress it yourself, and give the files that you want"
                )
            if written > room - (64 << 20):
                raise ResourceError(f"{label} does not fit into {target.parent}: set TMPDIR")
            file.write(block)
    return written


def copy_limit(path: Path) -> int:
    """Bytes that a compressed file may have when it is decompressed: a gigabyte, or two hundred
    times its size, which texts do not reach and bombs exceed."""
    return min(LARGEST_COPY, max(1 << 30, 200 * path.stat().st_size))


def whole_text(path: Path, settings: DataSettings, limit: int = LARGEST_PART) -> str:
    """A text file as one string; InputError where it has more characters than `limit`."""
    parts, length = [], 0
    for block in decode(path, settings.encoding):
        length += len(block)
        if length > limit:
            raise too_large(path, limit)
        parts.append(block)
    return "".join(parts)


def too_large(label: object, limit: int | None = None) -> InputError:
    """The error for a document, or a part of one, beyond a limit, by default `LARGEST_PART`."""
    size = format_bytes(LARGEST_PART if limit is None else limit)
    return InputError(f"{label} is larger than {size}: split it first")


def line_ends(text: str, settings: DataSettings) -> str:
    """A text with line ends as `data.newlines` says."""
    if settings.newlines == "keep" or "\r" not in text:
        return text
    return text.replace("\r\n", "\n").replace("\r", "\n")


@contextlib.contextmanager
def open_zip(path: Path, kind: str) -> Iterator[zipfile.ZipFile]:
    """The container of a document, whose parts have bounded sizes.

    Python reads no more of a part than its declared size, so the declarations are the bound.

    Raises:
        InputError: damaged, encrypted, with macros, or with too many or too large parts.
    """
    with plain_file(path) as file, reading(path, kind), zipfile.ZipFile(file) as container:
        parts = container.infolist()
        if len(parts) > MOST_PARTS:
            raise InputError(f"{path} has {len(parts):,} parts: {MOST_PARTS:,} at most are read")
        for part in parts:
            if part.flag_bits & 1:
                raise InputError(f"{path} is encrypted: save it without a password")
            if part.filename.lower().endswith(_MACROS):
                raise InputError(f"{path} holds macros: save it in a format without them")
            # sheets are read row by row, and pictures not at all
            is_whole = part.filename.endswith((".xml", ".rels")) and "sheets/" not in part.filename
            if is_whole and part.file_size > LARGEST_PART:
                raise too_large(f"{path}: its part {part.filename}")
        yield container


def read_part(container: zipfile.ZipFile, name: str, label: object) -> bytes:
    """A part of a container; InputError where it is too large or missing."""
    try:
        size = container.getinfo(name).file_size
    except KeyError as error:
        raise InputError(f"{label} has no part {name}: get the file again") from error
    if size > LARGEST_PART:
        raise too_large(f"{label}: its part {name}")
    return container.read(name)


def parse_xml(content: bytes, label: object, tags: Sequence[str] = ()) -> Iterator[Any]:
    """The elements of a document in the order of their ends, each cleared after its use.

    Args:
        tags: without their namespaces; all by default.

    Raises:
        InputError: no XML, or one that declares entities.
        MissingExtra: lxml is not installed.
    """
    etree = load_etree(label)
    with reading(Path(str(label)), "XML"):
        events = etree.iterparse(
            io.BytesIO(content),
            events=("start", "end"),
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            remove_comments=True,
            remove_pis=True,
        )
        for event, element in events:
            if event == "start":
                declared = element.getroottree().docinfo.internalDTD
                if declared is not None and any(declared.iterentities()):
                    raise InputError(f"{label} declares XML entities: they are not read")
            elif not tags or local_name(element) in tags:
                yield element


def local_name(element: Any) -> str:
    """The name of an XML element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def load_etree(label: object) -> Any:
    """lxml.etree; MissingExtra where it is not installed."""
    try:
        from lxml import etree
    except ImportError as error:
        raise MissingExtra("lxml", "documents", f"reading {label}") from error
    return etree
