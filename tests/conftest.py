"""What all tests share: the public test data, a cache folder that is thrown away, short samples."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# an example takes long on a loaded machine, which says nothing about the code
settings.register_profile("scriven", deadline=None)
settings.load_profile("scriven")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public test sets beside the checkout, which the project never commits."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the public test sets are not at {folder}")
    return folder


@pytest.fixture(autouse=True)
def temporary_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """No test reads or fills the user's own cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SCRIVEN_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session", autouse=True)
def short_samples() -> Iterator[None]:
    """Generating 200 tokens would be most of the work of a training of a few steps."""
    from scriven.train import datasets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "SAMPLE_TOKENS", 24)  # longer than a small context
        yield
