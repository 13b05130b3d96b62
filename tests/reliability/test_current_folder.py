"""No process of ours imports a file of the current folder, whatever its name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .runs import SHAPE, arguments, command, events, train, write_text

NAMES = ["json.py", "random.py", "pickle.py", "socket.py", "numpy/__init__.py", "torch/__init__.py"]
"""Modules that Python, multiprocessing or our own files import when they start."""


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which every such file writes its name down when it is run."""
    folder = tmp_path / "here"
    for name in NAMES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"open({str(tmp_path / 'run')!r}, 'a').write({name!r} + ' ')\n")
    monkeypatch.chdir(folder)
    return tmp_path / "run"


def test_the_trap_works_where_somebody_walks_into_it(trap: Path) -> None:
    subprocess.run([sys.executable, "-c", "import json, numpy"], check=True)
    assert trap.read_text() == "json.py numpy/__init__.py "


def test_processes_that_prepare(trap: Path) -> None:
    for name in ("a", "b"):
        lines = [json.dumps({"text": f"{n} it was a dark and stormy night"}) for n in range(50)]
        Path(f"{name}.jsonl").write_text("\n".join(lines))
    given = ["a.jsonl", "b.jsonl", "--out=made", "--processes=2", "--tokenizer.kind=byte"]
    code, _, err = command("prepare", *given)
    assert code == 0, err
    assert not trap.exists()


def test_processes_of_bench(trap: Path) -> None:
    text = write_text(Path.cwd())
    shape = [f"--{name}={value}" for name, value in SHAPE.items()]
    given = ["--arch=llama", "--budget=2steps", "--seeds=1", "--quiet", *shape]
    code, _, err = command("bench", str(text), *given)
    assert code == 0, err
    assert not trap.exists()


def test_python_m_scriven(trap: Path, tmp_path: Path) -> None:
    text = write_text(Path.cwd())
    train(text, tmp_path / "run-folder", "2steps")
    for line in (
        arguments(text, tmp_path / "other", budget="2steps"),
        ["evaluate", str(tmp_path / "run-folder"), str(text)],
    ):
        subprocess.run([sys.executable, "-m", "scriven", *line], check=True, capture_output=True)
    assert not trap.exists()


@pytest.mark.slow
def test_processes_that_train_together(trap: Path, tmp_path: Path) -> None:
    text = write_text(Path.cwd())
    start = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "scriven"]
    subprocess.run(
        [sys.executable, "-P", "-m", *start, *arguments(text, tmp_path / "out", budget="2steps")],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert events(tmp_path / "out", "evaluation")
    assert not trap.exists()
