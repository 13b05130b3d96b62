"""The plan of `scriven prepare`: which files are read, in which byte ranges, what is held out.

It is a pure function of the sources and the settings, made without reading the texts, and stands in
the output folder before anything else, so that a killed preparation resumes with the same jobs.
"""

import codecs
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, BinaryIO, TypeVar, get_origin, get_type_hints

import numpy as np

from .. import config
from ..errors import DamagedError, InputError
from ..settings import DataSettings, TokenizerSettings
from ..tokenizers.patterns import boundary
from . import datatrove, huggingface
from .decoding import COMPRESSED, read_head
from .formats.base import format_of
from .formats.txt import has_marks
from .sources import Sources, is_pipe
from .split import TRAIN, VALIDATION, choose_split

T = TypeVar("T")
PLAN = "plan.json"
SHARD_BYTES = 32_000_000
"""Bytes of text in a shard: what a kill loses, at most, in each process."""
MAX_VALIDATION_BYTES = 20_000_000
"""Most text that is held out by default: beyond, evaluation takes longer and says no more."""
_COMPRESSION_RATIO = 4
_WINDOW = 1 << 16
"""Bytes after a cut that are searched for the beginning of a word."""


@dataclass(frozen=True)
class PrepareArgs:
    """Arguments of `scriven prepare`."""

    sources: Sequence[str]
    out: Path
    data: DataSettings = field(default_factory=DataSettings)
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    tokenizer_from: Path | None = None
    """A tokenizer.json, or a folder that has one."""
    weights: str | None = None
    processes: int | None = None
    seed: int = 0
    format: str | None = None
    bounded: bool = True
    """Whether at most 20 MB are held out."""
    shard_bytes: int = SHARD_BYTES


@dataclass(frozen=True)
class SourceFile:
    """One file or corpus of a source."""

    source: int
    """Number of the source it belongs to."""
    label: str
    cut_at: str | None
    """Where a range of it may begin: "word" (one document), "line" (rows), "document" (token files
    of datatrove); None: the file can be read from its beginning only."""
    size: int
    """Bytes, 0 where there is no file."""
    mtime_ns: int


@dataclass(frozen=True)
class PrepareJob:
    """A range of one file, encoded by one process: bytes, or documents of a token file."""

    file: int
    start: int
    end: int | None
    """None: to the end of the file."""
    part: int | None
    """TRAIN or VALIDATION for all of it; None: each document is drawn."""
    ends_document: bool
    """Whether the document ends with the range."""


@dataclass(frozen=True)
class PreparePlan:
    """Everything a process needs to know beside the tokenizer."""

    args: dict[str, Any]
    """Arguments that must not change until the folder is finished."""
    files: list[SourceFile]
    jobs: list[PrepareJob]
    data: DataSettings
    seed: int
    val_every: int
    """One document in so many is held out."""
    add_eos: bool
    """Whether EOS ends a document."""
    shard_bytes: int
    notes: list[str]
    """What the user should know of the sources: what is passed over."""

    @property
    def text_bytes(self) -> int:
        """Bytes of text in the sources, an estimate where files are compressed."""
        packed = (*COMPRESSED, ".parquet")
        return sum(
            file.size * (_COMPRESSION_RATIO if file.label.lower().endswith(packed) else 1)
            for file in self.files
        )


def make_plan(args: PrepareArgs, fixed: dict[str, Any]) -> PreparePlan:
    """Divides the sources into jobs, by the sizes of their files.

    Args:
        fixed: what must not change until the folder is finished.

    Raises:
        InputError: a source that cannot be used, or too little text.
        SettingError: an impossible `val_fraction`.
    """
    # 1. all files of all sources, in order
    notes: list[str] = []
    files = [
        file
        for number, name in enumerate(args.sources)
        for file in _source_files(number, name, args.data, args.format is not None, notes)
        if file.size or file.cut_at is None
    ]
    if not files:
        raise InputError(f"{', '.join(args.sources[:3])} holds no text: give a file that has some")
    # 2. how much is held out
    total = sum(file.size for file in files)
    fraction = args.data.val_fraction
    if args.bounded and total:
        fraction = min(fraction, MAX_VALIDATION_BYTES / total)
    # 3. Plain texts are split as `load_dataset` splits them: whole files, or the end of the text.
    # In other files documents are drawn while they are read.
    texts = all(file.cut_at == "word" for file in files)
    sizes = np.array([file.size for file in files], dtype=np.int64)
    split = choose_split(sizes if texts else np.array([1000]), fraction, args.seed)
    # 4. ranges of the files, about `shard_bytes` each
    jobs, before = list[PrepareJob](), 0  # bytes of the files before this one
    for number, file in enumerate(files):
        part = None if not texts or split.held_out is None else int(split.held_out[number])
        place = None if not texts or split.place is None else split.place - before
        path = Path(file.label)
        cuts = cut_points(path, file.cut_at, file.size, args.data.encoding, args.shard_bytes)
        # the split is a byte, which may lie inside a character
        if place is not None and 0 < place < file.size:
            with path.open("rb") as content:
                cuts = sorted({*cuts, _next_cut(content, place, "character", args.data.encoding)})
        if len(cuts) < 2:
            jobs.append(PrepareJob(number, 0, None, part, True))
        for start, end in itertools.pairwise(cuts):
            if place is not None:  # what lies before it is for training
                part = TRAIN if start < place else VALIDATION
            jobs.append(PrepareJob(number, start, end, part, end == file.size))
        before += file.size
    several = len(files) > 1 or not texts or has_marks(read_head(Path(files[0].label)))
    return PreparePlan(
        fixed,
        files,
        jobs,
        args.data,
        args.seed,
        val_every=max(2, round(1 / fraction)),
        add_eos=several,
        shard_bytes=args.shard_bytes,
        notes=notes,
    )


