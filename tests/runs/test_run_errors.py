"""Every call of a save or prune, failing: a full disk, errors that pass and that stay."""

import errno
import os
import re
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from scriven.errors import DamagedError, InputError, ResourceError
from scriven.files import write_file
from scriven.runs import checkpoint
from scriven.runs.weights import load_tensors

from .faults import child, failing, leftovers, save, value_of
from .saves import ALL, Read, Save, calls_of, fresh


def _said(action: Callable[[], object], number: int, code: int, always: bool = False) -> str:
    """The message of the ResourceError when the n-th call fails; empty when it was saved."""
    with failing(number, code, always):
        try:
            action()
        except ResourceError as error:
            return str(error)
    return ""


@ALL
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_at_every_call_is_named_and_leaves_the_old_state(
    tmp_path: Path, make: Save, read: Read, code: int
) -> None:
    for number in range(1, len(calls_of(make, tmp_path)) + 1):
        folder = fresh(tmp_path, number)
        make(folder, 1)
        said = _said(lambda folder=folder: make(folder, 2), number, code)
        assert re.fullmatch("|disk full: .* needs .*, has .*", said)
        assert read(folder) in ((1, 2) if said else (2,))
        # a delete that failed is left for the next save; a write that failed is not
        aside = (".old-", ".tmp-.old-")
        assert [name for name in leftovers(folder) if not name.startswith(aside)] == []
        make(folder, 3)
        assert read(folder) == 3


def test_real_limit_on_file_size(tmp_path: Path) -> None:
    save(tmp_path, 1)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        with pytest.raises(ResourceError, match="disk full"):
            save(tmp_path, 2)

    status, text = child(limited)
    assert status == 0, text
    assert value_of(checkpoint.load_newest(tmp_path)) == 1
    assert leftovers(tmp_path) == []


@ALL
@pytest.mark.parametrize("code", [errno.EIO, errno.EINTR, errno.ESTALE])
def test_an_error_that_passes_is_tried_again(
    tmp_path: Path, make: Save, read: Read, code: int
) -> None:
    for number in range(1, len(calls_of(make, tmp_path)) + 1):
        folder = fresh(tmp_path, number)
        make(folder, 1)
        with failing(number, code):
            make(folder, 2)
        assert read(folder) == 2


@ALL
def test_an_error_that_stays_is_never_reported_as_saved(
    tmp_path: Path, make: Save, read: Read
) -> None:
    for number in range(1, len(calls_of(make, tmp_path)) + 1):
        folder = fresh(tmp_path, number)
        make(folder, 1)
        said = _said(lambda folder=folder: make(folder, 2), number, errno.EIO, always=True)
        assert not said or "cannot be saved" in said
        assert read(folder) in ((1, 2) if said else (2,))


@ALL
def test_a_failed_sync_is_an_error(
    tmp_path: Path, make: Save, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, 1)
    asked = []

    def fail(descriptor: int) -> None:
        asked.append(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(ResourceError, match="4 attempts"):
            make(tmp_path, 2)
    assert len(asked) == 4, "each attempt begins with a new file, none repeats a failed sync"
    assert read(tmp_path) == 1


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ENOSPC])
def test_a_failing_delete_stops_nothing(tmp_path: Path, code: int) -> None:
    for number in range(1, 12):
        folder = fresh(tmp_path, number)
        for step in (1, 2, 3):
            save(folder, step)
        with failing(number, code, always=True):
            checkpoint.prune(folder, 1)
        for step in checkpoint.steps(folder):
            assert value_of(checkpoint.load_step(folder, step)) == step
        assert checkpoint.steps(folder)[0] == 3


def test_a_folder_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another folder"):
        write_file(tmp_path / "file" / "x", b"")
    with pytest.raises(InputError, match="choose another folder"):
        save(tmp_path / "file", 1)
    with pytest.raises(DamagedError):
        load_tensors(tmp_path / "missing")
