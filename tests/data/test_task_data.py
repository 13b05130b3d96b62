"""The converters of the public test sets: no text of a test part reaches a pre-training file."""

import csv
import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "tasks" / "data.py"
SIZES = {
    "sst2": (6920, 872, 1821),
    "agnews": (6000, 800, 800),
    "headlines": (6000, 800, 800),
    "sick-entail": (4439, 495, 4906),
    "sick-similarity": (4439, 495, 4906),
    "multi30k": (29000, 1014, 1000),
}
LABELS = {
    "sst2": {"negative", "positive"},
    "agnews": {"Business", "Sci/Tech", "Sports", "World"},
    "sick-entail": {"contradiction", "entailment", "neutral"},
}


@pytest.fixture(scope="module")
def script() -> Iterator[dict[str, Any]]:
    sys.path.insert(0, str(SCRIPT.parent))  # where it finds its neighbour when it is run
    try:
        yield runpy.run_path(str(SCRIPT))
    finally:
        sys.path.remove(str(SCRIPT.parent))


@pytest.fixture(scope="module")
def made(
    script: dict[str, Any], shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    script["main"](shared_data, folder)
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def leaks(script: dict[str, Any], corpus: Path, table: Path) -> list[str]:
    """Documents of a corpus that are an input or a target of a table."""
    documents = [json.loads(line)["text"] for line in corpus.read_text("utf-8").splitlines()]
    held = {script["normal"](text) for row in rows(table) for text in row.values()}
    return [text for text in documents if script["normal"](text) in held]


@pytest.mark.parametrize("name", SIZES)
def test_every_part_is_whole(name: str, made: Path) -> None:
    for part, size in zip(("train", "dev", "test"), SIZES[name], strict=True):
        found = rows(made / name / f"{part}.csv")
        assert len(found) == size
        assert all(all(row.values()) for row in found)
        if name in LABELS:
            assert {row["label"] for row in found} == LABELS[name]
        if name == "sick-similarity":
            assert all(1 <= float(row["score"]) <= 5 for row in found)


@pytest.mark.parametrize("name", SIZES)
def test_no_test_text_is_pretrained_on(name: str, script: dict[str, Any], made: Path) -> None:
    corpus = made / name / "corpus.jsonl"
    for part in ("dev", "test"):
        assert leaks(script, corpus, made / name / f"{part}.csv") == []
    assert len(leaks(script, corpus, made / name / "train.csv")) > 800, "the check sees texts"


def test_films_are_pretrained_with_news_and_without_its_test(
    script: dict[str, Any], made: Path
) -> None:
    corpus = made / "sst2" / "corpus.jsonl"
    assert len(leaks(script, corpus, made / "agnews" / "train.csv")) > 5000
    assert leaks(script, corpus, made / "agnews" / "test.csv") == []


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ("Iran  #39;committed #39; to Hamas #39;s plan", "Iran 'committed' to Hamas's plan"),
        ("#39;Enron of Kansas #39; Trial", "'Enron of Kansas' Trial"),
        ("about  #36;300 or \\$1.4", "about $300 or $1.4"),
        ("the oils  #151; they go", "the oils — they go"),
        ("he said,  quot;no. quot;", 'he said, "no."'),
        ("Corp. &lt;MSFT.O&gt; and &lt;B&gt;more&lt;/B&gt;", "Corp. <MSFT.O> and more"),
        ("blow to\\protection  efforts\\\\", "blow to protection efforts"),
        ("AT&amp;T; item #1; fine", "AT&T; item #1; fine"),
    ],
)
def test_remains_of_html_are_mended(broken: str, mended: str, script: dict[str, Any]) -> None:
    assert script["clean"](broken) == mended
