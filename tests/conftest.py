"""What all tests share: the public test data, a cache folder that is thrown away, short samples."""

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# an example takes long on a loaded machine, which says nothing about the code
settings.register_profile("scriven", deadline=None)
settings.load_profile("scriven")

LONGEST = (
    "docs/test_docs_run.py", "parallel/test_process_faults.py", "export/test_export_equal.py",
    "parallel/test_equal_losses.py", "reliability/test_signals.py", "export/test_export_planted.py",
    "reliability/test_kills.py", "reliability/test_extension.py", "tasks/test_tasks_contract.py",
    "evaluate/test_harness.py", "runs/test_run_kills.py", "reliability/test_finetune_resume.py",
)  # fmt: skip
"""Files that take longest, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no worker of pytest-xdist is left with one at the end."""
    order = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public test sets beside the checkout, which the project never commits."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the public test sets are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One empty folder after the other."""
    parent = tmp_path_factory.mktemp("caches")
    return (parent / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def temporary_cache(caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or fills the user's own cache."""
    folder = next(caches)  # mktemp would look through all folders of the tests before
    folder.mkdir()
    monkeypatch.setenv("SCRIVEN_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session", autouse=True)
def short_samples() -> Iterator[None]:
    """Generating 200 tokens would be most of the work of a training of a few steps, and compiling
    most of that of a fixture with a cache of its own: tests/native alone compile, once."""
    from scriven.train import datasets

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRIVEN_NATIVE", "off")
        patch.setattr(datasets, "SAMPLE_TOKENS", 24)  # longer than a small context
        yield


@pytest.fixture
def checks_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs check exports here and not in a child, which would import everything anew.

    What they are asked and what they answer still goes through files.
    """
    from scriven.export import parity_check
    from scriven.export.base import CheckFailed

    def run_here(
        target: str, method: str, folder: Path, work: Path, request: dict[str, Any]
    ) -> None:
        (work / "request.json").write_text(json.dumps(request))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["check", target, method, str(folder), str(work)])
            try:
                parity_check.answer_request()
            except Exception as error:
                last = str(error).splitlines()[-1] if str(error) else type(error).__name__
                raise CheckFailed(f"{target} could not use the files (exit 1): {last}") from error

    monkeypatch.setattr(parity_check, "_run_child", run_here)
