"""Cards of models, and the progress that a notebook shows in one output."""

import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import scriven
from scriven.notebook import card, curves, is_notebook
from scriven.train.trackers import notebook


class Display:
    """Stands in for IPython.display, and keeps what is shown."""

    def __init__(self) -> None:
        self.outputs: list[list[str]] = []

    def __call__(self, page: str, display_id: bool) -> "Handle":
        assert display_id
        self.outputs.append([page])
        return Handle(self.outputs[-1])


class Handle:
    def __init__(self, pages: list[str]) -> None:
        self.pages = pages

    def update(self, page: str) -> None:
        self.pages.append(page)


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Display:
    """This process looks like a Jupyter kernel."""
    shown = Display()
    ipython, module = ModuleType("IPython"), ModuleType("IPython.display")
    kernel = type("Kernel", (), {"session": object()})
    ipython.get_ipython = lambda: type("Shell", (), {"kernel": kernel})  # type: ignore[attr-defined]
    module.display, module.HTML = shown, str  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


def train(text: Path, **options: Any) -> scriven.Model:
    settings = {
        "model.layers": 1,
        "model.d_model": 32,
        "model.heads": 2,
        "model.context_length": 16,
    }
    settings["train.eval_interval"] = 5
    return scriven.train(
        text, budget="20steps", out=text.parent / "run", settings=settings, **options
    )


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text("It was a <dark> & stormy night; the rain fell in torrents. " * 60)
    return path


def test_a_training_updates_one_output(
    text: Path,
    display: Display,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(notebook, "SECONDS", 0.0)
    assert is_notebook()
    model = train(text)
    assert len(display.outputs) == 1
    assert len(display.outputs[0]) == 21  # each step, and the end
    last = display.outputs[0][-1]
    assert "trained run" in last
    assert "step 20/20" in last
    assert "validation loss" in last
    assert last.count("<polyline") == 2
    assert all(len(page) < 20_000 for page in display.outputs[0])
    assert capsys.readouterr().err == ""  # nothing floods the cell beside it
    # the model itself is shown as a card with the same curves
    page = model._repr_html_()
    assert f"{sum(w.numel() for w in model.task.parameters()):,} parameters" in page
    assert f"{model.results['val_loss']:.4f}" in page
    assert page.count("<polyline") == 2


def test_a_second_between_updates_and_nothing_if_quiet(text: Path, display: Display) -> None:
    train(text, quiet=True)
    assert display.outputs == []
    began = time.monotonic()
    scriven.train(text, budget="20steps", out=text.parent / "other", size="tiny")
    assert len(display.outputs[0]) <= 3 + time.monotonic() - began


def test_a_card_of_a_model_that_is_not_trained() -> None:
    shape = {"layers": 1, "heads": 2, "d_model": 32, "context_length": 16}
    assert "made by build or fit" in scriven.GPT(**shape)._repr_html_()
    built = scriven.GPT(**shape, tokenizer="byte")
    assert f"{built.count_params():,}" in built._repr_html_()


def test_cards_and_curves_are_well_formed_and_escape_text() -> None:
    series = {"a <b>": [(1, 2.0), (5, 1.0), (9, float("nan"))], "c": [(3, 1.5)]}
    page = card("<title>", {"<name>": "<value>"}, curves(series), "a </pre><script>")
    tree = ElementTree.fromstring(page)  # text is escaped, so it parses as XML
    assert tree.find("pre").text == "a </pre><script>"
    assert "<script" not in page
    assert curves({"a": [(1, 2.0)]}) == ""  # one point is no curve
    points = [
        tuple(map(float, p.split(","))) for p in tree.find(".//*[@points]").get("points").split()
    ]
    assert points[0][0] < points[1][0]
    assert points[0][1] < points[1][1]  # a falling loss falls on the page


def test_a_script_is_no_notebook() -> None:
    assert not is_notebook()
