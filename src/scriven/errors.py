"""Errors that a user sees, as a small tree.

    ScrivenError               one line for a person; the command ends with `exit_code`
    ├── InputError      2      a file, a prompt or a folder that cannot be used as it is
    │   └── SettingError       a flag or a preset value that cannot be used
    ├── DamagedError    2      a file of a run whose content is not what was written
    ├── BusyError       2      another process is using this run folder
    ├── MissingExtra    2      an optional package is not installed
    ├── ResourceError   3      memory or disk
    └── LostError       3      another process of a distributed training is gone

The message of an error names the input and the remedy. Bugs are AssertionErrors instead.
"""

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
