"""`make planted`: plants each bug of planted_bugs.toml into a copy of the source, and runs the
tests that must notice it. Forks of one process that has torch imported save most of the time."""

import argparse
import os
import re
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import numpy  # noqa: F401 - imported once, for all forks
import pytest
import torch

TESTS = Path(__file__).parents[1]
SOURCE = TESTS.parent / "src" / "scriven"
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


def read_bugs() -> list[dict[str, Any]]:
    """The bugs of planted_bugs.toml, whose old text occurs once in its file."""
    bugs: list[dict[str, Any]] = tomllib.loads((TESTS / "planted_bugs.toml").read_text())["bug"]
    for bug in bugs:
        count = (SOURCE / bug["file"]).read_text(encoding="utf-8").count(bug["old"])
        assert count == 1, f"{bug['file']} has {bug['old']!r} {count} times"
    return bugs


def run_tests(copy: Path, tests: list[str], log: Path) -> str | None:
    """The first test that fails on a copy of the source, or None."""
    process = os.fork()
    if process == 0:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        # this process and those that tests start
        sys.path.insert(0, str(copy.parent))
        os.environ["PYTHONPATH"] = str(copy.parent)
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        sys.dont_write_bytecode = True
        os.chdir(TESTS.parent)
        paths = [str(TESTS / each) for each in tests]
        given = ["-x", "-n", "0", "-p", "no:cacheprovider", "--no-header", "-rfE", *paths]
        code = pytest.main(given)
        sys.stdout.flush()
        os._exit(int(code))
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code == 0:
        return None
    found = FAILED.search(log.read_text(errors="replace"))
    return found[1] if found else f"exit code {code}"


def try_bugs(bugs: list[dict[str, Any]], folder: Path, results: Path, copy: Path) -> None:
    """Plants bugs one after the other in a copy; appends a line to `results` for each."""
    folder.mkdir(exist_ok=True)
    if not copy.exists():
        shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for bug in bugs:
        path = copy / bug["file"]
        good = path.read_text(encoding="utf-8")
        try:
            path.write_text(good.replace(bug["old"], bug["new"]), encoding="utf-8")
            caught = run_tests(copy, bug["tests"], folder / "log")
        finally:
            path.write_text(good, encoding="utf-8")
        where = (caught or "NOTHING").removeprefix("tests/")
        line = f"| {bug['file']} | `{' '.join(bug['old'].split())[:60]}` | {where} |\n"
        with results.open("a") as file:
            file.write(line)
        print(line, end="", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="planted")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="bugs in files whose name contains this")
    given = parser.parse_args()
    torch.set_num_threads(1)
    bugs = [bug for bug in read_bugs() if given.only in bug["file"]]
    with tempfile.TemporaryDirectory() as name:
        results, children = Path(name, "results"), []
        for worker in range(given.workers):
            process = os.fork()
            if process == 0:
                own = [bug for bug in bugs if "in_place" not in bug][worker :: given.workers]
                place = Path(name, str(worker))
                try_bugs(own, place, results, place / "src" / "scriven")
                os._exit(0)
            children.append(process)
        for process in children:
            os.waitpid(process, 0)
        # where tests start isolated processes, only the source itself will do; alone, at the end
        try_bugs([bug for bug in bugs if "in_place" in bug], Path(name), results, SOURCE)
        lines = results.read_text().splitlines()
    missed = sum(line.endswith("| NOTHING |") for line in lines)
    print(f"\n{len(lines)} planted bugs, {len(lines) - missed} caught")
    return int(missed > 0 or len(lines) < len(bugs))


if __name__ == "__main__":
    raise SystemExit(main())
