"""Where a run is written: odd names, no permission, full disks, two at once, memory, compilers."""

import contextlib
import errno
import io
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scriven.runs import checkpoint
from scriven.runs.folder import find_run
from scriven.train import build_model
from scriven.train.trackers.jsonl import read_events
from scriven.train.train_state import TrainState

from .runs import Child, after_each_step, arguments, command, events, refused, spawn, train

NAMES = ["with spaces", "new\nline", "ünïcode 🎉", "n" * 255, "-dash", "--out", "$(touch x)", "a;b",
         "quote'\"", "trailing.", "100%", "#", "~", "\udcff"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_odd_folder_names_work_or_are_refused(
    text: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = command(*arguments(text, Path(name), "--json", budget="2steps"))
    if code == 0:
        assert json.loads(out)["steps"] == 2
        assert (tmp_path / name / "report.html").exists()
        assert command(*arguments(text, Path(name), "--json", budget="2steps"))[1] == out
        made, written, said = command("generate", f"./{name}", "--max-new-tokens=3", "--json")
        assert made == 0, said
        assert json.loads(written)["tokens"] == 3
        assert sorted(os.listdir(tmp_path)) == sorted([name, "book.txt"])
    else:
        assert code == 2
        assert err.count("\n") == 1
        assert os.listdir(tmp_path) == ["book.txt"]


@pytest.mark.parametrize(
    "name", ["two words.txt", "new\nline.txt", "ü 🎉.txt", "-b.txt", "\udcff.txt"]
)
def test_odd_text_names_work_and_the_recorded_command_is_one_line_of_shell(
    text: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text.rename(tmp_path / name)
    code, out, err = command(*arguments(Path(f"./{name}"), Path("run"), "--json", budget="2steps"))
    if code == 0:
        assert json.loads(out)["steps"] == 2
        assert command("evaluate", "./run", "--json")[0] == 0
    else:
        assert (code, err.count("\n")) == (2, 1), err


def test_a_file_in_the_way_is_refused(text: Path, tmp_path: Path) -> None:
    for out in (text, text / "below"):
        refused(*arguments(text, out, "--json"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep me")
    assert "not empty" in refused(*arguments(text, tmp_path / "full", "--json"))
    assert os.listdir(tmp_path / "full") == ["mine.txt"]


def test_a_folder_without_permission_is_refused_before_the_first_step(tmp_path: Path) -> None:
    if os.getuid() == 0:
        out = Path("/proc/scriven")  # nobody may write here, root included
    else:
        (tmp_path / "closed").mkdir(mode=0o500)
        out = tmp_path / "closed" / "run"
    text = tmp_path / "t.txt"
    text.write_text("some words to read " * 100)
    assert "cannot be written" in refused(*arguments(text, out, "--json"))


def test_links_are_followed_once_and_loops_refused(text: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert train(text, tmp_path / "link", "2steps").results["steps"] == 2
    assert (tmp_path / "real" / "scriven.json").exists()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    for name in ("loop", "nowhere"):
        refused(*arguments(text, tmp_path / name, "--json"))


def test_order_goes_by_step_and_record_not_by_the_clock(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clock = iter(range(2_000_000_000, 0, -100_000))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    for name in ("first", "second"):
        run = train(text, Path("runs") / name, "20steps", train__save_interval=5)
        assert 0 < run.results["seconds"] < 100
    assert find_run("latest").name == "second"
    for path in (tmp_path / "runs" / "second").rglob("*"):
        os.utime(path, (0, 0) if "step-20" in str(path) else (4e9, 4e9))
    found = checkpoint.load_newest(Path("runs/second"))
    assert found is not None
    assert found.step == 20


def test_a_second_run_in_the_same_folder_is_refused_and_a_dead_one_replaced(
    text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with after_each_step(lambda *_: time.sleep(0.01)):
        child = Child(lambda: train(text, out, "100000steps"))
    try:
        end = time.monotonic() + 30
        while not (out / "scriven.json").exists() and time.monotonic() < end:
            time.sleep(0.02)
        began = time.monotonic()
        said = refused(*arguments(text, out, "--quiet", "--json", budget="100000steps"))
        assert time.monotonic() - began < 5
        assert f"process {child.process}" in said
    finally:
        child.kill(signal.SIGKILL)
        child.wait()
    assert command(*arguments(text, out, budget="5steps"))[0] == 0


def test_a_full_disk_costs_the_log_and_not_the_run(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Any] = Path.open

    def full(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if path.name == "metrics.jsonl" and "a" in mode:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, mode, *rest, **named)

    monkeypatch.setattr(Path, "open", full)
    code, out, err = command(*arguments(text, tmp_path / "run", "--json"))
    assert code == 0, err
    assert json.loads(out)["steps"] == 40
    assert err.count("metrics.jsonl cannot be written") == 1


def test_an_error_that_passes_costs_no_line_of_the_log(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(text, tmp_path / "straight", "20steps", train__eval_interval=5)
    real, appended = io.open, list[Path]()

    class Half(io.TextIOWrapper):
        def write(self, data: str) -> int:
            super().write(data[: len(data) // 2])
            self.flush()
            raise OSError(errno.EIO, "Input/output error")

    def broken(path: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if str(path).endswith("metrics.jsonl") and "a" in mode:
            appended.append(path)
            if len(appended) in (2, 3):
                return Half(real(path, "ab"), encoding="utf-8")
        return real(path, mode, *rest, **named)

    monkeypatch.setattr(io, "open", broken)
    other = train(text, tmp_path / "disturbed", "20steps", train__eval_interval=5)
    monkeypatch.undo()
    lines = (other.folder / "metrics.jsonl").read_text().splitlines()
    assert all(map(json.loads, lines))
    for kind in ("evaluation", "sample"):
        assert len(events(other.folder, kind)) == len(events(run.folder, kind)) > 0
    assert len(appended) > 4


def test_a_save_on_a_full_disk_is_tried_again(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpoint.save
    from scriven.errors import ResourceError

    def full(folder: Path, step: int, *rest: Any) -> Path:
        if 5 <= step <= 25:
            raise ResourceError("disk full: needs 1 MB, has 0")
        return real(folder, step, *rest)

    monkeypatch.setattr(checkpoint, "save", full)
    settings = {"train__save_interval": 5, "train__eval_interval": 20}
    run = train(text, tmp_path / "run", **settings)
    assert run.results["steps"] == 40
    assert 40 in checkpoint.steps(run.folder)
    monkeypatch.setattr(checkpoint, "save", lambda *_: (_ for _ in ()).throw(ResourceError("full")))
    code, _, err = command(*arguments(text, tmp_path / "none"))
    assert code == 3
    assert "full" in err


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
     RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")],
    ids=["python", "gpu", "processor"],
)  # fmt: skip
def test_out_of_memory_is_one_line_and_the_checkpoint_is_whole(
    text: Path, tmp_path: Path, error: BaseException
) -> None:
    def fail(trainer: object, state: TrainState) -> None:
        if state.step == 20:
            raise error

    with after_each_step(fail):
        said = refused(
            *arguments(text, tmp_path / "run", "--quiet", "--json", "--train.save_interval=5"),
            code=3,
        )
    for name in ("--train.micro_batch_size", "--model.context_length", "--size"):
        assert name in said
    assert max(checkpoint.steps(tmp_path / "run")) == 15
    assert command(*arguments(text, tmp_path / "run", "--train.micro_batch_size=1"))[0] == 0


def test_a_compiler_that_fails_is_said_once_and_done_without(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled(*_: object, **__: object) -> Callable[..., None]:
        def fail(batch: object) -> None:
            raise RuntimeError("no C++ compiler was found\nand much more")

        return fail

    monkeypatch.setattr(torch, "compile", compiled)
    code, _, err = command(*arguments(text, tmp_path / "run", "--runtime.compile"))
    assert code == 0, err
    assert err.count("torch.compile failed") == 1
    assert "and much more" not in err


def test_half_precision_on_the_processor_is_refused(text: Path, tmp_path: Path) -> None:
    said = refused(*arguments(text, tmp_path / "run", "--runtime.dtype=float16", "--json"))
    assert "bfloat16 or float32" in said


def test_a_failure_beyond_us_leaves_a_run_that_the_same_command_begins(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = build_model.build_task
    monkeypatch.setattr(build_model, "build_task", lambda *_: (_ for _ in ()).throw(MemoryError()))
    refused(*arguments(text, tmp_path / "run", "--quiet"), code=3)
    monkeypatch.setattr(build_model, "build_task", real)
    assert command(*arguments(text, tmp_path / "run", "--quiet"))[0] == 0


def test_a_deleted_log_is_no_reason_to_stop(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    deleted = 0

    def delete(*_: object) -> None:
        nonlocal deleted
        with contextlib.suppress(FileNotFoundError):
            (out / "metrics.jsonl").unlink()
            deleted += 1

    with after_each_step(delete):
        assert train(text, out, train__log_seconds=0).results["steps"] == 40
    assert deleted > 10
    assert read_events(out / "metrics.jsonl")
    assert events(out, "evaluation")


def test_one_line_on_a_real_process(text: Path, tmp_path: Path) -> None:
    """Nothing that only shows outside of this process: imports, warnings, exit codes."""
    process = spawn(*arguments(text, tmp_path / "run", "--model.heads=3", "--json"))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.count("\n")) == (2, "", 1), err
