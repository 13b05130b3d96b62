"""Pickled weights come in as tensors only, by a process that can do nothing else."""

import os
import pickle
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

from scriven.cli import run
from scriven.errors import InputError
from scriven.export import hf
from scriven.import_ import check
from scriven.import_.huggingface import import_folder
from scriven.import_.pickled import convert


class Planted:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "ask", lambda _, folder, probe: hf.answer(folder, probe))


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
        import_folder(tmp_path / "theirs", tmp_path / "ours")
    made = import_folder(tmp_path / "theirs", tmp_path / "ours", convert=True)
    assert made.comparison is not None and made.comparison.problem is None
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
        convert(path, tmp_path / "out.safetensors")


TRIALS = {
    "write a file": "open(FOLDER + '/new', 'w').close()",
    "read a file": "open('/etc/passwd').close()",
    "go online": "socket.socket().close()",
    "start a program": "subprocess.run(['true'], check=True)",
    "take memory": "torch.empty(3 << 29, dtype=torch.uint8)",
    "write without end": "[os.write(1, bytes(1 << 20)) for _ in range(20)]",
}

PROBE = """
import json, os, socket, subprocess, sys
import torch
from scriven.import_ import confined
FOLDER = sys.argv[1]
if sys.argv[2] == "confined":
    confined._warm_up()
    confined.confine(1 << 20)
done = []
for name, code in json.loads(sys.argv[3]).items():
    try:
        exec(code)
    except (OSError, RuntimeError, MemoryError):
        continue
    done.append(name)
sys.stderr.write(json.dumps(done))
"""


def managed(how: str, folder: Path) -> list[str]:
    """The trials that a process could do."""
    command = [sys.executable, "-c", PROBE, str(folder), how, json.dumps(TRIALS)]
    with (folder / "out").open("wb") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, check=True)
    return list(json.loads(done.stderr))


def test_the_process_can_do_nothing_but_its_work(tmp_path: Path) -> None:
    """Even if the loader had a hole: what gets through finds nothing to do harm with."""
    assert managed("confined", tmp_path) == []
    assert not (tmp_path / "new").exists()
    assert managed("free", tmp_path) == list(TRIALS)  # it is the confinement that forbids it
