"""scriven.json: what a run is, how it was trained and how it ended.

The names in it choose from what is known and are never joined to a path; the numbers in it have
bounds, so that a folder from a stranger cannot ask for all the memory there is.
"""

import hmac
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import __version__, config
from ..config import cache_folder
from ..errors import DamagedError, InputError, ScrivenError, SettingError
from ..files import make_folder, printable, write_file
from ..manifest import FORMAT, parse_signed_json, read_file, signed_json
from ..settings import Settings

NAME = "scriven.json"
SIZE_LIMIT = 16 << 20
"""Bytes of scriven.json."""

MAX_PARAMETERS = 10**11
LIMITS = {
    "layers": 4096,
    "heads": 4096,
    "d_model": 1 << 17,
    "d_ff": 1 << 19,
    "context_length": 1 << 24,
    "vocab_size": 1 << 24,
}
"""The largest value of sizes in the `model` section, known by how their names end."""
MAX_NUMBER = (1 << 31) - 1
"""The largest absolute value of any other number there."""

_PLAIN = re.compile(r"(?!.*\.py$|.*\.\.)\w[\w .-]{0,63}")
"""A name to look up: never a path, and never one that ends in .py, which would be run as code."""


_NUMBER = int | float | None
_FIGURES = ("val_loss?", "val_accuracy?", "val_bits_per_byte?", "ngram_loss?")
_WEIGHTS = ("lm_loss_weight?", "label_smoothing?", "token_dropout?", "lm_score_weight?")
SHAPE: dict[str, Any] = {
    "name?": str,
    "architecture": str,
    "task": str,
    "model": dict,
    "settings": {
        **{f"{name}?": dict for name in vars(Settings())},
        "data": dict,
        "optim": {"optimizer": str, "lr_schedule": str},
        "train": dict,
        "budget": {"unit": str, "amount": int | float},
        "steps": int | None,
        "seed": int,
    },
    "reasons": dict,
    "command": str,
    "environment": {"device": str, "dtype": {"float32", "bfloat16", "float16"}},
    "data": {"fingerprint": str | None, "sources": [str], "bos?": int | None},
    "tokenizer": {"kind": str, "vocab_size": int, "fingerprint": str},
    "finetune?": {
        "columns?": {"*": str},
        "validation?": str | None,
        "labels?": list | None,
        **dict.fromkeys(_WEIGHTS, int | float),
        "bag_of_words?": int | None,
        "base?": {"name": str, "run": str},
    },
    "user_components?": list,
    "added?": str | None,
    "origin?": str,
    "extensions?": [
        {"from_branch": int, "from_step": int, "steps": int, "best_step": int, "best_branch": int}
    ],
    "baseline?": (None, {"loss?": _NUMBER, "order?": int | None}),
    "results": (
        None,
        {
            "sample?": str,
            "measure?": str,
            "ngram_order?": int | None,
            **dict.fromkeys(_FIGURES, _NUMBER),
        },
    ),
}
"""What a run's scriven.json holds: a type, a set of values, a dict or list of shapes, or a shape or
None; a name with ? may be missing, and * stands for every name."""


