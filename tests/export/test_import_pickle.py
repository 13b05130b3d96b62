"""Pickled weights come in as tensors only, by a process that can do nothing else."""

import os
import pickle
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the hf extra is not installed")
if sys.platform == "win32":
    pytest.skip("a process cannot be confined here", allow_module_level=True)

import json

import twins
from safetensors.torch import load_file

from scriven import importing as parity
from scriven.cli import run
from scriven.errors import InputError
from scriven.export.targets import hf
from scriven.import_ import sandbox, seccomp
from scriven.import_.sandbox import convert_pickle
from scriven.importing import import_model


class Planted:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    target = hf.Target()
    monkeypatch.setattr(parity, "run_probe", lambda _, *given: target.run_probe(*given))


def pickled(folder: Path, *names: str, old: bool = False) -> dict[str, torch.Tensor]:
    """A folder as early releases wrote it, its tensors dealt to the files named."""
    twins.save(folder, "gpt2")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: names[number % len(names)] for number, name in enumerate(tensors)}
    for file in names:
        part = {name: tensor for name, tensor in tensors.items() if places[name] == file}
        torch.save(part, folder / file, _use_new_zipfile_serialization=not old)
    if len(names) > 1:
        table = json.dumps({"weight_map": places})
        (folder / "pytorch_model.bin.index.json").write_text(table)
    return tensors


@pytest.mark.parametrize(
    ("names", "old"),
    [
        (["pytorch_model.bin"], False),
        (["pytorch_model.bin"], True),
        (["pytorch_model-1.bin", "pytorch_model-2.bin"], False),
    ],
)
def test_a_pickle_of_tensors_comes_in(names: list[str], old: bool, tmp_path: Path) -> None:
    tensors = pickled(tmp_path / "theirs", *names, old=old)
    with pytest.raises(InputError, match="--convert"):
        import_model(str(tmp_path / "theirs"), tmp_path / "ours")
    made = import_model(str(tmp_path / "theirs"), tmp_path / "ours", convert=True)
    assert made.parity is not None and made.parity.problem is None
    stored = load_file(made.folder / "model.safetensors")
    assert stored.keys() == tensors.keys()
    assert all(torch.equal(stored[name], tensors[name]) for name in tensors)
    assert sorted(os.listdir(tmp_path)) == ["ours", "theirs"]


def test_the_file_itself_may_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pickled(tmp_path / "theirs", "weights.pt")
    given = [str(tmp_path / "theirs" / "weights.pt"), "--out", str(tmp_path / "ours")]
    assert run(["import", *given]) == 2
    said = capsys.readouterr().err
    assert "is a pickle, which can run code" in said and said.count("\n") == 1
    assert run(["import", *given, "--convert"]) == 0


@pytest.mark.parametrize("form", ["zip", "old", "plain"])
def test_a_planted_command_is_refused_and_not_run(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pickled(tmp_path / "theirs", "pytorch_model.bin")
    mark, path = tmp_path / "run.txt", tmp_path / "theirs" / "pytorch_model.bin"
    planted = {"weight": torch.ones(2), "extra": Planted(mark)}
    if form == "plain":
        path.write_bytes(pickle.dumps(planted))
    else:
        torch.save(planted, path, _use_new_zipfile_serialization=form == "zip")
    out = ["--out", str(tmp_path / "ours"), "--convert"]
    assert run(["import", str(tmp_path / "theirs"), *out]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "holds code" in said or form == "plain"
    assert not mark.exists()
    assert os.listdir(tmp_path) == ["theirs"]
    pickle.loads(pickle.dumps(planted))  # the trap works where somebody walks into it
    assert mark.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"weight": torch.ones(1).expand(10**6, 10**6)}, "more memory than a file of its size"),
        ([1, 2], "no table of named tensors"),
        ({"weight": "text"}, "no table of named tensors"),
        (torch.nn.Linear(2, 2), "holds code"),
        (None, "damaged"),
    ],
)
def test_what_is_no_table_of_tensors_is_refused(content: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    torch.save(content, path)
    if content is None:
        path.write_bytes(b"not a pickle at all")
    with pytest.raises(InputError, match=words):
        convert_pickle(path, tmp_path / "out.safetensors")


HEADERS = ["/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"]
TRIALS = {
    "write a file": "open(FOLDER + '/new', 'w').close()",
    "read a file": "open('/etc/passwd').close()",
    "read one in place of the weights": "os.close(0); open('/etc/passwd').close()",
    "go online": "socket.socket().close()",
    "start a program": "subprocess.run(['true'], check=True)",
    "take memory": "torch.empty(3 << 29, dtype=torch.uint8)",
    "write without end": "[os.write(1, bytes(1 << 20)) for _ in range(20)]",
}
LANDLOCKED = {
    "delete a file": "os.unlink(FOLDER + '/old')",
    "rename a file": "os.rename(FOLDER + '/other', FOLDER + '/moved')",
    "make a folder": "os.mkdir(FOLDER + '/made')",
    "empty a file": "os.truncate(FOLDER + '/third', 0)",
}
"""What takes no file descriptor, so that only Landlock can forbid it."""
REFUSED = {
    "fork": "os.fork() or os._exit(0)",
    "change permissions": "os.chmod(FOLDER + '/old', 0o777)",
    "change times": "os.utime(FOLDER + '/old', (0, 0))",
    "signal itself": "os.kill(os.getpid(), 0)",
    "find out where it is": "os.stat(FOLDER) and os.getcwd()",
}
"""What neither a limit nor Landlock forbids to root, so that only seccomp does."""
NETWORK = {"stay in the network": "assert os.readlink('/proc/self/ns/net') == NETWORK"}

PROBE = """
import json, os, socket, subprocess, sys
import torch
from scriven.import_ import sandbox
FOLDER, NETWORK = sys.argv[1], os.readlink('/proc/self/ns/net') if os.path.exists('/proc') else ''
if sys.argv[2] != "free":
    for part in sys.argv[2].split("+"):
        if part in vars(sandbox):  # a planted bug: a part of the confinement is missing
            setattr(sandbox, part, lambda: None)
    sandbox._warm_up()
    sandbox.confine(1 << 20)
done = []
for name, code in json.loads(sys.argv[3]).items():
    try:
        exec(code)
    except (OSError, RuntimeError, MemoryError, AssertionError):
        continue
    done.append(name)
sys.stderr.write(json.dumps(done))
"""


def managed(how: str, folder: Path, trials: dict[str, str]) -> list[str]:
    """The trials that a process could do: `free`, `confined`, or without a part of it."""
    for name in ("old", "other", "third"):
        (folder / name).write_text("content")
    command = [sys.executable, "-c", PROBE, str(folder), how, json.dumps(trials)]
    with (folder / "out").open("wb") as out:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, check=True,
            env={**sandbox.CHILD_ENVIRONMENT, "PATH": os.environ["PATH"]},
        )  # fmt: skip
    return list(json.loads(done.stderr))


