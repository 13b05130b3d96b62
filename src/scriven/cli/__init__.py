"""The `scriven` command line: one command is one file of this folder, found by its name.

Nothing here imports torch: a command imports what it needs when it runs, so `--help` takes 0.2 s.
`DEFAULTS` of a command names what scriven.toml and SCRIVEN_* variables may set of it.
"""

import gc
import io
import os
import sys
from types import FunctionType

from cyclopts import (
    App,
    CycloptsError,
    Group,
    MissingArgumentError,
    Parameter,
    UnknownOptionError,
    UnusedCliTokensError,
)

from .. import __version__, config, registry
from ..errors import ResourceError, ScrivenError, SettingError, has_flags
from ..process import configure_threads_and_malloc
from .base import note

STDIN = "\0-"
"""Stands for `-` (standard input) while cyclopts parses, which takes `-` for a nameless option."""

# The groups of the first help page; a command that is in none of them is listed under Other
GROUPS = {
    "Train": ("train", "finetune", "finish", "prepare", "plan", "inspect"),
    "Generate and predict": ("generate", "chat", "predict", "serve"),
    "Evaluate and compare": ("evaluate", "explain", "harness", "compare", "bench", "report"),
    "Exchange models": ("export", "import_"),
    "Other": ("doctor",),
}


def build_app(verb: str | None = None) -> App:
    """The command line: the one command `verb`, or every command where it names none."""
    # sort_key keeps our order; cyclopts sorts by name otherwise
    groups = {title: Group(title, sort_key=rank) for rank, title in enumerate(GROUPS)}
    # `import` is a keyword of Python, so its file is import_.py
    commands = {name.rstrip("_"): name for name in registry.names("scriven.cli")}
    app = App(
        name="scriven",
        help="Turn your own text into your own GPT, on the machine you have.\n\n"
        '    scriven train book.txt\n\n    scriven generate book "It was a dark"',
        # the lines of a command's parameters flow; the first page needs no parser of Markdown
        help_format="markdown" if verb in commands else "plaintext",
        version=__version__,
        group_commands=groups["Other"],
        default_parameter=Parameter(negative=()),  # no --no-quiet beside --quiet
        help_epilogue="Any other setting is --section.key=value, a line of scriven.toml (or of "
        "--config FILE), or a variable SCRIVEN_SECTION_KEY: `scriven train --help-all`.",
    )
    places = {
        name: (title, rank) for title, names in GROUPS.items() for rank, name in enumerate(names)
    }
    # one command starts faster than all; help, completion and typing errors need them all
    for command in [verb] if verb in commands else commands:
        name = commands[command]
        title, rank = places.get(name, ("Other", len(places)))
        function = getattr(registry.module("scriven.cli", name), name)
        app.command(function, name=command, group=groups[title], sort_key=rank)
    if verb not in commands:
        app.register_install_completion_command(
            help="Install completion for bash, zsh, fish or PowerShell.", group=groups["Other"]
        )
    return app


def main(arguments: list[str] | None = None) -> None:
    """Runs one command and exits with its code."""
    # 1. The null device where a standard stream was closed (`>&-`): Python has None there, and the
    # next file that is opened would get its file descriptor.
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
    # 2. What a stream cannot show (an emoji in cp1252) or read is replaced, and costs no answer.
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    # 3. Python's default searches for garbage hundreds of times while PyTorch is imported.
    gc.set_threshold(50_000)
    # 4. the command
    try:
        code = run(sys.argv[1:] if arguments is None else arguments)
    except BrokenPipeError:
        # The reader of our output left (`| head`). Python flushes what is still buffered at exit,
        # so the streams lead nowhere from here; 141 is the exit code of SIGPIPE.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        code = 141
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """The exit code of a command line; errors are printed in one line."""
    token = has_flags.set(True)  # errors name flags, and not arguments of Python
    try:
        _execute(arguments)
    except ScrivenError as error:
        return _fail(error)
    except CycloptsError as error:
        return _fail(SettingError(_usage_error(error)))
    except BaseException as error:
        if _is_out_of_memory(error):
            text = "out of memory: lower --train.micro_batch_size, --model.context_length or --size"
            return _fail(ResourceError(text))
        if not isinstance(error, KeyboardInterrupt):
            raise
        if os.environ.get("RANK", "0") == "0":  # under torchrun only the main process prints
            note("; ".join(filter(None, ["scriven: interrupted", str(error)])))
        # train.stopping.Interrupted has the exit code of its signal
        return int(getattr(error, "exit_code", 130))
    finally:
        has_flags.reset(token)
    return 0


