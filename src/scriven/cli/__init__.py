"""The `scriven` command: one verb = one file of this folder, found by its name.

Loads no torch: a verb's file imports what it needs when it runs, so `--help` is instant.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

from cyclopts import App, CycloptsError, MissingArgumentError

from .. import __version__, config, registry
from ..errors import ResourceError, ScrivenError, SettingError
from ..process import settle

ALIASES = {"--encoding": "--data.encoding", "--skip-bad": "--data.skip_bad"}

DASH = "\0-"
"""Stands for `-`, standard input, which the parser would take for an option without a name."""

ORDER = (
    "train", "generate", "finetune", "predict", "chat", "evaluate", "harness", "compare", "bench",
    "export", "import_", "prepare", "plan", "inspect", "report", "doctor",
)  # fmt: skip
"""How the first help page lists the verbs people start with; others follow by name."""


def build() -> App:
    """The command line, with a verb for each file."""
    app = App(
        name="scriven",
        help="Turn your own text into your own GPT, on the machine you have.\n\n"
        '    scriven train book.txt\n\n    scriven generate book "It was a dark"',
        help_format="markdown",
        version=__version__,
        help_epilogue="Any other setting is --section.key=value: `scriven train --help-all`.",
    )
    verbs = registry.names("scriven.cli")
    ranked = [verb for verb in ORDER if verb in verbs]
    for rank, verb in enumerate([*ranked, *(verb for verb in verbs if verb not in ORDER)]):
        command = getattr(registry.module("scriven.cli", verb), verb)
        app.command(command, name=verb.rstrip("_"), sort_key=rank)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Runs one command and exits with its code."""
    _open_streams()
    try:
        code = run(sys.argv[1:] if arguments is None else arguments)
    except BrokenPipeError:
        # the reader of our output left (`| head`): quiet, as any command is, also when Python
        # writes out at its end what is still in the buffers
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        code = 141
    sys.exit(code)


def _open_streams() -> None:
    """Puts the null device where a standard stream was closed (`>&-`): Python has None there, and
    the next file opened would take its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def run(arguments: list[str]) -> int:
    """The exit code of a command line."""
    try:
        _execute(arguments)
    except ScrivenError as error:
        return _fail(error, error.exit_code)
    except MissingArgumentError as error:
        return _fail(SettingError(_missing(error)), 2)
    except CycloptsError as error:
        return _fail(SettingError(_one_line(str(error))), 2)
    except KeyboardInterrupt:
        print("scriven: interrupted", file=sys.stderr)
        return 130
    except BaseException as error:
        if _is_memory(error):
            text = "out of memory: lower --train.micro_batch_size, --model.context_length or --size"
            return _fail(ResourceError(text), 3)
        code = getattr(error, "exit_code", None)  # training.stop.Interrupted, without torch
        if code is None:
            raise
        if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
            print(f"scriven: interrupted; {error}", file=sys.stderr)
        return int(code)
    return 0


def _is_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, or what torch raises on the processor and on a GPU."""
    if isinstance(error, RuntimeError):
        words = ("out of memory", "can't allocate memory", "not enough memory")
        return any(word in str(error).lower() for word in words)
    return isinstance(error, MemoryError)


def _execute(arguments: list[str]) -> None:
    settle()
    arguments = [_unalias(item) for item in arguments]
    rest, settings = config.split_arguments(arguments)
    rest = [DASH if item == "-" else item for item in rest]
    app = build()
    command, bound, ignored = app.parse_args(rest, exit_on_error=False, print_error=False)
    _give_dashes_back(bound.arguments)
    if "settings" in ignored:
        bound.arguments["settings"] = settings
    elif settings:
        verb = rest[0] if rest else "scriven"
        raise SettingError(f"`{verb}` takes no --{next(iter(settings))}: see `{verb} --help`")
    _call(command, bound.args, bound.kwargs)


def _give_dashes_back(bound: dict[str, Any]) -> None:
    for name, value in bound.items():
        if isinstance(value, tuple):
            bound[name] = tuple("-" if item == DASH else item for item in value)
        elif value == DASH:
            bound[name] = "-"


def _call(command: Callable[..., Any], args: Any, kwargs: Any) -> None:
    command(*args, **kwargs)
    sys.stdout.flush()  # so that a broken pipe shows here and not at exit


def _missing(error: MissingArgumentError) -> str:
    """`scriven generate` alone: names what belongs there, as the help page writes it."""
    if error.keyword is not None or error.argument is None:
        return str(error)
    verb = " ".join(error.command_chain or ())
    return f"`{verb}` needs {error.argument.name.lstrip('-').upper()}: see `scriven {verb} --help`"


def _unalias(item: str) -> str:
    name, equals, value = item.partition("=")
    if item == "--skip-bad":  # a file may follow it
        equals, value = "=", "true"
    return ALIASES.get(name, name) + equals + value


def _fail(error: ScrivenError, code: int) -> int:
    print(f"scriven: {_one_line(str(error))}", file=sys.stderr)
    return code


def _one_line(text: str) -> str:
    return " ".join(text.split())