def read_plan(folder: Path) -> PreparePlan | None:
    """The plan of a folder that was begun; DamagedError if it is not what was written."""
    path = folder / PLAN
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values["files"] = [_typed(SourceFile, file) for file in values["files"]]
        values["jobs"] = [_typed(PrepareJob, job) for job in values["jobs"]]
        values["data"] = config.replace(DataSettings(), values["data"], "data")
        plan = _typed(PreparePlan, values)
        if not all(isinstance(note, str) for note in plan.notes) or plan.val_every < 2:
            raise ValueError
        if any(not 0 <= job.file < len(plan.files) for job in plan.jobs):
            raise ValueError
        return plan
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        InputError,
    ) as error:
        raise DamagedError(f"{path} was changed: remove {folder} and prepare again") from error


def _typed(kind: type[T], values: dict[str, Any]) -> T:
    """A dataclass of JSON values; TypeError where one is missing or of another type."""
    for name, hint in get_type_hints(kind).items():
        expected = hint if isinstance(hint, UnionType) else get_origin(hint) or hint
        if not isinstance(values[name], expected):
            raise TypeError(name)
    return kind(**values)


def check_unchanged(plan: PreparePlan) -> None:
    """Raises InputError where a file is no longer what it was when the plan was made."""
    for file in plan.files:
        if file.mtime_ns and _size_and_mtime(Path(file.label)) != (file.size, file.mtime_ns):
            raise InputError(
                f"{file.label} has changed since this folder was begun: remove the folder, or"
                " choose another --out"
            )


def _source_files(
    number: int, name: str, data: DataSettings, token_files: bool, notes: list[str]
) -> Iterator[SourceFile]:
    # 1. folders of token files
    if token_files:
        folder = Path(name)
        paths = sorted(folder.rglob("*.ds")) if folder.is_dir() else [folder]
        if not paths or any(path.suffix != ".ds" or not path.is_file() for path in paths):
            raise InputError(f"{name} holds no .ds files: name a folder that datatrove wrote")
        for path in paths:
            yield SourceFile(number, str(path), "document", *_size_and_mtime(path))
        return
    # 2. texts and tables
    if name == "-" or is_pipe(name):
        raise InputError(f"{name} can be read only once: write it into a file first")
    with Sources([name], data) as sources:
        notes += sources.notes
        for source in sources.files:
            if source.path is None:
                is_hub = source.label.startswith(huggingface.PREFIX)
                label = huggingface.pin_revision(source.label) if is_hub else source.label
                yield SourceFile(number, label, None, 0, 0)
                continue
            # no range of a compressed stream can be read alone, and in UTF-16 a byte does not tell
            # where a character begins
            compressed = source.path.suffix.lower() in COMPRESSED
            whole = compressed or not has_character_borders(data.encoding)
            cut_at = None if whole else getattr(format_of(source.path, data), "CUT_AT", None)
            yield SourceFile(number, source.label, cut_at, *_size_and_mtime(source.path))


def _size_and_mtime(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return status.st_size, status.st_mtime_ns


def has_character_borders(encoding: str) -> bool:
    """Whether the border between two characters can be found from any byte: in UTF-8 and in
    single-byte encodings."""
    try:
        if codecs.lookup(encoding).name == "utf-8":
            return True
        return len(bytes(range(256)).decode(encoding, "replace")) == 256
    except (LookupError, UnicodeError):
        return False


def cut_points(
    path: Path, cut_at: str | None, size: int, encoding: str, shard_bytes: int
) -> list[int]:
    """Places about `shard_bytes` apart where a file may be cut such that its parts, encoded apart,
    give the ids of the whole: 0, bytes (numbers of documents in a token file), and its end.

    Empty where the file can be read from its beginning only.
    """
    if cut_at == "document":
        # documents have about the same size in a token file
        count = datatrove.count_documents(path)
        each = max(1, shard_bytes * count // max(1, size))
        return [*range(0, count, each), count]
    if cut_at is None:
        return []
    cuts = [0]
    try:
        with path.open("rb") as file:
            # a window is read at each cut, never the file
            while size - cuts[-1] > shard_bytes:
                at = cuts[-1] + shard_bytes
                after = _next_cut(file, at, cut_at, encoding)
                if after >= size:
                    break
                cuts.append(after)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    return [*cuts, size]


def _next_cut(file: BinaryIO, at: int, cut_at: str, encoding: str) -> int:
    """Where the first line, word or character begins at or after a byte; a character as well where
    no word begins nearby."""
    if cut_at == "line":
        file.seek(at - 1)  # a line may begin at this very byte
        while block := file.readline(_WINDOW):
            if block.endswith(b"\n"):
                break
        return file.tell()
    if cut_at == "character":
        # neither a mark between documents nor a line end is cut in two
        first = max(0, at - 16)
        file.seek(first)
        for match in re.finditer(rb"<\|(?:end|start)oftext\|>\r?\n?|\r\n", file.read(34)):
            if first + match.start() < at < first + match.end():
                return first + match.end()
    file.seek(at)
    raw, skipped = file.read(_WINDOW), 0
    if codecs.lookup(encoding).name == "utf-8":
        # bytes 10xxxxxx, three at most, belong to the character before
        while skipped < min(4, len(raw)) and raw[skipped] & 0xC0 == 0x80:
            skipped += 1
    text = raw[skipped:].decode(encoding, "ignore")  # the window may end inside a character
    place = boundary(text) if cut_at == "word" else 0
    return at + skipped + len(text[: place or 0].encode(encoding))
