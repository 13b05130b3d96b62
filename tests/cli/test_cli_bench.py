"""`scriven bench` and `scriven compare`, on real runs of a few steps."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scriven.cli import run
from scriven.runs.metadata import read_metadata

TINY = [
    "--model.layers=1",
    "--model.heads=2",
    "--model.d_model=16",
    "--model.context_length=16",
    "--train.batch_size=4",
    "--train.sample_seconds=0",
    "--runtime.threads=1",
    "--runtime.dtype=float32",
]
TEXT = "It was a dark and stormy night; the rain fell, and nobody came to see what it did.\n"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a text, where we are."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "book.txt").write_text(TEXT * 40, encoding="utf-8")
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


def line(*more: str, arch: str = "gpt2,llama") -> list[str]:
    return ["bench", "book.txt", "--arch", arch, "--budget", "5steps", "--quiet", *TINY, *more]


@pytest.fixture(scope="module")
def done(desk: Path) -> Path:
    """A finished bench of two architectures and two seeds."""
    assert run(line("--seeds", "2")) == 0
    return desk / "runs" / "bench-book"


def test_each_architecture_is_trained_with_each_seed(done: Path) -> None:
    folders = ["gpt2-0", "gpt2-1", "llama-0", "llama-1"]
    assert sorted(path.name for path in done.iterdir() if path.is_dir()) == folders
    records = {name: read_metadata(done / name) for name in folders}
    for name, record in records.items():
        assert (record["architecture"], str(record["settings"]["seed"])) == tuple(name.split("-"))
        assert record["results"]["steps"] == 5
        assert (done / name / "report.html").is_file()
    made = sorted(folders, key=lambda name: float(records[name]["created"]))
    assert made == ["gpt2-0", "llama-0", "gpt2-1", "llama-1"], "A B A B"


def test_the_table_is_written_beside_the_runs_with_error_bars(done: Path) -> None:
    written = json.loads((done / "results.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in written["runs"]] == ["gpt2", "llama"]
    for row in written["runs"]:
        losses = [read_metadata(Path(path))["results"]["val_loss"] for path in row["runs"]]
        assert row["val_loss"] == pytest.approx(sum(losses) / 2)
        assert row["spread"]["val_loss"] == pytest.approx(abs(losses[0] - losses[1]) / 2)
    page = (done / "results.md").read_text(encoding="utf-8")
    assert "5steps each with 2 seeds" in page
    assert " ± " in page


def test_a_finished_run_is_not_repeated(
    done: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", never)
    before = json.loads((done / "results.json").read_text(encoding="utf-8"))
    assert run(line("--seeds", "2", "--json")) == 0
    after = json.loads(capsys.readouterr().out)
    assert after["runs"] == before["runs"]


def test_other_settings_on_finished_runs_are_refused(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*line("--seeds", "2"), "--budget=6steps"]) == 2
    assert "--budget" in capsys.readouterr().err
    assert run(line("--seeds", "2", "--optim.lr", "0.5")) == 2
    assert "--optim.lr" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--arch", "gpt2,lama"], "did you mean llama?"),
        (["--arch", "gpt2,gpt2.py"], "twice"),
        (["--arch", "gpt2,llama", "--model.kv_heads", "1"], "--model.kv_heads"),
        (["--budget", "soon"], "--budget"),
        (["--seeds", "0"], "--seeds"),
        (["--size", "huge"], "--size"),
        (["--optim.grad_clip=-1"], "--optim.grad_clip"),
        (["--out", "runs/bench-book/gpt2-0"], "--out"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_trained(
    more: list[str],
    word: str,
    done: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", never)
    out = [] if "--out" in more else ["--out", "runs/new"]
    assert run(["bench", "book.txt", "--quiet", *out, *more]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert word in said
    assert not Path("runs/new").exists()


@pytest.mark.parametrize("source", ["-", "nothing.txt"])
def test_a_text_that_cannot_be_read_again_is_refused(
    source: str, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", source, "--arch", "gpt2", "--budget", "5steps"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_run_that_fails_ends_the_bench_with_its_own_words(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--out", "runs/failing", "--seeds", "1", "--model.context_length=1000000"]
    assert run([*line(*more, arch="llama")]) in (2, 3)
    said = capsys.readouterr().err
    assert said.startswith("scriven: llama with seed 0 ended with exit code")
    assert "--model.context_length" in said


def test_an_interrupted_bench_saves_its_run_and_goes_on(desk: Path) -> None:
    words = ["bench", "book.txt", "--arch", "gpt2", "--seeds", "1", "--quiet", *TINY]
    words += [
        "--out",
        "runs/stopped",
        "--budget",
        "100000steps",
        "--train.eval_interval=2",
        "--train.patience=0",
    ]
    command = [sys.executable, "-m", "scriven", *words]
    process = subprocess.Popen(  # a job in the background is born deaf to SIGINT, and stays so
        command,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    log = Path("runs/stopped/gpt2-0/metrics.jsonl")
    until = time.monotonic() + 120
    while not (log.exists() and '"evaluation"' in log.read_text(encoding="utf-8")):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    assert said == (
        "scriven: interrupted; the finished runs are kept; resume with the same command\n"
    )
    record = read_metadata(Path("runs/stopped/gpt2-0"))
    assert record["results"] is None
    assert any(Path("runs/stopped/gpt2-0/checkpoints").iterdir())


def test_compare_prints_a_table_markdown_and_json(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", "bench-book", "--fold-seeds"]) == 0
    assert "val loss" in capsys.readouterr().out
    assert run(["compare", "bench-book/gpt2-*", "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("| run |")
    assert run(["compare", "runs/bench-book/gpt2-0", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 1
    assert run(["compare"]) == 2
    assert "name some" in capsys.readouterr().err
