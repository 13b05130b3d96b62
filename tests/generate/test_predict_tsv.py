"""A .tsv with answers reads back as the table it was made from, row by row."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scriven.data.table import Table
from scriven.generate.predict import write_predictions
from scriven.settings import DataSettings


class Answers:
    """The answer of a model that always says the same to the rows of a table."""

    def __init__(self, source: Path, text: str) -> None:
        self.sources, self.data, self.text = [str(source)], DataSettings(), text
        self.predictor = SimpleNamespace(task=SimpleNamespace(ANSWER_TYPE="texts"))
        self.metadata = {"task": "summarize", "finetune": {}}
        self.rows, self.renamed = 0, ""

    def __iter__(self) -> Iterator[tuple[dict[str, Any], Any]]:
        answer = SimpleNamespace(text=self.text, value=0.0, probabilities=(), cut=0)
        with Table(self.sources, self.data) as table:
            for row in table:
                self.rows += 1
                yield row.values, answer


def made(source: Path, text: str = "yes") -> list[str]:
    out = source.with_name("out.tsv")
    write_predictions(Answers(source, text), out, lambda row: None)  # type: ignore[arg-type]
    return out.read_text(encoding="utf-8").split("\n")


def test_a_tsv_without_quotes_gives_one(tmp_path: Path) -> None:
    texts = ['"Yes," she said', 'a 12" pipe', '"open', "a\u2028b", "plain"]
    source = tmp_path / "a.tsv"
    source.write_text("\n".join(["text\tlabel", *(f"{text}\tgood" for text in texts)]))
    wanted = ["text\tlabel\tprediction", *(f"{text}\tgood\tyes no" for text in texts), ""]
    assert made(source, "yes\nno") == wanted


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_table_with_quotes_gives_one_whose_header_says_so(name: str, tmp_path: Path) -> None:
    source = tmp_path / name
    mark = "," if name == "a.csv" else "\t"
    source.write_text(f'"text"{mark}"label"\n"one\ntwo\t""x"""{mark}"good"\n')
    made(source)
    with Table([str(tmp_path / "out.tsv")], DataSettings()) as table:
        assert [row.values for row in table] == [
            {"text": 'one\ntwo\t"x"', "label": "good", "prediction": "yes"}
        ]
