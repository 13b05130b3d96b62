"""A kill keeps the page cache, so the order of the calls is what a power cut is survived by."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from scriven import files

from .faults import PATHS, calls, save
from .saves import ALL, Read, Save


def recorded(action: Callable[[], object]) -> list[tuple[str, str]]:
    """The disk calls of an action with the paths they are about, in order."""
    made: list[tuple[str, str]] = []

    def note(_: int, name: str, arguments: tuple[object, ...]) -> None:
        first = arguments[0]
        made.append((name, PATHS[first] if isinstance(first, int) else str(first)))

    with calls(note):
        action()
    return made


def _assert_ordered(made: list[tuple[str, str]]) -> None:
    """Each rename comes after the fsync of all it moves, and before the fsync of its folder."""
    renames = [at for at, (name, _) in enumerate(made) if name in ("rename", "replace")]
    assert renames
    for at in renames:
        source = made[at][1]
        if ".tmp-" not in source:
            continue  # something already safe is set aside
        before, after = made[:at], made[at + 1 :]
        written = {path for name, path in before if name == "write" and path.startswith(source)}
        for path in written:
            last = max(i for i, call in enumerate(before) if call == ("write", path))
            assert ("fsync", path) in before[last:], f"{path} is renamed before it is on the disk"
        if ("mkdir", source) in before:
            last = max(i for i, (_, path) in enumerate(before) if path.startswith(source + "/"))
            assert ("fsync", source) in before[last:], "the names in the folder are not on the disk"
        assert ("fsync", str(Path(source).parent)) in after, "the rename is not on the disk"


@ALL
def test_order_is_write_sync_rename_sync_folder(tmp_path: Path, make: Save, read: Read) -> None:
    make(tmp_path, 1)
    made = recorded(lambda: make(tmp_path, 2))
    _assert_ordered(made)
    assert read(tmp_path) == 2


def test_manifest_is_written_last(tmp_path: Path) -> None:
    made = recorded(lambda: save(tmp_path, 1))
    written = [path for name, path in made if name == "write"]
    assert written[-1].endswith("manifest.json")


def test_planted_bug_a_save_without_sync_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "sync_folder", lambda folder: None)
    with pytest.raises(AssertionError, match="not on the disk"):
        _assert_ordered(recorded(lambda: save(tmp_path, 1)))


def test_planted_bug_a_file_without_fsync_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: Path, parts: Iterable[bytes]) -> None:
        path.write_bytes(b"".join(parts))

    monkeypatch.setattr(files, "_write", write)
    for action in (
        lambda: files.write_file(tmp_path / "file", b"x"),
        lambda: files.write_stream(tmp_path / "stream", iter([b"x", b"y"])),
        lambda: save(tmp_path, 1),
    ):
        with pytest.raises(AssertionError, match="renamed before it is on the disk"):
            _assert_ordered(recorded(action))


def _fill(folder: Path) -> None:
    """What another program writes: through `io`, and without fsync."""
    with files.new_folder(folder, replace=True) as place:
        (place / "inner").mkdir()
        (place / "inner" / "one").write_bytes(b"1")
        with (place / "two").open("w") as file:
            file.write("2")


def test_a_new_folder_is_on_the_disk_before_it_gets_its_name(tmp_path: Path) -> None:
    for _ in range(2):  # a new one, and one that replaces it
        made = recorded(lambda: _fill(tmp_path / "export"))
        last = max(i for i, (name, path) in enumerate(made) if name == "rename" and ".tmp-" in path)
        source = made[last][1]
        for path in ("inner/one", "two", "inner", ""):
            assert ("fsync", str(Path(source, path))) in made[:last], path
        written = [path for name, path in made if name == "write"]
        assert written == [f"{source}/inner/one", f"{source}/two"]
        assert ("fsync", str(tmp_path)) in made[last:]
    assert (tmp_path / "export" / "inner" / "one").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_a_finished_download_is_on_the_disk_before_it_gets_its_name(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(b"x")
    made = recorded(lambda: files.rename_durably(tmp_path / "file.part", tmp_path / "file"))
    assert made == [
        ("fsync", str(tmp_path / "file.part")),
        ("replace", str(tmp_path / "file.part")),
        ("fsync", str(tmp_path)),
    ]
