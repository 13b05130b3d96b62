"""Everything a user can do wrong, as a small tree of errors.

    ScrivenError               one line for a person; the command ends with `exit_code`
    ├── InputError      2      a file, a prompt or a folder that cannot be used as it is
    │   └── SettingError       a flag or a preset value that cannot be used
    ├── DamagedError    2      a file of ours whose content is not what was written
    ├── BusyError       2      another process is using this run folder
    ├── MissingExtra    2      an optional package is not installed
    ├── ResourceError   3      memory or disk
    └── LostError       3      another process of the same training is gone

The text of an error names the input and the remedy. `assert` is for our own mistakes.
"""


class ScrivenError(Exception):
    """Base of all errors that are reported to the user in one line, without a traceback."""

    exit_code = 2


class InputError(ScrivenError):
    """An input (file, folder, prompt, row) that cannot be used; says what to do about it."""


class SettingError(InputError):
    """A setting with an unknown name or an impossible value."""


class DamagedError(ScrivenError):
    """A file whose digest, format or version is not what a finished save left behind."""


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
    """Another process of a training on several is gone, or answers no more."""

    exit_code = 3
