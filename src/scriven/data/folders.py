"""Which files of a folder, or of a glob, are read, and what the user is told of the others.

Passed over are what programs keep beside texts (runs, prepared corpora, models, environments),
files of kinds that are no text, and whatever is no regular file.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from ..errors import InputError, MissingExtra
from ..files import printable
from ..format import plural
from ..settings import DataSettings
from .decoding import strip_compression
from .formats.base import format_of, is_known, known_formats, read_documents
from .recognise import KINDS, recognise

_MARKS = (
    # files that are all in a folder of this kind
    (("scriven.json",), "a run"),
    (("plan.json", "shards"), "a prepared corpus"),
    (("plan.json", "manifest.json"), "a prepared corpus"),
    (("manifest.json", "tokenizer.json"), "a prepared corpus"),
    (("export.json",), "an export"),
    (("config.json", "tokenizer.json"), "a model"),
    (("config.json", "model.safetensors"), "a model"),
    (("adapter_config.json",), "a model"),
    (("pyvenv.cfg",), "an environment"),
    (("HEAD", "objects", "refs"), "a repository"),
    (("CACHEDIR.TAG",), "a cache"),
)
_FOLDERS = {"node_modules": "packages", "__pycache__": "a cache", "site-packages": "packages"}
_DATA = {"json", "jsonl", "sqlite", "xlsx"}
"""Kinds that hold texts sometimes."""
_NO_TEXT = {KINDS[kind] for kind in ("audio", "binary", "gguf", "image", "pickle", "program")}
_MOST_NAMED = 5


@dataclass
class FoundFiles:
    """The files that are read, in the order of their paths, and notes on the others."""

    paths: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class _PassedOver:
    """What is not read, and why."""

    folders: dict[Path, str] = field(default_factory=dict)
    """Path -> what it is."""
    files: dict[Path, str] = field(default_factory=dict)
    """Path -> what it is."""
    suffixes: Counter[str] = field(default_factory=Counter)
    """How many plain texts of unknown suffixes there are."""

    def table(self, root: Path, read: Sequence[Path]) -> str:
        """What was read, passed over and refused, a line each; empty where texts of one kind alone
        were read."""
        kinds = Counter(strip_compression(path).suffix.lower() or "no suffix" for path in read)
        where = printable(root)
        skipped = [
            f"{count} {suffix} ('{where}/**/*{suffix}' reads them)"
            if suffix
            else f"{count} without a suffix"
            for suffix, count in self.suffixes.most_common(_MOST_NAMED)
        ]
        refused = {path: what for path, what in self.files.items() if what not in _NO_TEXT}
        files = {path: what for path, what in self.files.items() if path not in refused}
        rows = {
            "read": [f"{count} {suffix}" for suffix, count in kinds.most_common(_MOST_NAMED)],
            "passed over": skipped + _named(self.folders, root) + _named(files, root),
            "refused": _named(refused, root, 3 * _MOST_NAMED),
        }
        if len(kinds) > _MOST_NAMED:
            rows["read"].append(f"{len(kinds) - _MOST_NAMED} other kinds")
        if len(kinds) < 2 and not (rows["passed over"] or rows["refused"]):
            return ""
        lines = [f"  {name:<12} {', '.join(entries)}" for name, entries in rows.items() if entries]
        return "\n".join([f"{where}: {plural(len(read), 'file')} to read", *lines])


def _named(group: dict[Path, str], root: Path, most: int = _MOST_NAMED) -> list[str]:
    """The first few of what is not read, what this program made before all others."""
    first = sorted(group.items(), key=lambda entry: entry[1] != "a run")
    named = [f"{printable(os.path.relpath(path, root))} ({what})" for path, what in first[:most]]
    more = len(group) - len(named)
    return named + ([f"{more} more"] if more else [])


def _in_one_line(note: str) -> str:
    """The lines of a table one after the other, for an error."""
    return "; ".join(" ".join(line.split()) for line in note.splitlines()[1:])


def folder_kind(folder: Path) -> str | None:
    """What a folder is that holds no texts, such as "a run"; None for any other."""
    if folder.name in _FOLDERS:
        return _FOLDERS[folder.name]
    for names, kind in _MARKS:
        if all(os.path.exists(folder / name) for name in names):
            return kind
    return None


def find_in_folder(folder: Path, settings: DataSettings, *, tables: bool = False) -> FoundFiles:
    """The files to read below a folder; hidden ones never.

    Args:
        tables: whether rows of tables are wanted, instead of texts.

    Raises:
        InputError: it is a run or the like itself, or holds nothing to read.
    """
    kind = folder_kind(folder)
    if kind is not None:
        raise InputError(f"{printable(folder)} is {kind}, not a folder of texts: name its files")
    candidates, passed = [], _PassedOver()
    unreadable: list[OSError] = []
    for top, folders, names in os.walk(folder, onerror=unreadable.append):
        kept = []
        for name in sorted(each for each in folders if not each.startswith(".")):
            path = Path(top, name)
            kind = "a link" if path.is_symlink() else folder_kind(path)
            if kind is None:
                kept.append(name)
            elif name not in _FOLDERS:  # nobody wonders about these
                passed.folders[path] = kind
        folders[:] = kept  # in place, so that os.walk does not enter the others
        candidates += [Path(top, name) for name in names if not name.startswith(".")]
    for error in unreadable:
        passed.folders[Path(error.filename)] = str(error.strerror).lower()
    found = _choose(sorted(candidates), folder, settings, passed, tables)
    if not found.paths:
        known = ", ".join(sorted(known_formats()))
        raise InputError(
            f"the folder {printable(folder)} holds no text: known are {known}"
            + (f" ({_in_one_line(found.notes[0])})" if found.notes else "")
        )
    return found


def find_glob(pattern: str, settings: DataSettings, *, tables: bool = False) -> FoundFiles:
    """The files that a glob names; hidden ones only where it names them; as `find_in_folder`.

    Links to folders are not followed by `**`, so a loop of them does no harm.

    Raises:
        InputError: none that can be read.
    """
    parts = Path(pattern).parts
    place = next(index for index, part in enumerate(parts) if set(part) & set("*?["))
    root = Path(*parts[:place])
    # pathlib knows ** as a whole part only
    rest = [part if part == "**" else part.replace("**", "*") for part in parts[place:]]
    hidden = any(part.startswith(".") for part in rest)
    passed, kinds, paths = _PassedOver(), dict[Path, str | None](), list[Path]()
    for path in sorted(root.glob("/".join(rest)), key=str):
        inside = path.relative_to(root)
        if path.is_dir() or (not hidden and any(part.startswith(".") for part in inside.parts)):
            continue
        for above in (root / each for each in reversed(inside.parents)):
            kind = (
                kinds.setdefault(above, folder_kind(above)) if above not in kinds else kinds[above]
            )
            if kind is not None:
                if above.name not in _FOLDERS:
                    passed.folders[above] = kind
                break
        else:
            paths.append(path)
    found = _choose(paths, root, settings, passed, tables, asked=True)
    if not found.paths:
        why = "check the path before the first *"
        why = _in_one_line(found.notes[0]) if found.notes else why
        raise InputError(f"no file matches {printable(pattern)}: {why}")
    return found


def _choose(
    paths: Iterable[Path],
    root: Path,
    settings: DataSettings,
    passed: _PassedOver,
    tables: bool,
    asked: bool = False,
) -> FoundFiles:
    """The files that are read; of a glob each was asked for, whatever its suffix."""
    known, others = list[Path](), list[Path]()
    for path in paths:
        if not path.is_file():
            passed.files[path] = "no regular file" if os.path.lexists(path) else "missing"
            continue
        inside = path.relative_to(root)
        if settings.files is not None and not asked:
            patterns = [each.strip() for each in settings.files.split(",")]
            if any(fnmatch(inside.name, each) or fnmatch(str(inside), each) for each in patterns):
                known.append(path)
        elif asked or is_known(path):
            known.append(path)
        else:
            others.append(path)

    def is_read(path: Path) -> bool:
        is_expected = is_known(path) and path not in others
        return not _is_other_kind(path, passed, is_expected, settings, tables)

    known, others = list(filter(is_read, known)), list(filter(is_read, others))
    suffixes = Counter(strip_compression(path).suffix for path in others)
    notes = []
    # a folder of source code or of chess games is mostly plain text under other names
    if sum(path.stat().st_size for path in others) > sum(path.stat().st_size for path in known):
        kinds = ", ".join(f"{count} {each or 'other'}" for each, count in suffixes.most_common(5))
        notes = [
            f"{printable(root)} holds mostly plain text of other kinds ({kinds} files),"
            " which is read too (--data.files='*.txt,*.md' chooses)"
        ]
        known, suffixes = sorted(known + others), Counter()
    passed.suffixes = suffixes
    note = passed.table(root, known)
    return FoundFiles(known, notes + ([note] if note else []))


def _is_other_kind(
    path: Path, passed: _PassedOver, known: bool, settings: DataSettings, tables: bool
) -> bool:
    """Whether a file is of a kind that is not read; says so."""
    kind, what = None, "unreadable"
    chosen_column = settings.text_column != DataSettings().text_column
    try:
        kind = recognise(path)
        what = KINDS.get(kind or "", what)
        is_other = kind == "binary" and not known
        module = format_of(path, settings)
        is_table = hasattr(module, "records")
        if tables and not is_table and kind is not None:
            is_other = True
        elif not tables and is_table and kind in _DATA and not chosen_column:
            # data of programs lies beside texts: only what has a text in its first row is read,
            # unless a column was asked for, which then has to be there
            what += " without texts"
            next(read_documents(path, settings), None)
    except MissingExtra:  # reading it will say so
        is_other = False
    except (InputError, OSError):  # reading a known one will give the reason
        is_other = kind is not None or not known
    if is_other:
        passed.files[path] = what
    return is_other
