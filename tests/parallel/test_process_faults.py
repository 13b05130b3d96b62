"""What several processes withstand: a signal to one, one that dies, one that hangs, a restart."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import scriven
from scriven.errors import SettingError
from scriven.runs import checkpoint

from .conftest import environment, torchrun

SHAPE = [
    "--model.layers=1",
    "--model.heads=2",
    "--model.d_model=16",
    "--model.context_length=16",
    "--tokenizer.kind=char",
    "--train.batch_size=4",
    "--train.sample_seconds=0",
    "--train.log_seconds=1",
    "--train.save_interval=20",
    "--runtime.dtype=float32",
]


class Run:
    """A training on two processes that would never end by itself."""

    def __init__(self, words: Path, out: Path, *more: str, patience: int = 8) -> None:
        self.out, self.said = out, out.with_suffix(".log")  # a pipe that nobody reads would fill
        train = ["-m", "scriven", "train", str(words), f"--out={out}", "--budget=1000000steps"]
        self.process = subprocess.Popen(
            torchrun(2, *more, *train, *SHAPE, f"--runtime.distributed_timeout={patience}"),
            stderr=self.said.open("w"), stdout=subprocess.DEVNULL, text=True, env=environment(),
            start_new_session=True,
        )  # fmt: skip

    def wait_for(self, step: int) -> None:
        """Until there is a checkpoint of this step or a later one."""
        for _ in range(1200):
            if any(found >= step for found in checkpoint.steps(self.out)):
                return
            assert self.process.poll() is None, self.said.read_text()[:3000]
            time.sleep(0.1)
        raise AssertionError("the run does not get on")

    def workers(self) -> list[int]:
        """The process ids by rank."""
        found: dict[int, int] = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"--out={self.out}".encode() not in (path / "cmdline").read_bytes():
                    continue
                values = (path / "environ").read_bytes().split(b"\0")
                for value in values:
                    if value.startswith(b"RANK="):
                        found[int(value[5:])] = int(path.name)
        return [found[rank] for rank in sorted(found)]

    def kill(self) -> None:
        """All of it; torchrun's workers outlive it."""
        workers = self.workers()
        for process in (self.process.pid, *workers):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()

    def end(self, seconds: float = 60) -> tuple[int, str]:
        code = self.process.wait(timeout=seconds)
        return code, self.said.read_text()


@pytest.fixture
def run(words: Path, tmp_path: Path) -> Iterator[Run]:
    made = Run(words, tmp_path / "run")
    yield made
    made.kill()


def whole(run: Run) -> int:
    """The step of the newest checkpoint, which must be whole."""
    found = checkpoint.load_newest(run.out)
    assert found is not None
    assert not found.warnings
    return found.step


def test_nothing_listens_to_others_and_a_signal_stops_all_at_the_same_step(run: Run) -> None:
    run.wait_for(20)
    for worker in run.workers():
        assert listening(worker) <= {"127.0.0.1", "::1"}
    os.kill(run.workers()[1], signal.SIGTERM)
    code, said = run.end()
    assert code != 0
    assert f"saved at step {whole(run)}; go on with" in said
    assert 'Traceback (most recent call last):\n  File "/' not in said.split("saved at step")[0]


def test_one_that_dies_ends_the_others_without_a_half_save(run: Run) -> None:
    run.wait_for(20)
    os.kill(run.workers()[1], signal.SIGKILL)
    code, _ = run.end()
    assert code != 0
    assert whole(run) % 20 == 0


def test_one_that_hangs_ends_the_others_within_the_timeout(run: Run) -> None:
    run.wait_for(20)
    stuck = run.workers()[1]
    os.kill(stuck, signal.SIGSTOP)
    began = time.monotonic()
    while run.workers()[0:1] and Path(f"/proc/{run.workers()[0]}").exists():
        assert time.monotonic() - began < 40
        time.sleep(0.2)
        if len(run.workers()) < 2:
            break
    os.kill(stuck, signal.SIGCONT)
    code, said = run.end()
    assert code != 0
    assert "is gone or hangs" in said
    assert whole(run) % 20 == 0


def test_a_restart_of_torchrun_goes_on_by_itself(words: Path, tmp_path: Path) -> None:
    run = Run(words, tmp_path / "run", "--max-restarts=1", patience=60)
    try:
        run.wait_for(20)
        os.kill(run.workers()[1], signal.SIGKILL)
        before = whole(run)
        run.wait_for(before + 40)
        os.killpg(run.process.pid, signal.SIGTERM)
        run.end()
        lines = (run.out / "metrics.jsonl").read_text().splitlines()
        notes = [event for event in map(json.loads, lines) if event["event"] == "note"]
        assert notes[0]["text"] == "resumed"
        assert notes[0]["step"] >= before
    finally:
        run.kill()


def listening(process: int) -> set[str]:
    """The addresses at which a process waits for connections."""
    sockets = set()
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):
            sockets.add(os.readlink(descriptor))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(_address(fields[1].partition(":")[0]))
    return found


def _address(text: str) -> str:
    raw = bytes.fromhex(text)
    words = [raw[start : start + 4][::-1] for start in range(0, len(raw), 4)]
    packed = b"".join(words)
    if len(packed) == 4:
        return ".".join(map(str, packed))
    if packed[:12] == bytes(10) + b"\xff\xff":
        return ".".join(map(str, packed[12:]))
    return "::1" if packed == bytes(15) + b"\x01" else packed.hex()


REFUSED = """
import sys
from scriven.cli import run
for more in (["-"], [sys.argv[1], "--train.batch_size=3"]):
    try:
        code = run(["train", *more, f"--out={sys.argv[2]}", "--tokenizer.kind=char"])
    except SystemExit as end:  # a process that only follows
        code = end.code
    assert code == 2
"""


def test_what_several_processes_cannot_do_is_refused_before_anything_is_written(
    words: Path, tmp_path: Path
) -> None:
    script, out = tmp_path / "refused.py", tmp_path / "run"
    script.write_text(REFUSED)
    done = subprocess.run(
        torchrun(2, str(script), str(words), str(out)),
        capture_output=True, text=True, timeout=280, env=environment(), check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "reaches one process only" in done.stderr
    assert "is not divisible by 2 processes: use 4" in done.stderr
    assert not (out / "scriven.json").exists()


def test_a_fine_tuning_is_the_work_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingError, match="one process"):
        scriven.finetune(tmp_path / "run", tmp_path / "table.csv", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_patience_of_nothing_is_refused(words: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"runtime\.distributed_timeout.*0\.1 to"):
        scriven.train(words, out=tmp_path / "run", settings={"runtime.distributed_timeout": 0})
    assert not (tmp_path / "run").exists()
