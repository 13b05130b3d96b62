"""Starting is cheap, and the public names are the ones we promise."""

import subprocess
import sys

import pytest

import scriven

PROBE = """
import sys, runpy
sys.argv = {argv!r}
try:
    {code}
except SystemExit:
    pass
heavy = [name for name in ("torch", "numpy", "transformers", "tokenizers") if name in sys.modules]
print("HEAVY", heavy)
"""


def heavy(code: str, argv: list[str]) -> str:
    script = PROBE.format(code=code, argv=argv)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    return done.stdout.splitlines()[-1] + done.stderr


@pytest.mark.parametrize(
    "argv",
    [["scriven", "--help"], ["scriven", "train", "--help"], ["scriven", "generate", "--help"]],
)
def test_help_loads_no_torch(argv: list[str]) -> None:
    assert heavy("from scriven.cli import main; main()", argv) == "HEAVY []"


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert heavy("import scriven", ["x"]) == "HEAVY []"


def test_a_model_is_loaded_without_the_code_of_training() -> None:
    script = (
        "import sys, scriven.model; print([name for name in sys.modules if 'scriven.' in name])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "scriven.generate.engine" in done.stdout
    for package in ("train", "evaluate", "report"):
        assert f"scriven.{package}" not in done.stdout


def test_using_a_name_does_load_torch() -> None:
    """The probe can see torch when it is there."""
    assert "torch" in heavy("import scriven; scriven.train", ["x"])


def test_public_names() -> None:
    assert scriven.__all__ == [
        "GPT", "Model", "ScrivenError", "__version__", "bench", "compare", "export", "finetune",
        "import_run", "load", "prepare", "train",
    ]  # fmt: skip
    assert all(hasattr(scriven, name) for name in scriven.__all__)


def test_functions_keep_their_names_beside_packages_of_the_same_name() -> None:
    """Importing `scriven.train.<file>` would otherwise make `scriven.train` a module."""
    code = "import scriven, scriven.train.schedule, scriven.export; print(callable(scriven.train), "
    code += "callable(scriven.export))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True True\n", done.stderr