def _execute(arguments: list[str]) -> None:
    """Parses a command line and runs its command."""
    # 1. settings (--section.key) are ours; cyclopts parses the rest
    words, settings = config.split_arguments(arguments)
    path = settings.pop("config", None)
    verb = words[0] if words else ""
    app = build_app(verb)
    # 2. scriven.toml and SCRIVEN_*, as far as the command accepts them
    accepted = getattr(sys.modules.get(f"{__name__}.{verb.replace('-', '_')}"), "DEFAULTS", ())
    if path is not None and not accepted:
        raise SettingError(f"`{verb or 'scriven'}` takes no --config: see `scriven --help`")
    given = config.user_defaults(path, os.environ) if accepted else {}
    defaults = {name: value for name, value in given.items() if name.split(".")[0] in accepted}
    chosen = {name: value for name, value in defaults.items() if "." in name} | settings
    if flags := {name: value for name, value in defaults.items() if "." not in name}:
        from cyclopts.config import Dict

        app.config = (Dict(flags, use_commands_as_keys=False, source=path or "scriven.toml"),)
    # 3. the flags and arguments of the command itself
    words = [STDIN if item == "-" else item for item in words]
    command, bound, ignored = app.parse_args(words, exit_on_error=False, print_error=False)
    for name, value in bound.arguments.items():
        if isinstance(value, tuple):
            bound.arguments[name] = tuple("-" if item == STDIN else item for item in value)
        elif value == STDIN:
            bound.arguments[name] = "-"
    if "settings" in ignored:
        bound.arguments["settings"] = chosen
    elif settings:
        verb = verb or "scriven"
        raise SettingError(f"`{verb}` takes no --{next(iter(settings))}: see `{verb} --help`")
    if isinstance(command, FunctionType):  # not a page of cyclopts, which needs no torch
        configure_threads_and_malloc()
    command(*bound.args, **bound.kwargs)
    sys.stdout.flush()  # so that a broken pipe shows here and not at exit


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's MemoryError, or what torch raises on a CPU or GPU."""
    if isinstance(error, RuntimeError):
        messages = ("out of memory", "can't allocate memory", "not enough memory")
        return any(message in str(error).lower() for message in messages)
    return isinstance(error, MemoryError)


def _usage_error(error: CycloptsError) -> str:
    """What is wrong with a command line, and the help page that says what is right."""
    verb = " ".join(error.command_chain or ())
    text = " ".join(str(error).split()).partition(" Available commands")[0].rstrip(".")
    if isinstance(error, MissingArgumentError) and error.argument and error.keyword is None:
        # an argument as the help page writes it, a flag as it is typed
        name = error.argument.name
        is_flag = error.argument.field_info.kind is error.argument.field_info.KEYWORD_ONLY
        text = f"`{verb}` needs {name if is_flag else name.lstrip('-').upper()}"
    elif isinstance(error, UnknownOptionError):
        # a text that looks like an option
        word = str(error.token.keyword or error.token.value)
        if " " in word or (verb == "generate" and "Did you mean" not in text):
            return f"{text}; a text that begins with - stands after --, as in -- '{word}'"
        here = config.name_here(word)
        if here is not None and _takes(verb, here):
            return f"unknown option {word}: it is called {here} here"
    elif isinstance(error, UnusedCliTokensError):
        extra = error.unused_tokens or []
        noun = "argument" if len(extra) == 1 else "arguments"
        text = f"`{verb}`: unexpected {noun} {' '.join(extra)}"
    elif verb:
        text = text.replace(f'Command "{verb}" parameter ', "")
    return text if "Did you mean" in text else f"{text}: see `scriven {verb} --help`"


def _takes(verb: str, flag: str) -> bool:
    """Whether a command has this flag, or takes settings where it is one."""
    name = verb.replace("-", "_")
    function = getattr(sys.modules.get(f"{__name__}.{name}"), name, None)
    if not isinstance(function, FunctionType):
        return False
    code = function.__code__
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return ("settings" if "." in flag else flag[2:].partition(" ")[0]) in parameters


def _fail(error: ScrivenError) -> int:
    """Prints an error as one line and returns its exit code."""
    note(f"scriven: {' '.join(str(error).split())}")
    return error.exit_code
