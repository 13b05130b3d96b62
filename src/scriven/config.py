"""Settings as frozen dataclasses, read from TOML, the environment and the command line.

    defaults of the dataclass < --preset < scriven.toml < SCRIVEN_SECTION_KEY < --section.key=value

`settings.py` lists the settings; each architecture adds its own section, `model`. The help of a
setting is the string under its field, so the dataclass is parser, documentation and JSON in one.
"""

import ast
import dataclasses
import inspect
import itertools
import json
import math
import os
import re
import textwrap
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from .errors import InputError, SettingError
from .settings import BOUNDS, Settings

T = TypeVar("T")
_TYPE_NAMES = {
    int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"
}  # fmt: skip
_FLAG = re.compile(r"--|-[a-zA-Z]")
"""The beginning of another flag; -1 is a value."""
CONFIG_FILE = "scriven.toml"
ENVIRONMENT = "SCRIVEN_"
ALIASES = {
    "--encoding": "--data.encoding",
    "--skip-bad": "--data.skip_bad",
    "--skip-bad-files": "--data.skip_bad_files",
}
"""Short spellings of settings on the command line."""
SECTIONS = ("model", *(field.name for field in dataclasses.fields(Settings)))
MAX_SEED = 2**62
FLAGS = ("arch", "budget", "preset", "seed", "size")
"""Flags of commands that a preset or a configuration file may name, above its sections."""


def replace(settings: T, changes: Mapping[str, object], section: str) -> T:
    """A copy of a frozen dataclass with values changed by name.

    Args:
        settings: the dataclass instance.
        changes: field name -> value; text (from a command line) is converted to the field's type.
        section: the name before the dot in messages, as in `--optim.lr`.

    Raises:
        SettingError: an unknown name (the nearest is named), or a value of the wrong type or range.
    """
    # annotations may be strings, so they are resolved
    kinds = typing.get_type_hints(type(settings))
    known = [field.name for field in dataclasses.fields(settings)]  # type: ignore[arg-type]
    values = {}
    for name, value in changes.items():
        key = name.replace("-", "_")
        if key not in known:
            raise unknown(f"--{section}.{name}", [f"--{section}.{each}" for each in known])
        value = values[key] = _convert(value, kinds[key], f"--{section}.{key}")
        least, most = BOUNDS.get(f"{section}.{key}", (-math.inf, math.inf))
        if isinstance(value, (int, float)) and not least <= value <= most:
            raise SettingError(f"--{section}.{key}={value}: from {least:g} to {most:g}")
    return dataclasses.replace(settings, **values)  # type: ignore[type-var]


def check_int(flag: str, value: object, largest: int) -> None:
    """Refuses what is not a whole number from 0 to `largest`.

    Raises:
        SettingError: names the flag and the range.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise SettingError(f"--{flag}={value}: a whole number from 0 to {largest:,}")


def unknown(name: str, known: list[str]) -> SettingError:
    """The error for an unknown name: says what it is called now where it was renamed, or here
    where another program or section has it; else the nearest."""
    # read only now: no valid command needs the old names
    renamed = read_preset(Path(__file__).parent / "renamed_settings.toml")
    if (new := renamed.get(name.removeprefix("--"))) is not None:
        return SettingError(f"{name} is now called --{new}")
    here = name_here(name)
    if here is not None and here not in known:
        return SettingError(f"unknown setting {name}: it is called {here} here")
    # more lenient than the default of 0.6, since a hint costs nothing
    near = [here] if here else get_close_matches(name, known, 1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return SettingError(f"unknown setting {name}: {hint}")


def name_here(name: str) -> str | None:
    """The flag for what another program, or another section, calls by this name, if any."""

    def plain(name: str) -> str:
        return name.rpartition(".")[2].lower().replace("_", "").replace("-", "")

    settings = {
        plain(each.name): f"--{section}.{each.name}"
        for section, kind in typing.get_type_hints(Settings).items()
        for each in dataclasses.fields(kind)
    }
    others = read_preset(Path(__file__).parent / "other_names.toml")
    found = settings.get(plain(name)) or others.get(plain(name))
    return None if found is None else str(found)


def sections(changes: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """`{"optim.lr": "1e-3"}` -> `{"optim": {"lr": "1e-3"}}`."""
    grouped: dict[str, dict[str, object]] = {}
    for name, value in changes.items():
        section, _, key = name.lstrip("-").partition(".")
        grouped.setdefault(section, {})[key] = value
    return grouped


def split_arguments(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """Separates the settings, `--section.key=value` or `--section.key value`, from other arguments.

    `--config FILE` is among the settings, as "config"; a setting without a value is true. All that
    follows a bare `--` is left alone.

    Raises:
        SettingError: `--config` without a file.
    """
    rest: list[str] = []
    settings: dict[str, str] = {}
    # left to right, since a setting may take the next word as its value
    queue = list(arguments)
    while queue:
        item = queue.pop(0)
        if item == "--":
            rest += [item, *queue]
            break
        if item.startswith(
            "--skip-bad"
        ):  # unlike other aliases a flag: it never takes the next word
            item += "" if "=" in item else "=true"
        name, equals, value = item.partition("=")
        name = ALIASES.get(name, name)
        if name != "--config" and not (name.startswith("--") and "." in name):
            rest.append(item)
            continue
        if not equals:
            if name == "--config" and queue[:1] in ([], ["--"]):
                raise SettingError("--config needs a value")
            has_value = queue and (name == "--config" or not _FLAG.match(queue[0]))
            value = queue.pop(0) if has_value else "true"
        settings[name[2:]] = value
    return rest, settings


def user_defaults(path: str | None, environment: Mapping[str, str]) -> dict[str, object]:
    """Settings and flags of a configuration file, and of `SCRIVEN_*` variables above it.

    Args:
        path: the file; ./scriven.toml by default, which need not exist.
        environment: `SCRIVEN_OPTIM_LR` is `optim.lr`, `SCRIVEN_BUDGET` the flag `--budget`.

    Raises:
        SettingError: the file cannot be read, or names an unknown section or flag; or a value is a
            .py file, which would be run as code.
    """
    file = Path(CONFIG_FILE if path is None else path)
    values = read_preset(file) if path is not None or file.is_file() else {}
    for name in values:
        section, dot, _ = name.partition(".")
        if section not in (SECTIONS if dot else FLAGS):
            known = [f"{each}." for each in SECTIONS] if dot else list(FLAGS)
            raise SettingError(f"{file}: {unknown(name, known)}")
    for variable, value in environment.items():
        if variable.startswith(ENVIRONMENT):
            section, _, key = variable.removeprefix(ENVIRONMENT).lower().partition("_")
            # other variables with this prefix belong to somebody else, as SCRIVEN_CACHE
            if section in (SECTIONS if key else FLAGS):
                name = f"{section}.{key}" if key else section
                _refuse_code(variable, name, value)
                values[name] = value
    return values


def read_preset(path: Path) -> dict[str, object]:
    """The dotted settings of a TOML file, which holds only what differs from the defaults.

    Raises:
        SettingError: the file cannot be read, or names a .py file.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} cannot be read: {error}") from error
    flat: dict[str, object] = {}
    for section, values in tables.items():
        if isinstance(values, dict):
            flat |= {f"{section}.{key}": value for key, value in values.items()}
        else:
            flat[section] = values
    for name, value in flat.items():
        _refuse_code(str(path), name, value)
    return flat


