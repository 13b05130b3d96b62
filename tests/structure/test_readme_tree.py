"""The tree in the README is the tree of the repository."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MADE = {"runs", "build", "dist", "node_modules"}
"""Folders that commands make and git ignores."""


def tree(readme: str) -> str:
    """The first code block that begins with `docs/`."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", readme, re.M | re.S)
    return next(str(block) for block in blocks if block.startswith("docs/"))


def drawn(readme: str) -> set[str]:
    """The paths of the tree."""
    paths: set[str] = set()
    above: list[str] = []
    for line in tree(readme).splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        above = [*above[:depth], name]
        paths.add("".join(above))
    return paths


def there() -> set[str]:
    """Top-level folders, and what `src/scriven` holds."""
    package = ROOT / "src" / "scriven"
    top = {path for path in ROOT.iterdir() if path.is_dir() and path.name not in MADE}
    found = {path for path in (*top, package, *package.iterdir()) if not _empty(path)}
    return {
        path.relative_to(ROOT).as_posix() + "/" * path.is_dir()
        for path in found
        if (path.name.startswith("__") and path.suffix == ".py")
        or not (path.name.startswith((".", "__")) or path.name.endswith(".egg-info"))
    }


def _empty(path: Path) -> bool:
    """A folder without files, which git does not know."""
    files = (each for each in path.rglob("*") if each.is_file() and each.suffix != ".pyc")
    return path.is_dir() and next(files, None) is None


def test_the_tree_in_the_readme_is_the_real_one() -> None:
    assert drawn((ROOT / "README.md").read_text(encoding="utf-8")) == there()


def test_a_folder_left_out_of_the_tree_is_noticed() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert drawn(readme.replace("    nn/ ", "    mm/ ", 1)) != there()


def test_each_entry_of_the_tree_says_what_it_is() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    bare = [line for line in tree(readme).splitlines() if len(line.split()) < 2]
    assert [line.strip() for line in bare] == ["src/", "scriven/"]