def write_metadata(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Writes scriven.json, whole or not at all, with `format`, `scriven` and `created`, in seconds.

    Of a user's own file (`./mine.py`) only the name, `mine`, is written. Numbers that JSON does not
    have (a loss that is NaN or infinite) become null.

    Raises:
        InputError: a number or name that `read_metadata` refuses, or the folder is not writable.
        ResourceError: the disk is full; the old file is untouched.
    """
    body = {name: value for name, value in metadata.items() if name not in ("format", "created")}
    for name in ("architecture", "task"):
        # the path of a user's file says where it lies on somebody's machine, and would be run
        if str(body.get(name, "")).endswith(".py"):
            body[name] = Path(body[name]).stem
    check_size(body)
    time_created = metadata.get("created") or age(folder)[1]
    if not time_created:
        # now, but later than every run in the same folder, also if the clock was set back since
        others = [age(other) for other in folder.resolve().parent.iterdir() if other.is_dir()]
        # a copied run may be of any time
        ours = [made for is_ours, made in others if is_ours or not _machine_key()]
        time_created = max(int(time.time()), 1 + max(ours, default=0))
    content = {"format": FORMAT, "scriven": __version__, **body, "created": time_created}
    # a run that was made here stays so however often its metadata is written
    if not os.path.lexists(folder / NAME) or age(folder)[0]:
        content["origin"] = _origin(content)
    # NaN and infinite numbers are no JSON
    finite = json.loads(json.dumps(content), parse_constant=lambda _: None)
    write_file(folder / NAME, signed_json(finite))


def read_metadata(folder: Path) -> dict[str, Any]:
    """Reads scriven.json and checks its digest, its version, and its bounds.

    Raises:
        InputError: the folder is no run, or its metadata asks for an absurd size.
        DamagedError: the file is not what was written, or is from a later release.
    """
    path = folder / NAME
    # a broken link is damage, not a missing run
    if not os.path.lexists(path):
        raise InputError(f"{printable(folder)} is no run folder: it has no {NAME}")
    metadata = parse_signed_json(read_file(path, SIZE_LIMIT), path)
    check_size(metadata)
    return metadata


def read_run_metadata(folder: Path) -> dict[str, Any]:
    """The same, with everything in it that a run needs, each of the type that it was written with.

    Raises:
        InputError, DamagedError: as `read_metadata`; something is missing or of another type.
    """
    metadata = read_metadata(folder)
    try:
        _check_shape(metadata, SHAPE, "")
        for name, default in vars(Settings()).items():
            given = metadata["settings"].get(name, {})
            known = {key: value for key, value in given.items() if key in vars(default)}
            config.replace(default, known, name)
    except (_WrongShape, SettingError) as error:
        raise DamagedError(
            f"{printable(folder / NAME)} is damaged, {error}: restore it from a copy"
        ) from error
    return metadata


def _check_shape(value: Any, shape: Any, name: str) -> None:
    """Raises _WrongShape, with the name of the first value that is not of its shape."""
    if isinstance(shape, tuple):
        if value is None:
            return
        shape = shape[1]
    if isinstance(shape, set):
        fits = isinstance(value, str) and value in shape
    else:
        kind = type(shape) if isinstance(shape, (dict, list)) else shape
        fits = isinstance(value, kind) and not isinstance(value, bool)
    if not fits:
        raise _WrongShape(f"{name} is {json.dumps(value)[:40]}")
    if isinstance(shape, list):
        for each in value:
            _check_shape(each, shape[0], name)
    if isinstance(shape, dict):
        if "*" in shape:
            shape = dict.fromkeys(value, shape["*"])
        for key, inner in shape.items():
            plain = key.rstrip("?")
            where = f"{name}.{plain}" if name else plain
            if plain in value:
                _check_shape(value[plain], inner, where)
            elif key == plain:
                raise _WrongShape(f"{where} is missing")


class _WrongShape(Exception):
    """A value of scriven.json is missing or of another type."""


def check_size(metadata: Mapping[str, Any]) -> float:
    """Refuses a model before anything is allocated for it.

    Returns:
        About how many parameters it has, as a Transformer.

    Raises:
        InputError: names the number or name, and its limit.
    """
    # 1. names that choose a file to import: never a path
    names = {name: metadata[name] for name in ("architecture", "task") if name in metadata}
    tokenizer = metadata.get("tokenizer")
    if isinstance(tokenizer, dict) and "kind" in tokenizer:
        names["tokenizer.kind"] = tokenizer["kind"]
    for place, value in names.items():
        if not isinstance(value, str) or not _PLAIN.fullmatch(value):
            raise InputError(f"{NAME}: {place} {str(value)[:80]!r} is not a plain name")
    # 2. every single number
    model = {} if metadata.get("model") is None else metadata["model"]
    if not isinstance(model, dict):
        raise InputError(f"{NAME}: model is not a table of settings")
    largest: dict[str, float] = {}
    for name, value in _numbers(model, "model"):
        limit = next((most for end, most in LIMITS.items() if name.endswith(end)), None)
        least, limit = (-MAX_NUMBER, MAX_NUMBER) if limit is None else (0, limit)
        if not least <= value <= limit:  # also true of NaN
            shown = f"{value}" if abs(value) < 1 << 53 else "too large, infinite or NaN"
            raise InputError(f"{NAME}: {name[:200]} is {shown}: between {least} and {limit}")
        # several sections may hold a size of the same name: the largest counts
        last = name.rpartition(".")[2]
        largest[last] = max(largest.get(last, 0), value)
    # 3. what they amount to together, as a Transformer; other architectures have about as many
    # attention has 4 matrices; a gated MLP has 3, the default one has 2 of width 4 d_model
    d_model, d_ff = largest.get("d_model", 0), largest.get("d_ff", 0)
    attention = 4 * d_model * max(d_model, largest.get("heads", 1) * largest.get("head_dim", 0))
    mlp = 3 * d_model * d_ff if d_ff else 8 * d_model**2
    rows = largest.get("vocab_size", 0) + largest.get("context_length", 0)
    parameters = largest.get("layers", 1) * (attention + mlp) + rows * d_model
    if parameters > MAX_PARAMETERS:
        raise InputError(
            f"{NAME}: a model of about {parameters:.0e} parameters, {4 * parameters:.0e} bytes: at "
            f"most {MAX_PARAMETERS:.0e} parameters are loaded"
        )
    return parameters


def age(folder: Path) -> tuple[bool, int]:
    """Whether a run was made on this machine, and when it was created according to its metadata,
    else 0; for ordering runs only.

    Damaged metadata is still ordered, so that the newest run is reported as damaged and not
    skipped.
    """
    path = folder / NAME
    if not path.exists():
        return False, 0
    try:
        metadata = json.loads(read_file(path, SIZE_LIMIT))
        seconds = metadata["created"]
    except (ScrivenError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        return False, 0
    if not isinstance(seconds, int) or not 0 < seconds < 1 << 53:
        return False, 0
    return is_from_here(metadata), seconds


def is_from_here(metadata: Mapping[str, Any]) -> bool:
    """Whether this machine has made a run and the names of its texts."""
    return bool(_machine_key()) and metadata.get("origin") == _origin(metadata)


def has_given_tokenizer(metadata: Mapping[str, Any]) -> bool:
    """Whether a run has the tokenizer of a model before it, and none made for its own text."""
    return "base" in metadata or bool(metadata["tokenizer"].get("given"))


def check_downloads(metadata: Mapping[str, Any], folder: Path) -> None:
    """Refuses to download what a run from elsewhere names as its texts.

    Raises:
        InputError: names the source, which can be given by the user.
    """
    for source in _named_texts(metadata):
        is_remote = str(source).startswith("hf:") or "://" in str(source)
        if is_remote and not is_from_here(metadata):
            raise InputError(
                f"{printable(folder)} was not made on this machine, and its text "
                f"{printable(str(source))} would be downloaded: name it yourself, in place of the "
                "text"
            )


def _origin(metadata: Mapping[str, Any]) -> str:
    """A code for the time and the texts of a run that nobody else can compute."""
    named = [metadata.get("created"), _named_texts(metadata)]
    return hmac.new(_machine_key(), json.dumps(named).encode(), "sha256").hexdigest()


def _named_texts(metadata: Mapping[str, Any]) -> list[Any]:
    """The sources that a run names, also of the older text that was mixed in."""
    texts = []
    for path in (("data", "sources"), ("base", "replay", "sources")):
        value: Any = metadata
        for name in path:  # `age` reads damaged records too
            value = value.get(name) if isinstance(value, dict) else None
        texts += value if isinstance(value, list) else []
    return texts


def _machine_key() -> bytes:
    """A secret of this machine, in the cache folder; empty where there can be none."""
    try:
        path = cache_folder() / "machine-key"
        if not path.exists():
            make_folder(path.parent)
            write_file(path, secrets.token_bytes(32))
            path.chmod(0o600)
        return bytes(read_file(path, 32))
    except (ScrivenError, OSError, RuntimeError):  # no home folder
        return b""


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """(dotted name, number) of everything in a section."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, name)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield name, value
