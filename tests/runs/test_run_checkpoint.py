"""Checkpoints: damage is always noticed and named, and the right ones are kept."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scriven import manifest
from scriven.errors import DamagedError, InputError
from scriven.files import buffers
from scriven.manifest import NewerFormatError, parse_signed_json, signed_json
from scriven.runs import checkpoint
from scriven.runs.weights import encode

from .faults import save, tensors, value_of
from .make_golden import FOLDER, STATE, golden_tensors

FILES = [
    "model.safetensors",
    "optimizer.safetensors",
    "random.safetensors",
    "state.json",
    "manifest.json",
]


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A run with checkpoints of step 10 and 20."""
    save(tmp_path, 10)
    save(tmp_path, 20)
    return tmp_path


def _newest(folder: Path) -> Path:
    return folder / checkpoint.FOLDER / "step-20"


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, golden_tensors(), STATE)
    assert path == tmp_path / "checkpoints" / "step-7"
    assert sorted(os.listdir(path)) == sorted(FILES)
    found = checkpoint.load_newest(tmp_path)
    assert found is not None
    step, loaded, state, warnings = found
    assert (step, state, warnings) == (7, STATE, [])
    for group, named in golden_tensors().items():
        for name, tensor in named.items():
            assert loaded[group][name].dtype == tensor.dtype
            assert torch.equal(loaded[group][name], tensor)


def test_no_checkpoint_is_none_and_an_unknown_step_names_the_known(pair: Path) -> None:
    assert checkpoint.load_newest(pair / "other") is None
    assert checkpoint.load_step(pair, 10).step == 10
    with pytest.raises(InputError, match="there are 20, 10"):
        checkpoint.load_step(pair, 15)


def test_newest_is_by_step_whatever_the_times_of_the_files(pair: Path) -> None:
    save(pair, 9)
    save(pair, 100)
    for step, when in ((100, 0), (20, 4e9), (9, 3e9)):
        for path in (pair / "checkpoints" / f"step-{step}").rglob("*"):
            os.utime(path, (when, when))
        os.utime(pair / "checkpoints" / f"step-{step}", (when, when))
    assert checkpoint.steps(pair) == [100, 20, 10, 9]
    assert value_of(checkpoint.load_newest(pair)) == 100


@pytest.mark.parametrize("name", FILES)
def test_200_cuts_are_named_and_the_previous_one_is_used(pair: Path, name: str) -> None:
    path = _newest(pair) / name
    raw = path.read_bytes()
    draw = random.Random(name)
    for length in sorted({draw.randrange(len(raw)) for _ in range(200)}):
        path.write_bytes(raw[:length])
        found = checkpoint.load_newest(pair)
        assert value_of(found) == 10
        assert found is not None
        assert len(found.warnings) == 1
        assert "step 20" in found.warnings[0]
        assert name in found.warnings[0]
        with pytest.raises(DamagedError, match=name):
            manifest.verify_folder(_newest(pair), step=20)


