"""The files of question answering and of tagging: SQuAD's JSON and the columns of CoNLL."""

import json
from pathlib import Path
from typing import Any

import pytest

from scriven.data.table import Table
from scriven.errors import InputError
from scriven.settings import DataSettings
from scriven.train.load_table import TableData, load_table

CONLL = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
German JJ B-NP B-MISC

# NN I-NP O
Peter NNP B-NP B-PER
"""
UNIVERSAL = """# sent_id = 1
1-2\tdu\t_\t_\t_\t_\t_\t_\t_\t_
1\tde\tde\tADP\t_\t_\t3\tcase\t_\t_
2\tle\tle\tDET\t_\t_\t3\tdet\t_\t_
2.1\tnul\t_\tVERB\t_\t_\t_\t_\t_\t_
3\tchat\tchat\tNOUN\t_\t_\t0\troot\t_\t_
"""


def read(path: Path, **settings: Any) -> list[dict[str, Any]]:
    with Table([str(path)], DataSettings(**settings)) as table:
        return [row.values for row in table]


def load(path: Path, **asked: Any) -> TableData:
    given = {"task": None, "columns": "", "validation": None, "seed": 0, **asked}
    return load_table([str(path)], DataSettings(), **given)


def squad(folder: Path, count: int = 12, indent: int | None = None) -> Path:
    """Questions of which every third has no answer."""
    paragraphs = [
        {
            "context": f"Number {n} is red. Number {n} is not blue.",
            "qas": [
                {"id": str(n), "question": f"What colour has {n}?", "is_impossible": n % 3 == 0,
                 "answers": [] if n % 3 == 0 else [{"text": "red", "answer_start": 10 + n // 10}]},
            ],
        }
        for n in range(count)
    ]  # fmt: skip
    path = folder / "squad.json"
    document = {"version": "v2.0", "data": [{"title": "Colours", "paragraphs": paragraphs}]}
    path.write_text(json.dumps(document, indent=indent), encoding="utf-8")
    return path


@pytest.mark.parametrize("indent", [None, 2])
def test_squad_is_recognised_and_read(tmp_path: Path, indent: int | None) -> None:
    rows = read(squad(tmp_path, indent=indent))
    assert len(rows) == 12
    assert rows[1] == {
        "id": "1", "title": "Colours", "context": "Number 1 is red. Number 1 is not blue.",
        "question": "What colour has 1?", "answers": [{"text": "red", "answer_start": 10}],
    }  # fmt: skip
    found = load(squad(tmp_path))
    assert found.name == "answer"
    assert {len(row["answers"]) for row in found.train} == {0, 1}


def test_questions_about_one_context_stay_together(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {"context": f"Text {n // 4} is red.", "question": f"{n}?",
         "answers": {"text": ["red"], "answer_start": [10]}}
        for n in range(80)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = load(path)
    sides = [{row["context"] for row in part} for part in (found.train, found.validation)]
    assert not sides[0] & sides[1] and len(sides[1]) == 2


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"data": [{"paragraphs": [{"qas": [{"id": "1"}], "context": "a"}]}]}, "row 1 is no quest"),
        ({"data": [{"paragraphs": [{"qas": 3}]}]}, "row 1 is no question"),
        ({"data": 3, "paragraphs": 1, "qas": 2}, 'needs {"data"'),
    ],
)
def test_a_damaged_squad_file_is_refused_by_name(tmp_path: Path, document: Any, said: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read(path, format="squad")


def test_columns_of_conll_are_read(tmp_path: Path) -> None:
    path = tmp_path / "train.conll"
    path.write_text(CONLL, encoding="utf-8")
    assert read(path) == [
        {"tokens": ["EU", "rejects", "German"], "tags": ["B-ORG", "O", "B-MISC"]},
        {"tokens": ["#", "Peter"], "tags": ["O", "B-PER"]},
    ]
    plain = tmp_path / "train.txt"
    plain.write_text(CONLL.replace("\n", "\r\n"), encoding="utf-8")
    assert read(plain, format="conll") == read(path)
    universal = tmp_path / "fr.conllu"
    universal.write_text(UNIVERSAL, encoding="utf-8")
    assert read(universal) == [{"tokens": ["de", "le", "chat"], "tags": ["ADP", "DET", "NOUN"]}]


def test_a_line_without_a_tag_is_refused_or_its_sentence_skipped(tmp_path: Path) -> None:
    path = tmp_path / "bad.conll"
    path.write_text("a O\nb\n\nc O\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 2 has one column"):
        read(path)
    assert read(path, skip_bad=True) == [{}, {"tokens": ["c"], "tags": ["O"]}]


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"tokens": ["Ada", "ran"], "ner_tags": ["B-PER", "O"]}, "tag"),
        ({"words": "Ada ran", "tags": "B-PER O"}, "tag"),
        ({"text": "fine", "labels": ["a", "b"]}, "multilabel"),
        ({"text": "fine", "label": ["a", "b"]}, "multilabel"),
        ({"text": "fine", "tags": "a|b"}, "multilabel"),
        ({"query": "red", "documents": ["a", "b"], "relevance": [1, 0]}, "rank"),
        ({"anchor": "red", "positive": "a", "negative": "b"}, "rank"),
        ({"context": "It is red.", "question": "What?", "answers": "red"}, "answer"),
    ],
)
def test_the_columns_name_the_task(tmp_path: Path, row: dict[str, Any], name: str) -> None:
    path = tmp_path / "table.jsonl"
    rows = []
    for n in range(30):
        made = {key: f"{value} {n}" if key in ("text", "query", "anchor", "question") else value
                for key, value in row.items()}  # fmt: skip
        if name == "tag":
            made |= {
                next(iter(row)): [*"Ada", str(n)],
                next(key for key in row if "tag" in key): [*"OBIO"],
            }
        if name == "multilabel" and n % 2:
            made[next(key for key in row if key != "text")] = ["c"]
        rows.append(made)
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    found = load(path)
    assert found.name == name
    assert len(found.train) + len(found.validation) == 30


@pytest.mark.parametrize(
    ("row", "task", "said"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "tag", "2 tokens and 1 tags"),
        ({"query": "a", "documents": ["b", "c"]}, "rank", "needs the columns"),
        ({"query": "a", "documents": ["b", "c"], "relevance": [1]}, "rank", "2 documents and 1 gr"),
        ({"query": "a", "documents": ["b", "c"], "relevance": [1, -1]}, "rank", "below 0"),
        ({"context": "a", "question": "b", "answers": "c"}, "answer", "no part of its context"),
        ({"text": "a", "labels": {"b": 1}}, "multilabel", "no list of labels"),
        ({"text": "a", "number": "many"}, "regression", "not a number"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: dict[str, Any], task: str, said: str) -> None:
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for _ in range(9)), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        load(path, task=task)
