"""What this machine has made is told from what was copied here: for `latest`, and for downloads."""

import json
from pathlib import Path
from typing import Any

import pytest

from scriven.errors import InputError
from scriven.manifest import signed_json
from scriven.runs.folder import find_run
from scriven.runs.metadata import NAME, check_downloads, is_from_here, read_metadata, write_metadata

FAR = 4_000_000_000
"""A second of the year 2096."""


def made(folder: Path, **fields: Any) -> Path:
    folder.mkdir(parents=True)
    write_metadata(folder, {"data": {"sources": ["book.txt"]}, **fields})
    return folder


def copied(folder: Path, **fields: Any) -> Path:
    """A run whose record was written elsewhere, or by hand."""
    folder.mkdir(parents=True)
    content = {"format": 2, "created": FAR, "origin": "0" * 64, **fields}
    (folder / NAME).write_bytes(signed_json(content))
    return folder


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIVEN_CACHE", str(tmp_path / "cache"))


def test_latest_is_never_a_copied_run_with_a_date_in_the_future(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    copied(runs / "copied")
    assert find_run("latest", runs).name == "copied", "there is no other"
    made(runs / "a")
    assert find_run("latest", runs).name == "a"
    made(runs / "b")
    assert find_run("latest", runs).name == "b"
    assert read_metadata(runs / "b")["created"] < FAR


def test_a_record_is_from_here_until_its_texts_are_changed(tmp_path: Path) -> None:
    metadata = read_metadata(made(tmp_path / "run"))
    assert is_from_here(metadata)
    assert is_from_here({**metadata, "results": {"val_loss": 1.0}})
    assert not is_from_here({**metadata, "data": {"sources": ["hf:somebody/else"]}})
    assert not is_from_here({**metadata, "base": {"replay": {"sources": ["hf:somebody/else"]}}})


def test_a_run_that_resumes_stays_from_here_and_a_copied_one_from_elsewhere(tmp_path: Path) -> None:
    own, other = made(tmp_path / "own"), copied(tmp_path / "other")
    for folder in (own, other):
        write_metadata(folder, read_metadata(folder))
    assert is_from_here(read_metadata(own))
    assert not is_from_here(read_metadata(other))


def test_another_machine_has_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = read_metadata(made(tmp_path / "run"))
    assert (tmp_path / "cache" / "machine-key").stat().st_mode & 0o077 == 0
    monkeypatch.setenv("SCRIVEN_CACHE", str(tmp_path / "elsewhere"))
    assert not is_from_here(metadata)


def test_without_a_place_for_a_key_nothing_is_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SCRIVEN_CACHE", str(tmp_path / "file" / "cache"))
    runs = tmp_path / "runs"
    made(runs / "a")
    made(runs / "b")
    assert not is_from_here(read_metadata(runs / "a"))
    assert find_run("latest", runs).name == "b"


def test_what_a_strangers_run_names_is_not_downloaded(tmp_path: Path) -> None:
    sources = {"sources": ["hf:somebody/else"]}
    own = read_metadata(made(tmp_path / "own", data=sources))
    check_downloads(own, tmp_path / "own")
    other = json.loads((copied(tmp_path / "other", data=sources) / NAME).read_bytes())
    with pytest.raises(InputError, match=r"hf:somebody/else would be downloaded: name it"):
        check_downloads(other, tmp_path / "other")
