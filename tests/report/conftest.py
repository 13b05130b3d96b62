"""A run folder with made-up but plausible content, and a reader that checks a page's structure."""

import json
import math
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

from scriven.manifest import FORMAT
from scriven.report import page as page_module

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Parses a page and fails on any unbalanced tag."""

    ALLOWED = frozenset([
        "html", "head", "meta", "title", "link", "style", "body", "header", "main",
        "footer", "section", "h1", "h2", "p", "bdi", "dl", "div", "dt", "dd", "b", "span",
        "table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption",
        "ul", "li", "svg", "g", "line", "path", "rect", "circle", "text", "desc",
        "details", "summary", "blockquote", "pre", "code",
    ])  # fmt: skip
    """Everything the page is made of; a payload that became an element would add to it."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.places: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without a start"
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.open:
            self.places.append((self.open[-1], data))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of every element with this name."""
        return [attributes for each, attributes in self.tags if each == tag]

    def unsafe(self) -> list[str]:
        """What in a page did not stay text."""
        found = [tag for tag, _ in self.tags if tag not in self.ALLOWED]
        names = [name for _, attributes in self.tags for name in attributes]
        found += [name for name in names if name.startswith("on") or name in ("src", "srcdoc")]
        return found

    def text(self) -> str:
        """All that a reader sees, and the titles."""
        return "".join(self.words)


@pytest.fixture
def read_page() -> Callable[[Path], Page]:
    return lambda path: Page(path.read_text(encoding="utf-8"))


def record(**changes: Any) -> dict[str, Any]:
    """The content of scriven.json of a finished run."""
    return {
        "format": FORMAT,
        "scriven": "0.1.0",
        "name": "plays",
        "architecture": "llama",
        "task": "language",
        "model": {"layers": 4, "d_model": 128, "dropout": 0.0},
        "settings": {
            "data": {"val_fraction": 0.1},
            "optim": {"lr": 0.004, "beta1": 0.8},
            "budget": "3m",
            "seed": 1,
        },
        "reasons": {"model.layers": "what three minutes support"},
        "command": "scriven train plays.txt --budget 3m",
        "environment": {"python": "3.11.2", "torch": "2.13.0", "cpu": {"cores": 2}},
        "data": {
            "fingerprint": "ab12",
            "sources": ["plays.txt"],
            "characters": 111_000,
            "train_tokens": 100_000,
            "validation_tokens": 11_000,
        },
        "tokenizer": {"kind": "char", "vocab_size": 65},
        "results": {
            "val_loss": 1.5,
            "val_bits_per_byte": 2.16,
            "val_accuracy": 0.55,
            "best_step": 600,
            "steps": 600,
            "tokens": 1_200_000,
            "seconds": 180.0,
            "tokens_per_second": 6666.0,
            "parameters": 800_000,
            "ngram_loss": 1.67,
            "ngram_order": 5,
            "finished": True,
        },
        **changes,
    }


def metrics() -> list[dict[str, Any]]:
    """Lines of metrics.jsonl: 300 steps, 60 evaluations, 3 samples, 1 note."""
    lines: list[dict[str, Any]] = []
    for step in range(2, 601, 2):
        loss = 1.4 + 2.6 * math.exp(-step / 80)
        common = {"step": step, "tokens": step * 2000, "seconds": step * 0.3}
        measured = {"loss": loss, "accuracy": 0.7 - 0.1 * loss, "tokens_per_second": 6666.0}
        lines.append({"event": "step", **common, **measured, "lr": 0.01})
        if step % 10 == 0:
            held = {"loss": loss + 0.1, "accuracy": 0.6 - 0.1 * loss, "bits_per_byte": 2.2}
            lines.append({"event": "evaluation", **common, **held, "best": True})
        if step % 200 == 0:
            text = f"KING:\nSample at {step}."
            lines.append({"event": "sample", **common, "prompt": "KING", "text": text})
    lines.append({"event": "note", "step": 300, "seconds": 90.0, "text": "continued from step 300"})
    return lines


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """make(record=..., lines=..., tokens=...) -> a run folder."""

    def make(
        content: dict[str, Any] | None = None,
        lines: list[dict[str, Any]] | None = None,
        tokens: list[tuple[str, float]] | None = None,
    ) -> Path:
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        (folder / "scriven.json").write_text(json.dumps(record() if content is None else content))
        text = "".join(json.dumps(line) + "\n" for line in (metrics() if lines is None else lines))
        (folder / "metrics.jsonl").write_text(text)
        if tokens is not None:
            (folder / "surprise.json").write_text(json.dumps({"tokens": tokens}))
        return folder

    return make


@pytest.fixture
def a_record() -> Callable[..., dict[str, Any]]:
    return record


@pytest.fixture
def some_metrics() -> list[dict[str, Any]]:
    return metrics()


@pytest.fixture
def leaky(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], str]], None]:
    """leaky(escape): values of the page go through this function instead of HTML escaping."""

    def plant(escape: Callable[[str], str]) -> None:
        environment = page_module.environment.__wrapped__()
        finalize = environment.finalize

        def unescaped(value: Any) -> Any:
            return value if hasattr(value, "__html__") else Markup(escape(finalize(value)))

        environment.finalize = unescaped
        monkeypatch.setattr(page_module, "environment", lambda: environment)

    return plant