@pytest.mark.parametrize("name", FILES)
def test_bit_flips_in_each_file_are_all_noticed(pair: Path, name: str) -> None:
    path = _newest(pair) / name
    raw = bytearray(path.read_bytes())
    draw = random.Random(name)
    for _ in range(250):  # more than a thousand in all files
        bit = draw.randrange(8 * len(raw))
        raw[bit // 8] ^= 1 << bit % 8
        path.write_bytes(raw)
        with pytest.raises(DamagedError, match=name):
            checkpoint.load_step(pair, 20)
        raw[bit // 8] ^= 1 << bit % 8
    path.write_bytes(raw)
    assert value_of(checkpoint.load_step(pair, 20)) == 20


def test_planted_bug_without_digests_a_flip_gets_through(
    pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "check_entry", lambda *_: None)
    path = _newest(pair) / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert checkpoint.load_step(pair, 20).step == 20


def _swap(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "missing": lambda path, _: path.unlink(),
    "empty": lambda path, _: path.write_bytes(b""),
    "zeros": lambda path, _: path.write_bytes(b"\0" * path.stat().st_size),
    "longer": lambda path, _: path.write_bytes(path.read_bytes() + b"\n"),
    "of another step": _swap,
    "a folder": lambda path, _: (path.unlink(), path.mkdir()),
    "a pipe": lambda path, _: (path.unlink(), os.mkfifo(path)),
    "a broken link": lambda path, _: (path.unlink(), path.symlink_to("nowhere")),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_file_that_is_not_the_one_saved_is_refused(
    pair: Path, name: str, damage: Callable[[Path, Path], object]
) -> None:
    damage(_newest(pair) / name, pair / "checkpoints" / "step-10" / name)
    with pytest.raises(DamagedError):
        manifest.verify_folder(_newest(pair), step=20)
    found = checkpoint.load_newest(pair)
    assert value_of(found) == 10


def test_a_whole_checkpoint_under_the_name_of_another_step_is_refused(pair: Path) -> None:
    shutil.rmtree(_newest(pair))
    shutil.copytree(pair / "checkpoints" / "step-10", _newest(pair))
    with pytest.raises(DamagedError, match="belongs to step 10, not to 20"):
        checkpoint.load_step(pair, 20)


def test_all_damaged_is_an_error_and_not_a_fresh_start(pair: Path) -> None:
    for step in (10, 20):
        (pair / "checkpoints" / f"step-{step}" / "state.json").unlink()
    with pytest.raises(DamagedError, match="no whole checkpoint"):
        checkpoint.load_newest(pair)


def _edit(path: Path, reseal: bool) -> None:
    content = parse_signed_json(path.read_bytes(), "manifest")
    content = {**content, "format": 99, "scriven": "7.8.9"}
    path.write_bytes(signed_json(content) if reseal else json.dumps(content).encode())


def test_a_newer_format_is_refused_and_never_guessed(pair: Path) -> None:
    _edit(_newest(pair) / "manifest.json", reseal=True)
    for read in (lambda: checkpoint.load_step(pair, 20), lambda: checkpoint.load_newest(pair)):
        with pytest.raises(NewerFormatError, match=r"format 99 .*7\.8\.9.* reads format 2"):
            read()


def test_an_edited_format_is_damage_that_names_both(pair: Path) -> None:
    _edit(_newest(pair) / "manifest.json", reseal=False)
    with pytest.raises(DamagedError, match=r"format 99 .*reads format 2.*damaged"):
        checkpoint.load_step(pair, 20)
    assert value_of(checkpoint.load_newest(pair)) == 10


def test_a_checkpoint_of_format_2_is_read() -> None:
    found = checkpoint.load_newest(FOLDER / "format-2")
    assert found is not None
    assert (found.step, found.state, found.warnings) == (7, STATE, [])
    for group, named in golden_tensors().items():
        assert found.tensors[group].keys() == named.keys()
        for name, tensor in named.items():
            assert found.tensors[group][name].dtype == tensor.dtype
            assert torch.equal(found.tensors[group][name], tensor)


def test_the_present_release_still_writes_format_2_byte_for_byte(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, golden_tensors(), STATE)
    for name in FILES[:-1]:
        old = FOLDER / "format-2" / "checkpoints" / "step-7" / name
        assert (path / name).read_bytes() == old.read_bytes()


def test_the_best_and_the_last_healthy_are_never_deleted(tmp_path: Path) -> None:
    for step in range(1, 13):
        save(tmp_path, step)
        checkpoint.prune(tmp_path, 2, best=min(step, 3), healthy=min(step, 5))
    assert checkpoint.steps(tmp_path) == [12, 11, 5, 3]


@pytest.mark.parametrize("keep", [-1, 0, 1])
def test_at_least_one_is_kept(pair: Path, keep: int) -> None:
    assert checkpoint.prune(pair, keep) == [10]
    assert checkpoint.steps(pair) == [20]


def test_the_only_whole_one_is_never_deleted(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save(tmp_path, step)
    for step in (3, 4):
        (tmp_path / "checkpoints" / f"step-{step}" / "model.safetensors").write_bytes(b"")
    assert checkpoint.prune(tmp_path, 2) == [1]
    assert value_of(checkpoint.load_newest(tmp_path)) == 2


def test_where_nothing_is_whole_nothing_is_deleted(pair: Path) -> None:
    for step in (10, 20):
        (pair / "checkpoints" / f"step-{step}" / "state.json").unlink()
    assert checkpoint.prune(pair, 1) == []
    assert checkpoint.steps(pair) == [20, 10]


def test_a_step_set_aside_in_the_middle_of_a_replacement_is_still_found(pair: Path) -> None:
    aside = _newest(pair).with_name(".old-step-20")
    _newest(pair).rename(aside)
    assert value_of(checkpoint.load_newest(pair)) == 20
    checkpoint.prune(pair, 1)
    assert value_of(checkpoint.load_newest(pair)) == 20
    save(pair, 20, 21.0)
    assert value_of(checkpoint.load_newest(pair)) == 21
    assert not aside.exists()


def test_what_a_replacement_set_aside_is_deleted_once_the_new_one_is_whole(pair: Path) -> None:
    shutil.copytree(_newest(pair), _newest(pair).with_name(".old-step-20"))
    checkpoint.prune(pair, 5)
    assert sorted(os.listdir(pair / "checkpoints")) == ["step-10", "step-20"]


def test_names_that_are_no_checkpoints_are_left_alone(pair: Path) -> None:
    for name in ("step-x", "step-030", "step-99.bak", "notes", "step-"):
        (pair / "checkpoints" / name).mkdir()
    assert checkpoint.steps(pair) == [20, 10]
    checkpoint.prune(pair, 1)
    assert len(os.listdir(pair / "checkpoints")) == 6


def test_a_write_that_is_cut_short_by_the_system_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda where, data: write(where, memoryview(data)[:7]))
    save(tmp_path, 3)
    assert value_of(checkpoint.load_newest(tmp_path)) == 3


def test_a_large_piece_is_written_without_a_copy() -> None:
    tensor = tensors(1.0)["model"]["weight"]
    pieces = buffers(encode({"weight": tensor}))
    tensor.fill_(5.0)
    assert torch.frombuffer(bytearray(pieces[-1]), dtype=torch.float32)[0] == 5