def test_the_process_can_do_nothing_but_its_work(tmp_path: Path) -> None:
    """Even if the loader had a hole: what gets through finds nothing to do harm with."""
    assert managed("confined", tmp_path, TRIALS) == []
    assert not (tmp_path / "new").exists()
    assert managed("free", tmp_path, TRIALS) == list(TRIALS)  # it is the confinement that forbids


@pytest.mark.skipif(sandbox.landlock_version() < 3, reason="Landlock came with Linux 5.13 to 6.2")
def test_files_can_be_neither_deleted_nor_renamed_nor_made(tmp_path: Path) -> None:
    assert managed("confined", tmp_path, LANDLOCKED) == []
    assert sorted(os.listdir(tmp_path)) == ["old", "other", "out", "third"]
    assert (tmp_path / "third").read_text() == "content"
    assert managed("deny_system_calls", tmp_path, LANDLOCKED) == []  # Landlock alone forbids it
    assert managed("deny_file_system+deny_system_calls", tmp_path, LANDLOCKED) == list(LANDLOCKED)


@pytest.mark.skipif(platform.machine() not in seccomp.NUMBERS, reason="no table for this machine")
@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is part of Linux")
def test_only_the_system_calls_of_reading_and_writing_are_left(tmp_path: Path) -> None:
    assert managed("confined", tmp_path, REFUSED | LANDLOCKED | TRIALS) == []
    assert (tmp_path / "old").stat().st_mtime > 0
    done = managed("deny_system_calls", tmp_path, REFUSED)
    assert [name for name in REFUSED if name != "fork"] == [name for name in done if name != "fork"]
    assert ("fork" in done) == (os.getuid() == 0)  # for others the limit of processes is enough


def test_the_table_of_system_calls_is_that_of_this_system() -> None:
    header = next((path for path in map(Path, HEADERS) if path.is_file()), None)
    if header is None:
        pytest.skip("the headers of the kernel are not installed")
    known = dict(re.findall(r"#define __NR_(\w+) (\d+)", header.read_text()))
    table = seccomp.NUMBERS["x86_64"][1].split()
    assert table == [known[name] for name in seccomp.NAMES]


@pytest.mark.parametrize("machine", seccomp.NUMBERS)
def test_each_table_has_a_number_for_each_name(machine: str) -> None:
    numbers = seccomp.NUMBERS[machine][1].split()
    assert len(numbers) == len(set(numbers)) == len(seccomp.NAMES)


def has_namespaces() -> bool:
    """Whether this system lets a user leave the network."""
    code = (
        "import ctypes, sys; sys.exit(sys.platform != 'linux' or "
        f"ctypes.CDLL(None).unshare({sandbox.CLONE_NEWUSER | sandbox.CLONE_NEWNET}))"
    )
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_process_leaves_the_network(tmp_path: Path) -> None:
    if not has_namespaces():
        pytest.skip("this system has no namespaces for users")
    assert managed("deny_system_calls", tmp_path, NETWORK) == []
    without = "leave_network+deny_system_calls"
    assert managed(without, tmp_path, NETWORK) == list(NETWORK)


@pytest.mark.skipif(sandbox.landlock_version() < 6, reason="signals are denied from Linux 6.12 on")
def test_other_processes_cannot_be_signalled(tmp_path: Path) -> None:
    trial = {"signal": "os.kill(os.getppid(), 0)"}
    assert managed("deny_system_calls", tmp_path, trial) == []  # seccomp would forbid it too
    assert managed("free", tmp_path, trial) == ["signal"]
