"""`hf:NAME[/CONFIG][@REVISION][:SPLIT][#COLUMN]`: a data set of the Hugging Face hub (extra data).

NAME is one on the hub, or a folder with data files. The files of the split are read by the readers
in `formats/`, one after the other; those on the hub are downloaded into its own cache as they are
needed. This is the one kind of source that may use the network, and only since it was named.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError, MissingExtra
from ..settings import DataSettings
from .formats.base import TextChunk, is_known, read_documents

PREFIX = "hf:"
_FORM = re.compile(
    r"hf:(?P<path>[^:#]+?)(?:@(?P<revision>[\w.-]+))?(?::(?P<split>[^#]+))?(?:#(?P<column>.+))?"
)
_SPLIT_WORDS = {
    "train": {"train", "training"},
    "validation": {"validation", "valid", "val", "dev"},
    "test": {"test", "testing", "eval", "evaluation"},
}
"""Words in the path of a file that say which split it belongs to, as in the package `datasets`."""
_CONVERTED = "refs/convert/parquet"
"""The branch where the hub keeps a Parquet version of data sets in other formats."""


class DatasetName(NamedTuple):
    """The parts of a name."""

    path: str
    config: str | None
    revision: str | None
    split: str
    column: str | None


def parse_name(name: str) -> DatasetName:
    """The parts of a name; InputError if it has another form."""
    match = _FORM.fullmatch(name)
    if match is None:
        raise InputError(
            f"{name}: write hf:NAME[/CONFIG][@REVISION][:SPLIT][#COLUMN], as hf:org/name:train"
        )
    path, revision, config = match["path"], match["revision"], None
    # a folder may have an @ in its name, and three parts without one being a configuration
    if revision and Path(f"{path}@{revision}").is_dir():
        path, revision = f"{path}@{revision}", None
    if not Path(path).is_dir() and path.count("/") == 2:
        path, _, config = path.rpartition("/")
    return DatasetName(path, config, revision, match["split"] or "train", match["column"])


def pin_revision(name: str) -> str:
    """The name with the commit that it stands for now, so that a later reading is of the same
    files; a folder's name stays as it is."""
    parts = parse_name(name)
    if Path(parts.path).is_dir():
        return name
    # the configuration as well: a converted data set has none by default
    revision, config, _ = _hub_files(name, parts)
    folder = f"/{config}" if config else ""
    column = f"#{parts.column}" if parts.column else ""
    return f"{PREFIX}{parts.path}{folder}@{revision}:{parts.split}{column}"


def read_dataset(name: str, settings: DataSettings) -> Iterator[TextChunk]:
    """The texts row by row, as they come.

    Raises:
        InputError: no such data set, split or column, or a row without a text.
        MissingExtra: a package to read it is not installed.
    """
    parts = parse_name(name)
    if parts.column is not None:
        settings = dataclasses.replace(settings, text_column=parts.column)
    for path in _local_paths(name, parts):
        try:
            yield from read_documents(path, settings)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error


def _local_paths(name: str, parts: DatasetName) -> Iterator[Path]:
    """The data files of the split, each downloaded when it is asked for."""
    folder = Path(parts.path)
    if folder.is_dir():
        files = (path for path in folder.rglob("*") if path.is_file())
        names = sorted(path.relative_to(folder).as_posix() for path in files)
        configs: Sequence[Mapping[str, Any]] = []
        if (folder / "README.md").is_file():
            with contextlib.suppress(ImportError):  # without the package no card is read
                from huggingface_hub import DatasetCard

                configs = DatasetCard.load(folder / "README.md").data.to_dict().get("configs") or []
        for file in select_files(name, names, configs, parts):
            yield folder / file
        return
    # the hub's cache keeps them, so that the second reading downloads nothing
    revision, _, selected = _hub_files(name, parts)
    for file in selected:
        with _hub(name) as hub:
            path = hub.hf_hub_download(parts.path, file, repo_type="dataset", revision=revision)
        yield Path(path)


@cache
def _hub_files(name: str, parts: DatasetName) -> tuple[str, str | None, list[str]]:
    """Revision, configuration and files of a split on the hub; asked once in a process, so that
    readings agree."""
    with _hub(name) as hub:
        info = hub.HfApi().dataset_info(parts.path, revision=parts.revision)
        names = sorted(sibling.rfilename for sibling in info.siblings or [])
        configs = (info.card_data or {}).get("configs") or []
        config = parts.config
        if not any(map(_is_data, names)):
            # a format that only the hub can read: CONFIG/SPLIT/0000.parquet is its conversion
            info = hub.HfApi().dataset_info(parts.path, revision=_CONVERTED)
            names, configs = sorted(sibling.rfilename for sibling in info.siblings or []), []
            config = config or next((each.split("/")[0] for each in names if _is_data(each)), None)
        return info.sha, config, select_files(name, names, configs, parts._replace(config=config))


@contextlib.contextmanager
def _hub(name: str) -> Iterator[Any]:
    """The hub's client library; whatever it and its network raise becomes an InputError."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtra("huggingface_hub", "data", f"reading {name}") from error
    try:
        yield huggingface_hub
    except (InputError, MissingExtra):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{name} cannot be read: {reason}; check the name, the split and the network"
        ) from error


def select_files(
    name: str, names: Sequence[str], configs: Sequence[Mapping[str, Any]], parts: DatasetName
) -> list[str]:
    """The data files of a split, in order.

    Args:
        names: all files, relative to the data set.
        configs: `configs` of the dataset card, which may name the files of each split. Else words
            in the paths tell the split; where no path has one, all files are for training.

    Raises:
        InputError: no such configuration or split; names those that there are.
    """
    # 1. the configuration: the one that is named, `default`, or the first
    cards = {card["config_name"]: card["data_files"] for card in configs if card.get("data_files")}
    config = parts.config or ("default" if "default" in cards else next(iter(cards), None))
    # 2. files by split, from the patterns of the card: one, a list, or a list by split
    splits: dict[str, list[str]] = {}
    entries = cards.get(config, [])
    for entry in entries if isinstance(entries, list) else [entries]:
        by_split = {"split": "train", "path": entry} if isinstance(entry, str) else entry
        path = by_split["path"]
        splits.setdefault(str(by_split["split"]), []).extend(
            each
            for pattern in ([path] if isinstance(path, str) else path)
            for each in names
            if fnmatch(each, pattern)
        )
    # 3. without a card by words in their paths
    if not any(splits.values()):
        folder = f"{config}/" if config else ""
        data = [each for each in names if _is_data(each) and each.startswith(folder)]
        for each in data:
            splits.setdefault(_split_of_path(each), []).append(each)
        splits = {"train": data} if set(splits) == {""} else splits
    # 4. the files of the split that was named
    files = splits.get(parts.split, [])
    if not files:
        there = ", ".join(sorted(filter(None, splits))) or "none"
        raise InputError(f"{name} cannot be read: no files of split {parts.split!r}: has {there}")
    return files


def _split_of_path(path: str) -> str:
    """train, validation or test, from a word in the name of the file or of a folder, the innermost
    first; empty for none."""
    for part in reversed(path.lower().split("/")):
        # whole words: trainers.txt is not for training
        words = set(re.split(r"[^a-z]+", part))
        for split, keys in _SPLIT_WORDS.items():
            if words & keys:
                return split
    return ""


def _is_data(path: str) -> bool:
    """Whether a file holds rows; a data set has other texts beside them."""
    name = path.lower().rpartition("/")[2]
    return is_known(Path(name)) and not name.startswith(("readme", "license", "."))