def _refuse_code(source: str, name: str, value: object) -> None:
    """Refuses a .py file that is named anywhere but on the command line or in Python.

    A user's optimizer, schedule or tracker is run as code: a file that lies in the current folder,
    or a variable of the environment, must not decide what is run.
    """
    if any(part.strip().endswith(".py") for part in str(value).split(",")):
        raise SettingError(
            f"{source}: {name} = {value} would run code: a .py file is taken from the command "
            f"line only, as --{name} {value}"
        )


def to_dict(settings: object) -> dict[str, Any]:
    """A dataclass as plain JSON values."""
    # through JSON, so that tuples become lists as in a file
    plain = dataclasses.asdict(settings)  # type: ignore[call-overload]
    return typing.cast(dict[str, Any], json.loads(json.dumps(plain)))


def settings_help(kind: type) -> Iterator[tuple[str, object, str]]:
    """(name, default, help) of each field; the help is the string written under the field."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):  # a class may give a field of its base another help
        # a string below a field is no attribute of the class, so it is read from the source
        source = ast.parse(textwrap.dedent(inspect.getsource(base)))
        body = typing.cast(ast.ClassDef, source.body[0]).body
        for line, after in itertools.pairwise(body):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                    texts[line.target.id] = " ".join(str(after.value.value).split())
    for field in dataclasses.fields(kind):
        default = None if field.default is dataclasses.MISSING else field.default
        yield field.name, default, texts.get(field.name, "")


def _convert(value: object, kind: Any, name: str) -> object:
    """`value` as `kind`, where text is read the way a person writes it."""
    is_union = typing.get_origin(kind) in (types.UnionType, typing.Union)
    options = typing.get_args(kind) if is_union else (kind,)
    if type(None) in options and (value is None or str(value).lower() in ("none", "auto")):
        return None
    for option in options:
        converted = _read(value, option)
        if converted is not None:
            return converted
    expected = []
    for option in options:
        if typing.get_origin(option) is typing.Literal:
            expected += [str(each) for each in typing.get_args(option)]
        else:
            expected.append(_TYPE_NAMES[option])
    raise SettingError(f"{name} wants {' or '.join(expected)}, not {value!r}")


def _read(value: object, kind: Any) -> object | None:
    """`value` read as one plain type, or None when it is not one."""
    if typing.get_origin(kind) is typing.Literal:
        return value if value in typing.get_args(kind) else None
    if kind is bool:
        # before int, since a bool of Python is an int as well
        words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
        return value if isinstance(value, bool) else words.get(str(value).lower())
    if isinstance(value, bool):
        return None
    try:
        if kind is int:
            # 1e6 and 50_000 are whole numbers too
            number = float(str(value).replace("_", ""))
            return int(number) if number == int(number) else None
        if kind is float:
            return float(str(value))
    except (ValueError, OverflowError):
        return None
    return str(value) if kind is str else None


def cache_folder() -> Path:
    """Where datasets and downloads are kept: `$SCRIVEN_CACHE`, else the user's cache folder."""
    if folder := os.environ.get("SCRIVEN_CACHE"):
        return Path(folder)
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "scriven"
    except RuntimeError as error:  # neither HOME nor an entry of this user in /etc/passwd
        raise InputError(
            "no home folder is known to keep prepared texts in: set SCRIVEN_CACHE to a folder"
        ) from error
