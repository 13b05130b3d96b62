"""The notebooks of examples/notebooks run from top to bottom, and show what they should."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import docpages
import pytest

FOLDER = docpages.ROOT / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

CARD = r"<div style=.*<table>.*</table>.*<svg role=.img."
"""A model, or a training, with its curves."""
FORMS: dict[str, list[str]] = {
    "your_own_book": [
        "^$", CARD + ".*</svg>", CARD, r"^It was.{150,}",
        r"'loss': \d\.\d+,\s+'perplexity': \d+\.\d+,\s+'bits_per_byte': \d\.\d+,\s+"
        r"'accuracy': 0\.\d+",
        r"^\d\.\d{3} before, \d\.\d{3} after$",
    ],
    "a_classifier": [
        "<table.*I expected", CARD, CARD,
        r"^accuracy \d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]\n  bag_of_words \d\.\d{3}\n  majority",
        r"<table.*prediction.*probability.*p\(good\)",
    ],
    "look_inside": [
        r"Layer \(type\).*embed.*blocks\.1.*Total params: [\d,]+", CARD, CARD,
        r"^('.'|\"'\"|'\\n') +0\.\d{3}\n", r"a +1\.00",
    ],
    "adapt_a_model": [
        CARD, "^Dear Tom,", CARD,
        r"^letters before \d\.\d\d bits per byte\nletters after  \d\.\d\d bits per byte\n\s*Dear",
    ],
}  # fmt: skip
"""What the output of each code cell looks like."""


def cells(path: Path) -> list[dict[str, Any]]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_clean_and_their_code_is_python(path: Path) -> None:
    assert len(FORMS[path.stem]) == len(cells(path))
    for cell in cells(path):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        ast.parse("".join(cell["source"]))


def shown(cell: dict[str, Any]) -> str:
    """Everything a cell shows; HTML where there is some."""
    parts = []
    for output in cell["outputs"]:
        data = output.get("data", {})
        parts.append(output.get("text") or data.get("text/html") or data.get("text/plain", ""))
    return "\n".join("".join(part) for part in parts).strip()


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_and_show_what_they_should(path: Path, tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(
        notebook, timeout=240, startup_timeout=300, kernel_name="python3", resources=resources
    )
    client.execute()
    ran = [cell for cell in notebook.cells if cell["cell_type"] == "code"]
    for cell, form in zip(ran, FORMS[path.stem], strict=True):
        assert re.search(form, shown(cell), re.S), (cell["source"], shown(cell)[:2000])
        # a training is one output; nothing floods the notebook
        assert len(cell["outputs"]) <= 2, cell["source"]
        assert len(json.dumps(cell["outputs"])) < 60_000
