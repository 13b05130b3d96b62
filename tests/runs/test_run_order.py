"""A kill keeps the page cache, so the order of the calls is what a power cut is survived by."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from scriven import files

from .faults import calls, save
from .saves import ALL, Read, Save


class Order:
    """The calls of a save with the paths they are about."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str]] = []
        self.open = os.open

    def record(self, action: Callable[[], object]) -> list[tuple[str, str]]:
        named: dict[int, str] = {}

        def opened(path: object, *rest: object, **more: object) -> int:
            descriptor = self.open(path, *rest, **more)  # type: ignore[arg-type]
            named[descriptor] = str(path)
            return descriptor

        def note(_: int, name: str, arguments: tuple[object, ...]) -> None:
            first = arguments[0]
            self.made.append((name, named[first] if isinstance(first, int) else str(first)))

        os.open = opened
        try:
            with calls(note):
                action()
        finally:
            os.open = self.open
        return self.made


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
    made = Order().record(lambda: make(tmp_path, 2))
    _assert_ordered(made)
    assert read(tmp_path) == 2


def test_manifest_is_written_last(tmp_path: Path) -> None:
    made = Order().record(lambda: save(tmp_path, 1))
    written = [path for name, path in made if name == "write"]
    assert written[-1].endswith("manifest.json")


def test_planted_bug_a_save_without_sync_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "sync_folder", lambda folder: None)
    with pytest.raises(AssertionError, match="not on the disk"):
        _assert_ordered(Order().record(lambda: save(tmp_path, 1)))
