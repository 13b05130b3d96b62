"""New files in the registries of the package, from a temporary folder."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

AddFile = Callable[[str, str, str], None]


@pytest.fixture
def add_file(tmp_path: Path) -> Iterator[AddFile]:
    """Puts a file NAME.py into a package, as a newcomer would, until the test ends."""
    added: list[tuple[Any, str, str]] = []

    def add(package: str, name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
        module = importlib.import_module(package)
        module.__path__.append(str(tmp_path))
        added.append((module, package, name))

    yield add
    for module, package, name in added:
        module.__path__.remove(str(tmp_path))
        sys.modules.pop(f"{package}.{name}", None)
        vars(module).pop(name, None)
