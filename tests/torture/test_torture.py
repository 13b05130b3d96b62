"""A part of the torture, and planted bugs that it must notice."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scriven import files
from scriven.errors import ScrivenError
from scriven.runs import weights

from .kills import KILLS, Torture, read_log
from .mutations import Targets, try_mutants
from .scenarios import SCENARIOS, make_place

if not hasattr(os, "fork"):
    pytest.skip("this system has no fork", allow_module_level=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder, and the user's own cache afterwards."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SCRIVEN_CACHE", "")
    yield tmp_path_factory.mktemp("torture")
    patch.undo()


@pytest.fixture(scope="module")
def place(folder: Path) -> Path:
    return make_place(folder / "place")


def test_a_thousand_mutated_files_are_read_or_refused(place: Path, tmp_path: Path) -> None:
    found, wrong = try_mutants(Targets(place, tmp_path), 1000, seed=0)
    assert wrong == []
    assert found.total() == 1000


def test_a_loader_that_crashes_is_noticed(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = Targets(place, tmp_path)
    targets.all = targets.all[:1]

    def crash() -> None:
        if weights.load_tensors(targets.all[0][1], require_digest=False) is None:
            raise AssertionError

    def careless() -> None:
        try:
            crash()
        except ScrivenError as error:
            raise ValueError("a traceback") from error

    targets.all = [(*targets.all[0][:3], careless)]
    assert try_mutants(targets, 20, seed=0)[1]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is that of the process")
def test_a_loader_that_takes_memory_is_noticed(place: Path, tmp_path: Path) -> None:
    targets = Targets(place, tmp_path)
    name, path, kind, _ = targets.all[3]
    good = path.read_bytes()
    targets.all = [
        (
            name,
            path,
            kind,
            lambda: path.read_bytes() == good or bytearray(b"x" * (40 << 20)).count(1),
        )
    ]
    assert any("bytes for" in each for each in try_mutants(targets, 3, seed=0)[1])
    targets.all = [(name, path, kind, lambda: bytearray(b"x" * (40 << 20)).count(1))]
    assert try_mutants(targets, 3, seed=0)[1] == []


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_three_hundred_kills_change_nothing(tmp_path: Path) -> None:
    # a process of its own, since this one has several threads
    command = [sys.executable, "-m", "torture", "--kills", "300", "--mutants", "0"]
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [*command, "--workers", "2", "--out", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(tests), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    chains = list(read_log(tmp_path / "kills-0.jsonl"))
    killed = sum(status == -signal.SIGKILL for each in chains for *_, status in each["hits"])
    assert killed >= 250
    assert len(chains) == 300 // KILLS


@pytest.mark.slow
def test_a_save_in_place_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Torture(tmp_path, ["save", "predict"])
    real = files._write

    def write_stream(path: Path, parts: object) -> None:
        path.unlink(missing_ok=True)
        real(path, parts)  # type: ignore[arg-type]

    monkeypatch.setattr("scriven.generate.predict.write_stream", write_stream)
    problems = [made.chain(number, seed=3)["problem"] for number in range(1, 40, 2)]
    assert any(problem and "half an answer" in problem for problem in problems)
    assert "save" in SCENARIOS
