"""What a power cut would leave: a model of the disk that knows only what was synced.

A kill keeps the page cache, a power cut loses it. The content of a file is on the disk once the
file was synced, its name once the folder was; a file system may also write names earlier, in their
order. So two trees are looked at whenever a name changes or something is synced: the one of synced
names, and the one of all names, both with nothing but synced content.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Tree = dict[str, Any]
"""Name -> bytes of a file, or the tree of a folder."""
NAMES = ("rename", "replace", "mkdir", "unlink", "rmdir")


class Disk:
    """The synced state of everything below `root`, which is all there is at the beginning."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names: dict[int, dict[str, int]] = {}
        """Folder -> name -> file or folder, all by inode number."""
        self.content: dict[int, bytes] = {}
        self._held: list[int] = []
        for folder, _, files in os.walk(root):
            self.sync(Path(folder))
            for name in files:
                self.sync(Path(folder, name))

    def sync(self, path: Path) -> None:
        """Notes what is on the disk now that a file or folder was synced."""
        descriptor = os.open(path, os.O_RDONLY)
        self._held.append(descriptor)  # a number that is open is not given to another file
        inode = os.fstat(descriptor).st_ino
        if path.is_dir():
            self.names[inode] = {name: (path / name).lstat().st_ino for name in os.listdir(path)}
        else:
            self.content[inode] = path.read_bytes()

    def synced(self, inode: int | None = None) -> Tree:
        """The tree of synced names."""
        inode = self.root.stat().st_ino if inode is None else inode
        return {
            name: self.synced(each) if each in self.names else self.content.get(each, b"")
            for name, each in self.names[inode].items()
        }

    def written(self, folder: Path | None = None) -> Tree:
        """The tree of all names."""
        found: Tree = {}
        for path in (folder or self.root).iterdir():
            inode = path.lstat().st_ino
            found[path.name] = self.written(path) if path.is_dir() else self.content.get(inode, b"")
        return found

    def close(self) -> None:
        for descriptor in self._held:
            os.close(descriptor)


def actual(folder: Path) -> Tree:
    """The tree as a process sees it."""
    return {
        path.name: actual(path) if path.is_dir() else path.read_bytes() for path in folder.iterdir()
    }


def write_tree(folder: Path, tree: Tree) -> None:
    """Puts a tree into a new folder."""
    folder.mkdir()
    for name, each in tree.items():
        if isinstance(each, dict):
            write_tree(folder / name, each)
        else:
            (folder / name).write_bytes(each)


def flat(tree: Tree, above: str = "") -> dict[str, bytes]:
    """Path -> content of each file."""
    found = {}
    for name, each in tree.items():
        path = above + name
        found |= flat(each, path + "/") if isinstance(each, dict) else {path: each}
    return found


@contextlib.contextmanager
def watching(root: Path, after: Callable[[Disk], None]) -> Iterator[Disk]:
    """Calls `after` at every moment of a block at which a power cut would leave something new."""
    disk = Disk(root)
    real = {name: getattr(os, name) for name in (*NAMES, "fsync")}
    inside = False

    def wrap(name: str) -> Callable[..., object]:
        def call(*arguments: Any, **named: Any) -> object:
            nonlocal inside
            result = real[name](*arguments, **named)
            if inside:
                return result
            inside = True
            try:
                if name == "fsync":
                    path = Path(os.readlink(f"/proc/self/fd/{arguments[0]}"))
                    if path.is_relative_to(root):
                        disk.sync(path)
                after(disk)
            finally:
                inside = False
            return result

        return call

    for name in real:
        setattr(os, name, wrap(name))
    try:
        yield disk
    finally:
        for name, function in real.items():
            setattr(os, name, function)
        disk.close()
