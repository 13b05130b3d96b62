"""The compiled libraries that the tests of this folder share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scriven.native import library


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache folder of the libraries, each compiled once in a session of tests."""
    folder = tmp_path_factory.mktemp("native")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRIVEN_CACHE", str(folder))
        patch.setenv("SCRIVEN_NATIVE", "on")
        for name in library.SOURCES:
            library._loaded[name].library = None  # of another test of this process
            if library.compile_command() is None:
                pytest.skip("no C++ compiler")
            assert library.load_library(True, name) is not None, library.state(name)
    yield folder
    for name in library.SOURCES:
        library._loaded[name].library = None


@pytest.fixture(autouse=True)
def native(temporary_cache: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIVEN_CACHE", str(compiled))
    monkeypatch.setenv("SCRIVEN_NATIVE", "on")
