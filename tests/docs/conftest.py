"""The files that the documentation speaks of, small, in two kinds."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

SENTENCE = "It was a dark and stormy night; she said nothing, and the rain fell on the town. "

TEXTS = {
    "a kilobyte": "\n".join([SENTENCE.strip()] * 12) + "\n",
    "one long line": SENTENCE * 40,
}
"""About 1 kB in lines, and 3 kB as a single line that does not end."""

PRESET = '[model]\nlayers = 1\n\n[optim]\noptimizer = "adamw"\n'


Row = dict[str, object]
TABLES: dict[str, Callable[[int], Row]] = {
    "films.csv": lambda i: {"text": f"Film {i}.", "label": ("bad", "good")[i % 2]},
    "more-films.csv": lambda i: {"text": f"Another film, {i}.", "label": ("bad", "good")[i % 2]},
    "letters.csv": lambda i: {"text": f"Dear {i}.", "label": ("b", "a")[i % 2], "author": i % 7},
    "new.csv": lambda i: {"text": f"A new film, {i}."},
    "stars.csv": lambda i: {"id": i, "review": f"Film {i}.", "stars": i % 3},
    "follows.csv": lambda i: {
        "premise": f"Dog {i} runs.", "hypothesis": "It runs.", "label": ("no", "yes")[i % 2],
    },
    "alike.csv": lambda i: {"first": f"Dog {i}.", "second": f"Hound {i}.", "score": i % 4},
    "topics.jsonl": lambda i: {"text": f"Film {i}.", "labels": ["long", "old", "new"][: i % 3]},
    "names.jsonl": lambda i: {"tokens": ["Ada", "saw", f"Bob{i}"], "tags": ["B-A", "O", "B-B"]},
    "questions.jsonl": lambda i: {
        "context": f"It rained in town {i}.", "question": f"Where, in {i}?", "answers": "in town",
    },
    "search.jsonl": lambda i: {
        "query": f"rain {i}", "documents": ["It rained.", "It snowed."], "relevance": [i % 2, 1],
    },
    "quiz.jsonl": lambda i: {"question": f"{i}, and then?", "choices": ["a", "b"], "answer": i % 2},
    "answers.jsonl": lambda i: {"prompt": f"Who is {i}?", "completion": f"Number {i}."},
    "news.csv": lambda i: {"article": f"It rained in town {i}. A lot.", "headline": f"Rain in {i}"},
}  # fmt: skip
"""Small tables for fine-tuning, by name: what stands in row i."""


def table(name: str, rows: list[Row]) -> str:
    """The content of a .csv or .jsonl file."""
    if name.endswith(".jsonl"):
        return "\n".join(json.dumps(row) for row in rows)
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join(",".join(f'"{cell}"' for cell in line) for line in lines)


def fill(folder: Path, text: str) -> None:
    """Writes book.txt and everything else that a page may name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("book.txt", "other.txt", "notes.txt", "opening.txt", "new.txt"):
        (folder / name).write_text(text, encoding="utf-8", newline="")
    (folder / "old.txt").write_text(text + "\xe9", encoding="latin-1", newline="")
    for name in ("poems/one.txt", "poems/more/two.md", "letters/may.txt"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    rows = [json.dumps({"text": SENTENCE}) for _ in range(12)]
    (folder / "chats.jsonl").write_text("\n".join([*rows, "no row"]), encoding="utf-8")
    lines = [f'{number},"{SENTENCE}"' for number in range(12)]
    (folder / "reviews.csv").write_text("\n".join(["id,review", *lines]), encoding="utf-8")
    pairs = [f"Ein Hund {number}.\tA dog {number}." for number in range(20)]
    (folder / "pairs.tsv").write_text("\n".join(["source\ttarget", *pairs]), encoding="utf-8")
    talks = [
        [{"role": "user", "content": f"Who {i}?"}, {"role": "assistant", "content": f"Nobody {i}."}]
        for i in range(20)
    ]
    lines = [json.dumps({"messages": talk}) for talk in talks]
    (folder / "talks.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "questions.txt").write_text("Who are you?\nWho else?\n", encoding="utf-8")
    for name, row in TABLES.items():
        (folder / name).write_text(table(name, [row(i) for i in range(20)]), encoding="utf-8")
    (folder / "mine.toml").write_text(PRESET, encoding="utf-8")
    samples = Path(__file__).parents[2] / "examples" / "harness"
    shutil.copytree(samples, folder / "examples" / "harness")


@pytest.fixture(params=["a kilobyte", pytest.param("one long line", marks=pytest.mark.slow)])
def desk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files, which is where we are."""
    fill(tmp_path, TEXTS[request.param])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of book.txt, by its size; trained when a page first needs one."""
    return tmp_path_factory.mktemp("books")


@pytest.fixture
def train_book(books: Path) -> Callable[[], None]:
    """Makes runs/book, for pages that only use it."""

    def train() -> None:
        from scriven.cli import run

        content = Path("book.txt").read_bytes()
        made = books / str(len(content))
        if not made.exists():
            command = ["train", "book.txt", "--budget", "3steps", "--size", "tiny", "--quiet"]
            assert run(command) == 0
            shutil.copytree("runs/book", made)
        else:
            shutil.copytree(made, "runs/book")

    return train
