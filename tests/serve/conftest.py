"""Small models behind a real server on a free port of this machine."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from running import Running

import scriven
from scriven.serve.models import ServedModel

TEXT = "The cat sat on the mat. The dog sat on the log. A king saw the cat and the dog.\n" * 60
SMALL = {
    "model.layers": 2,
    "model.d_model": 32,
    "model.heads": 2,
    "model.context_length": 64,
    "tokenizer.kind": "char",
}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model that writes, one that was tuned for chat, and one that labels."""
    folder = tmp_path_factory.mktemp("serve")
    text = folder / "book.txt"
    text.write_text(TEXT)
    book = scriven.train(
        text, out=folder / "book", budget="150steps", quiet=True, settings=SMALL
    ).folder
    talks = folder / "talks.jsonl"
    lines = [
        {"messages": [{"role": "user", "content": f"{n} cats?"},
                      {"role": "assistant", "content": "sat"}]}
        for n in range(40)
    ]  # fmt: skip
    talks.write_text("\n".join(map(json.dumps, lines)))
    talk = scriven.finetune(
        book, talks, task="chat", out=folder / "talk", budget="10steps", quiet=True
    )
    labels = folder / "labels.csv"
    labels.write_text(
        "text,label\n"
        + "".join(f"the {x} sat on {n},{x}\n" for n in range(30) for x in ("cat", "dog"))
    )
    label = scriven.finetune(
        book, labels, task="classify", out=folder / "label", budget="10steps", quiet=True
    )
    return {"book": Path(book), "talk": Path(talk.folder), "label": Path(label.folder)}


def open_served(run: Path, slots: int = 4, max_queue: int = 40) -> ServedModel:
    """A model that can be reloaded."""
    reopen = partial(scriven.load, run)
    return ServedModel(reopen(), reopen, slots=slots, max_queue=max_queue)


@pytest.fixture(scope="session")
def server(runs: dict[str, Path]) -> Iterator[Running]:
    """All three models, without a key."""
    running = Running([open_served(each) for each in runs.values()])
    yield running
    running.stop()


@pytest.fixture
def start(runs: dict[str, Path]) -> Iterator[Callable[..., Running]]:
    """Starts another server with options of its own."""
    started: list[Running] = []

    def begin(name: str = "book", slots: int = 4, max_queue: int = 40, **options: Any) -> Running:
        served = open_served(runs[name], slots, max_queue)
        started.append(Running([served], **options))
        return started[-1]

    yield begin
    for each in started:
        each.stop()
