"""What one operating system has and another lacks: every command works without it."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from scriven.data.shards import TokenFile
from scriven.data.sources import run_name
from scriven.errors import InputError
from scriven.files import write_file
from scriven.format import portable_name, reserved_on_windows
from scriven.runs.folder import create_run_dir

from .runs import train

WITHOUT = """
import os, signal, sys
for name in (
    "pread", "preadv", "fork", "forkpty", "O_DIRECTORY", "O_NOFOLLOW", "sched_getaffinity",
    "sysconf", "getuid", "geteuid", "mkfifo", "getloadavg",
):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGUSR1"):
    if hasattr(signal, name):
        delattr(signal, name)
for name in ("fcntl", "resource", "readline", "termios", "pwd", "grp", "pty", "tty"):
    sys.modules[name] = None
from scriven.cli import run
for line in sys.stdin.read().splitlines():
    if run(line.split()):
        sys.exit(f"failed: {line}")
"""

LINES = """train a.txt --out run --budget 6steps --model.layers=1 --model.d_model=32 --quiet
train --resume run
generate run It --max-new-tokens 4
evaluate run
report run
inspect run
prepare a.txt --out data --processes 2 --quiet
train data --out two --budget 2steps --model.layers=1 --model.d_model=32 --quiet
finetune run rows.csv --out labels --budget 3steps --quiet
predict labels rows.csv -o out.csv
compare run labels
doctor
"""

LESS_CONFINED = """
import resource, sys
for name in [name for name in dir(resource) if name.startswith("RLIMIT_")]:
    delattr(resource, name)
from scriven.import_ import sandbox
sandbox.landlock_version = lambda: 0
sandbox.leave_network = lambda: None
sandbox.confine(100)
sys.stdout.write("confined")
"""


@pytest.mark.slow
def test_every_command_works_without_what_only_some_systems_have(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("It was a dark and stormy night.\n" * 300)
    rows = (f"{('good', 'bad')[n % 2]} day {n},{('yes', 'no')[n % 2]}\n" for n in range(60))
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(rows))
    environment = {**os.environ, "SCRIVEN_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT],
        input=LINES, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=280,
        errors="replace", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 61


def test_a_system_without_limits_or_landlock_still_confines_the_reader_of_pickles() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LESS_CONFINED],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "confined"), done.stderr[-500:]


def test_token_files_are_read_by_several_threads_where_there_is_no_pread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pread", raising=False)
    ids = np.arange(50_000, dtype="<u2")
    ids.tofile(tmp_path / "tokens")
    shard = TokenFile(tmp_path / "tokens", "<u2", len(ids), 1 << 16)
    wrong: list[int] = []

    def read(seed: int) -> None:
        starts = np.random.default_rng(seed).integers(0, 49_000, 200)
        windows = shard.read_windows(starts, 1000)
        wrong.extend(starts[(windows != starts[:, None] + np.arange(1000)).any(axis=1)].tolist())

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("con.txt", "text-con"), ("NUL", "text-NUL"), ("aux.tar.txt", "text-aux.tar"),
        ("com1.md", "text-com1"), ("a: b?.txt", "a-b"), ("end. .txt", "end"),
        ("console.txt", "console"), ("\x1b[31m.txt", "31m"), ("?.txt", "text"),
    ],
)  # fmt: skip
def test_a_run_is_called_after_its_text_as_every_system_can_write_it(
    source: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / source).write_text("a text")
    assert run_name([str(tmp_path / source)]) == name
    assert reserved_on_windows(name) is None


@pytest.mark.parametrize("text", ["字" * 300, "𠀀" * 300, "é" * 255, "x" * 4000])
def test_a_name_of_a_run_leaves_room_in_the_255_bytes_of_a_file_system(text: str) -> None:
    name = portable_name(text, "text")
    assert 60 <= len(f"{name}-and-99-more".encode()) <= 220
    assert text.startswith(name)


@pytest.mark.parametrize("name", ["CON", "nul.txt", "Lpt9", "com¹", "a:b", "what?", "end.", "end "])
def test_a_name_that_windows_changes_is_refused_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / name
    monkeypatch.setattr("scriven.format.ON_WINDOWS", True)
    for write in (create_run_dir, lambda path: write_file(path, b"predictions")):
        with pytest.raises(InputError, match=r"cannot be the name of a file or folder .*another"):
            write(out)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert create_run_dir(out) == out


def test_no_two_files_of_a_run_differ_only_by_case(text: Path, tmp_path: Path) -> None:
    folder = train(text, tmp_path / "Run", "4steps", train__save_interval=2).folder
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    assert len({path.casefold() for path in paths}) == len(paths) > 10
    assert [path for path in paths if any(map(reserved_on_windows, path.split("/")))] == []
