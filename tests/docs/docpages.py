"""The commands and Python blocks of a page, and how the tests run them in seconds.

A page is run from top to bottom in a folder of its own that holds the files it speaks of. What is
changed, and nothing else:

- a budget becomes 3 steps, in commands and in Python; it is checked to be a budget first;
- a built-in corpus becomes book.txt, as `--out runs/CORPUS`; it is checked to be one first;
- a new `train` of a folder that an earlier, different command of the page made starts afresh.
"""

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scriven import registry
from scriven.train.schedule import parse_budget

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
QUICK = "3steps"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_BUDGET = re.compile(r'(budget=)"(\+?)([^"]+)"')


@dataclass(frozen=True)
class Block:
    """One thing to run: a command line, or Python code."""

    kind: str
    """command or python."""
    text: str


def blocks(page: str) -> Iterator[Block]:
    """The command lines that begin with `scriven`, and the Python blocks, in order."""
    for language, body in _FENCE.findall(page):
        if language == "python":
            yield Block("python", body)
        elif language in ("", "sh", "bash"):
            joined = body.replace("\\\n", " ")
            for line in joined.splitlines():
                if line.startswith("scriven "):
                    yield Block("command", line)


def whole(page: str) -> list[Block]:
    """Commands inside sentences that say what they work on; FILE stands for anything."""
    found = [line for line in inline(page) if len(line.split()) > 2 and "FILE" not in line]
    return [Block("command", line) for line in found]


def inline(page: str) -> list[str]:
    """Whole commands inside a sentence, as `scriven report book`."""
    spans = re.findall(r"`(scriven [^`]+)`", _FENCE.sub("", page))
    return [" ".join(span.split()) for span in spans]


@dataclass(frozen=True)
class Command:
    """A command line, ready to run."""

    arguments: list[str]
    stdin: str | None = None


def quick(line: str) -> Command:
    """A documented command line with the substitutes above."""
    words = shlex.split(line, comments=True)[1:]
    stdin = None
    if "<" in words:
        place = words.index("<")
        stdin = words[place + 1]
        del words[place : place + 2]
    if not words or words[0] not in ("train", "finetune") or "--help-all" in words:
        return Command(words, stdin)
    if "--budget" in words:
        place = words.index("--budget") + 1
        parse_budget(words[place].removeprefix("+"))
        words[place] = f"+{QUICK}" if words[place].startswith("+") else QUICK
    elif "--resume" not in words:
        words += ["--budget", QUICK]
    corpora = registry.names("scriven.data.corpora")
    if words[1].replace("-", "_") in corpora:
        if "--out" not in words:
            words += ["--out", f"runs/{words[1]}"]
        words[1] = "book.txt"
    return Command(words, stdin)


def quick_python(code: str) -> str:
    """A documented Python block with budgets of a few steps."""
    for _, _, budget in _BUDGET.findall(code):
        parse_budget(budget)
    return _BUDGET.sub(rf'\g<1>"\g<2>{QUICK}"', code)


def run_folder(arguments: list[str]) -> Path | None:
    """The run folder that a new `train` makes; None for anything else."""
    if arguments[:1] != ["train"] or "--resume" in arguments or "--help-all" in arguments:
        return None
    if "--out" in arguments:
        return Path(arguments[arguments.index("--out") + 1])
    name = Path(arguments[1]).stem
    if "--from" in arguments:
        name = f"{arguments[arguments.index('--from') + 1]}-{name}"
    return Path("runs") / name


def start_afresh(folder: Path) -> None:
    """Forgets what an earlier command of the page left there."""
    shutil.rmtree(folder, ignore_errors=True)
