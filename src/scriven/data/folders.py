"""Which files of a folder, or of a glob, are read, and what the user is told of the others.

Passed over are what programs keep beside texts (runs, prepared corpora, models, environments),
files of kinds that are no text, and whatever is no regular file.
"""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from ..errors import InputError
from ..files import printable
from ..settings import DataSettings
from .decoding import strip_compression
from .formats.base import format_of, is_known, known_formats
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
_MOST_NAMED = 4


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

    def note(self, root: Path) -> str:
        """One line for the user; empty where nothing was passed over."""
        parts = [
            f"{count} {suffix} ('{printable(root)}/**/*{suffix}' reads them)"
            if suffix
            else f"{count} without a suffix"
            for suffix, count in self.suffixes.most_common(_MOST_NAMED)
        ]
        for group in (self.folders, self.files):
            # what this program made is named first
            first = sorted(group.items(), key=lambda entry: entry[1] != "a run")
            named = [
                f"{printable(os.path.relpath(path, root))} ({what})"
                for path, what in first[:_MOST_NAMED]
            ]
            more = len(group) - len(named)
            parts += named + ([f"{more} more"] if more else [])
        return f"passed over in {printable(root)}: {', '.join(parts)}" if parts else ""


def folder_kind(folder: Path) -> str | None:
    """What a folder is that holds no texts, such as "a run"; None for any other."""
    if folder.name in _FOLDERS:
        return _FOLDERS[folder.name]
    for names, kind in _MARKS:
        if all(os.path.exists(folder / name) for name in names):
            return kind
    return None


def find_in_folder(folder: Path, settings: DataSettings) -> FoundFiles:
    """The files to read below a folder; hidden ones never.

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
    found = _choose(sorted(candidates), folder, settings, passed)
    if not found.paths:
        known = ", ".join(sorted(known_formats()))
        raise InputError(
            f"the folder {printable(folder)} holds no text: known are {known}"
            + (f" ({found.notes[0]})" if found.notes else "")
        )
    return found


def find_glob(pattern: str, settings: DataSettings) -> FoundFiles:
    """The files that a glob names; hidden ones only where it names them.

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
    found = _choose(paths, root, settings, passed, asked=True)
    if not found.paths:
        why = found.notes[0] if found.notes else "check the path before the first *"
        raise InputError(f"no file matches {printable(pattern)}: {why}")
    return found


def _choose(
    paths: Iterable[Path],
    root: Path,
    settings: DataSettings,
    passed: _PassedOver,
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
    known = [path for path in known if not _is_other_kind(path, passed, is_known(path), settings)]
    others = [path for path in others if not _is_other_kind(path, passed, False, settings)]
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
    note = passed.note(root)
    return FoundFiles(known, notes + ([note] if note else []))


def _is_other_kind(path: Path, passed: _PassedOver, known: bool, settings: DataSettings) -> bool:
    """Whether a file is of a kind that is not read; says so."""
    kind = None
    try:
        kind = recognise(path)
        format_of(path, settings)
        is_other = kind == "binary" and not known
    except (InputError, OSError):  # reading a known one will give the reason
        is_other = kind is not None or not known
    if is_other:
        passed.files[path] = KINDS.get(kind or "", "unreadable")
    return is_other
