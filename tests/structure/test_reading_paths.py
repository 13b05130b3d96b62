"""The reading paths of ARCHITECTURE.md are true: traces of the commands follow them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "scriven"

TRACE = """
import json, os, sys
import scriven.cli
root, out = os.path.dirname(scriven.__file__) + os.sep, sys.argv[1]
entered = []

def profile(frame, event, argument):
    code = frame.f_code
    # functions alone, without the bodies of modules and classes
    if event == "call" and code.co_filename.startswith(root) and code.co_flags & 1:
        entered.append(f"{code.co_filename[len(root):]}:{code.co_qualname}")

sys.setprofile(profile)
try:
    scriven.cli.main(sys.argv[2:])
except SystemExit as end:
    assert not end.code, end.code
sys.setprofile(None)
json.dump(entered, open(out, "w"))
"""
"""Writes every function of the package that a command enters, in order, one for each call."""

SMALL = ["--model.layers=1", "--model.heads=2", "--model.d_model=32", "--budget=2steps", "--quiet"]


def paths() -> dict[str, list[str]]:
    """Title of each path of the page -> `file.py:function`, in order."""
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    for title, steps in re.findall(r"^\*\*(From .*?)\*\*.*\n\n((?:\d+\. .*\n)+)", page, re.M):
        found[title] = [f"{a}:{b}" for a, b in re.findall(r"^\d+\. `(.+?)`: `(.+?)`", steps, re.M)]
    return found


def entered(folder: Path, *arguments: str) -> list[str]:
    out = folder / "trace.json"
    command = [sys.executable, "-c", TRACE, str(out), *arguments]
    plain = {**os.environ, "SCRIVEN_NATIVE": "off"}  # the path through PyTorch
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=plain)
    assert done.returncode == 0, done.stderr
    return list(json.loads(out.read_text()))


def missing(path: list[str], calls: list[str]) -> list[str]:
    """The steps that do not follow, in the order of the calls, from the ones before."""
    rest, lost = iter(calls), []
    for step in path:
        if step not in calls or not any(call == step for call in rest):
            lost.append(step)
    return lost


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    folder = tmp_path_factory.mktemp("traces")
    (folder / "book.txt").write_text("To be, or not to be, that is the question.\n" * 300)
    training = entered(folder, "train", "book.txt", "--optim.lr=1e-3", *SMALL)
    return {
        "From a text to the first loss": training,
        "From a learning rate to the weights": training,
        "From a prompt to text": entered(folder, "generate", "book", "To", "--max-new-tokens=5"),
    }


def test_the_page_has_three_paths() -> None:
    assert set(paths()) == {
        "From a text to the first loss",
        "From a prompt to text",
        "From a learning rate to the weights",
    }
    assert all(len(path) >= 6 for path in paths().values())


def test_each_path_is_entered_in_its_order(traces: dict[str, list[str]]) -> None:
    assert {title: missing(path, traces[title]) for title, path in paths().items()} == {
        title: [] for title in traces
    }


def size(calls: list[str]) -> tuple[int, int]:
    """(files, functions) that calls enter, without lambdas and comprehensions."""
    named = {call for call in calls if not re.search(r"[.:]<(?!locals)", call)}
    return len({call.partition(":")[0] for call in named}), len(named)


def test_few_files_and_functions_are_entered(traces: dict[str, list[str]]) -> None:
    """What a run does not need must not be on the way to its first loss, or to its text."""
    training, text = traces["From a text to the first loss"], traces["From a prompt to text"]
    files, functions = size(training[: training.index("tasks/base.py:BaseTask.forward")])
    assert files <= 64 and functions <= 290
    files, functions = size(text)
    assert files <= 46 and functions <= 210


def test_a_learning_rate_passes_few_files() -> None:
    path = paths()["From a learning rate to the weights"]
    assert len({step.partition(":")[0] for step in path}) <= 7


def test_a_step_at_the_wrong_place_is_noticed(traces: dict[str, list[str]]) -> None:
    title = "From a text to the first loss"
    path = paths()[title]
    assert missing([*path[1:], path[0]], traces[title]) == [path[0]]
    assert missing([*path, "nn/block.py:Block.no_such"], traces[title])
