"""Finding runs and claiming folders: odd names, links, permissions, clocks, two at once."""

import os
import re
import stat
import time
from pathlib import Path

import pytest

from scriven.errors import BusyError, DamagedError, InputError, ScrivenError
from scriven.runs import metadata
from scriven.runs.folder import LOCK, OWNER, create_run_dir, find_run, list_runs, lock_run
from scriven.runs.metadata import read_metadata, write_metadata

from .faults import NOBODY, as_nobody, save


def _run(folder: Path, name: str) -> Path:
    made = create_run_dir(folder / name)
    write_metadata(made, {"name": name})
    return made


def _refused(out: Path, *words: str) -> None:
    with pytest.raises(InputError) as error:
        create_run_dir(out)
    assert "\n" not in str(error.value)
    for word in (*words, "--out"):
        assert word in str(error.value)


# --- claim


def test_claim_makes_a_folder_and_takes_it_again(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "run"
    assert create_run_dir(out) == out
    assert os.listdir(out) == []
    assert create_run_dir(out) == out
    write_metadata(out, {})
    (out / "report.html").write_text("")
    assert create_run_dir(out) == out


def test_claim_refuses_a_folder_with_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    _refused(tmp_path, "is not empty and holds no run")
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_claim_takes_a_folder_whose_first_process_died_at_once(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("")
    (tmp_path / OWNER).write_text("")
    (tmp_path / ".tmp-scriven.json-999999999").write_text("")
    assert create_run_dir(tmp_path) == tmp_path
    assert ".tmp-scriven.json-999999999" not in os.listdir(tmp_path)


def test_a_folder_without_permission_is_refused(open_folder: Path) -> None:
    closed = open_folder / "closed"
    closed.mkdir()
    hidden = open_folder / "hidden"
    hidden.mkdir()
    if os.getuid() == 0:
        os.chown(closed, NOBODY, NOBODY)
        os.chown(hidden, NOBODY, NOBODY)
    closed.chmod(0o500)
    hidden.chmod(0o000)

    def attempt() -> None:
        _refused(closed, "Permission denied", "closed")
        _refused(closed / "new", "Permission denied")
        _refused(hidden, "Permission denied")
        _refused(hidden / "new", "Permission denied")
        create_run_dir(open_folder / "fine")

    as_nobody(attempt)
    assert os.listdir(closed) == []
    closed.chmod(0o700)
    hidden.chmod(0o700)


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    _refused(tmp_path / "file", "is a file")
    _refused(tmp_path / "file" / "run", "Not a directory")
    assert (tmp_path / "file").read_text() == "content"


def test_a_link_is_followed_once_and_for_all(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    assert create_run_dir(tmp_path / "link") == real
    assert create_run_dir(tmp_path / "link" / "inside") == real / "inside"


def test_broken_and_circular_links_are_refused(tmp_path: Path) -> None:
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    _refused(tmp_path / "broken", "link to nothing")
    for name in ("a", "b", "self"):
        _refused(tmp_path / name)
        _refused(tmp_path / name / "run")
    assert not (tmp_path / "nowhere").exists()


ODD = [
    "with space",
    " ",
    "new\nline",
    "tab\t",
    "-rf",
    "--out",
    "ünï 文 🙂",
    "a" * 255,
    "é" * 127,
    "$(touch x)",
    "`x`;&|",
    "'\"",
    "%2e%2e",
    "*?[",
    "~",
    "step-1",
    "latest",
    ".hidden",
    "a\\b",
    os.fsdecode(b"\xff\xfe"),
]


@pytest.mark.parametrize("name", ODD)
def test_any_name_works(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = _run(tmp_path / "runs", name)
    with lock_run(made):
        save(made, 1)
    assert read_metadata(made)["name"] == name
    assert find_run(name) == Path("runs") / name
    assert find_run(str(made)) == made
    assert os.listdir(tmp_path) == ["runs"]


@pytest.mark.parametrize("name", ["a" * 256, "a\0b", "é" * 200])
def test_impossible_names_are_refused(tmp_path: Path, name: str) -> None:
    _refused(tmp_path / name)
    with pytest.raises(InputError):
        find_run(name, tmp_path)


# --- resolve


def test_resolve_names_what_is_near(tmp_path: Path) -> None:
    _run(tmp_path, "shakespeare")
    _run(tmp_path, "book")
    assert list_runs(tmp_path) == {
        "book": tmp_path / "book",
        "shakespeare": tmp_path / "shakespeare",
    }
    with pytest.raises(InputError, match=r"no run shakespear: did you mean shakespeare\?"):
        find_run("shakespear", tmp_path)
    with pytest.raises(InputError, match="there are book, shakespeare"):
        find_run("zzz", tmp_path)
    with pytest.raises(InputError, match="scriven train"):
        find_run("zzz", tmp_path / "none")
    with pytest.raises(InputError, match="no runs in"):
        find_run("latest", tmp_path / "none")
    with pytest.raises(InputError, match="is no run folder"):
        find_run(str(tmp_path), tmp_path)
    for odd in ("", "\n", "a" * 5000, "../../x", "a\0", "a\0/b"):
        with pytest.raises(InputError) as error:
            find_run(odd, tmp_path)
        assert "\n" not in str(error.value)


def test_resolve_names_what_is_near_beside_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(tmp_path, "book")
    with pytest.raises(InputError, match=f"did you mean {re.escape(str(tmp_path / 'book'))}\\?"):
        find_run(str(tmp_path / "bok"), tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"did you mean book\?"):
        find_run("bok", tmp_path / "none")


def test_latest_is_the_last_one_made_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    for name, clock in (("b", now), ("c", now + 1e6), ("a", now - 1e8)):
        monkeypatch.setattr(time, "time", lambda clock=clock: clock)
        _run(tmp_path, name)
        assert find_run("latest", tmp_path) == tmp_path / name
    for number, name in enumerate("acb"):
        for path in (tmp_path / name, tmp_path / name / metadata.NAME):
            os.utime(path, (number * 1e6, number * 1e6))
    write_metadata(tmp_path / "b", {"results": {}})  # writing again makes it no younger
    assert find_run("latest", tmp_path) == tmp_path / "a"


def test_latest_does_not_care_about_a_broken_link_of_that_name(tmp_path: Path) -> None:
    _run(tmp_path, "book")
    (tmp_path / "latest").symlink_to(tmp_path / "nowhere")
    assert find_run("latest", tmp_path) == tmp_path / "book"


def test_latest_is_not_stopped_by_a_damaged_neighbour(tmp_path: Path) -> None:
    _run(tmp_path, "book")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / metadata.NAME).write_bytes(b"\xff")
    assert find_run("latest", tmp_path) == tmp_path / "book"


def test_latest_never_passes_over_a_damaged_run_for_an_older_one(tmp_path: Path) -> None:
    _run(tmp_path, "old")
    path = _run(tmp_path, "new") / metadata.NAME
    path.write_bytes(path.read_bytes().replace(b'"new"', b'"mew"'))
    assert find_run("latest", tmp_path) == tmp_path / "new"
    with pytest.raises(DamagedError):
        read_metadata(find_run("latest", tmp_path))


def test_claim_keeps_a_relative_path_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert create_run_dir(Path("runs/book")) == Path("runs/book")


def test_files_are_made_with_the_users_own_permissions(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_metadata(tmp_path, {})
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / metadata.NAME).stat().st_mode) == 0o640


def test_every_error_of_this_part_is_one_for_people() -> None:
    for kind in (BusyError, InputError):
        assert issubclass(kind, ScrivenError)
        assert kind.exit_code == 2
