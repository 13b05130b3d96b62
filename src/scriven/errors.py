"""Errors that a user sees, as a small tree.

    ScrivenError               one line for a person; the command ends with `exit_code`
    ├── InputError      2      a file, a prompt or a folder that cannot be used as it is
    │   └── SettingError       a flag or a preset value that cannot be used
    ├── DamagedError    2      a file of a run whose content is not what was written
    ├── BusyError       2      another process is using this run folder
    ├── MissingExtra    2      an optional package is not installed
    ├── ResourceError   3      memory or disk
    └── LostError       3      another process of a distributed training is gone

The message of an error names the input and the remedy. Bugs are AssertionErrors instead. Messages
speak of flags, which `for_python` turns into arguments where there is no command line.
"""

import re
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from types import FunctionType
from typing import Any, TypeVar, cast

LONGEST = 1000


class ScrivenError(Exception):
    """Base of all errors that are reported in one line, without a traceback."""

    exit_code = 2

    def __init__(self, message: str = "") -> None:
        """A message that quotes a whole text loses its middle: its remedy is at the end."""
        if len(message) > LONGEST:
            message = f"{message[: LONGEST // 3]} … {message[-LONGEST // 2 :]}"
        super().__init__(message)


class InputError(ScrivenError):
    """An input (file, folder, prompt, row) that cannot be used."""


class SettingError(InputError):
    """A setting with an unknown name or an impossible value."""


class DamagedError(ScrivenError):
    """A file whose digest, format or version differs from what a finished save wrote."""


class BusyError(ScrivenError):
    """The run folder is in use by another process."""


class MissingExtra(ScrivenError):
    """An optional package is needed; the text is the line that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package}: pip install 'scriven[{extra}]'")


class ResourceError(ScrivenError):
    """Not enough memory or disk; names the settings to lower."""

    exit_code = 3


class LostError(ScrivenError):
    """Another process of a distributed training is gone, or no longer answers."""

    exit_code = 3


T = TypeVar("T", bound=Callable[..., Any])
has_flags = ContextVar("has_flags", default=False)
"""Whether errors are shown at a command line, where every argument is a name or a number."""
_COMMAND = re.compile(r"(`[^`]*`|\b(?:scriven|torchrun|pip) [^,;]*)")
_SETTING = re.compile(r"--([a-z_]+\.[a-z0-9_]+)(?:=([^\s,:;]+))?")
_VALUE = re.compile(
    r"(?<!\w)--([a-z][a-z-]*) ([A-Z][A-Z:.]*\b|'[^']*'|\+?\d(?:[\w.]*\w)?|[\w.]*/[\w./-]*\w)"
)
_FLAG = re.compile(r"(?<!\w)--([a-z][a-z-]*)\b")
_NAMES = {"from": "base"}
"""Arguments that Python cannot name as the flag is named."""


def for_python(public: T) -> T:
    """A function, or a class with methods, whose errors name arguments where a program calls it."""
    if isinstance(public, type):
        for name, method in list(vars(public).items()):
            if isinstance(method, FunctionType) and not name.startswith("_"):
                setattr(public, name, for_python(method))
        return public

    @wraps(public)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return public(*arguments, **named)
        except ScrivenError as error:
            if not has_flags.get():
                error.args = (without_flags(str(error)),)
            raise

    return cast(T, call)


def without_flags(text: str) -> str:
    """`--optim.lr=2` as `settings={"optim.lr": 2}`, `--out NEW` as `out=NEW`, `--out` as `out`;
    commands stay as they are."""

    def setting(match: re.Match[str]) -> str:
        key, value = match.groups()
        return f'settings["{key}"]' if value is None else f'settings={{"{key}": {value}}}'

    def name(flag: str) -> str:
        return _NAMES.get(flag, flag.replace("-", "_"))

    def valued(match: re.Match[str]) -> str:
        flag, value = match.groups()
        quoted = value if value.isupper() or value.startswith("'") else f'"{value}"'
        return f"{name(flag)}={quoted}"

    parts = _COMMAND.split(text)
    for place in range(0, len(parts), 2):  # every second part is a command to type
        plain = _SETTING.sub(setting, parts[place])
        plain = _VALUE.sub(valued, plain)
        parts[place] = _FLAG.sub(lambda match: name(match[1]), plain)
    return "".join(parts)
