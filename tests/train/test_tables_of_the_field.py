"""Tables as public data sets have them: weights, scores, missing gold labels, rare labels."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from scriven.data.batch import IGNORE_INDEX
from scriven.errors import InputError
from scriven.models import gpt2
from scriven.settings import DataSettings, TokenizerSettings
from scriven.tasks.chat import Chat
from scriven.tokenizers import byte
from scriven.train.load_table import TableData, load_table


def table(folder: Path, rows: list[dict[str, Any]], suffix: str = ".jsonl") -> str:
    file = folder / f"table{suffix}"
    if suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(file)
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(file)


def read(source: str, **asked: Any) -> TableData:
    given = {"task": None, "columns": "", "validation": None, "seed": 0, **asked}
    return load_table([source], DataSettings(), **given)


def turns(*weights: dict[str, Any]) -> list[dict[str, Any]]:
    """A conversation of as many exchanges, with fields of each answer."""
    said = [({"role": "user", "content": f"question {i}"},
             {"role": "assistant", "content": f"answer {i}", **fields})
            for i, fields in enumerate(weights)]  # fmt: skip
    return [message for pair in said for message in pair]


def learned(messages: list[dict[str, Any]]) -> str:
    """The text of the tokens that a decoder learns of a conversation."""
    tokenizer = byte.train([], TokenizerSettings(kind="byte"))
    tokenizer = tokenizer.with_special_tokens(*Chat.EXTRA_TOKENS)
    config = gpt2.Config(vocab_size=tokenizer.vocab_size, layers=1, heads=1, d_model=8)
    task = Chat(gpt2.Model(config), special=tokenizer.special_token_ids)
    row = {"messages": Chat.COLUMNS["messages"].read(messages)}
    Chat.check_answer(row)
    example = task.encode(tokenizer, row)
    assert example.targets is not None
    special = set(tokenizer.special_token_ids.values())
    ids = [id for id in example.targets[0] if id != IGNORE_INDEX and id not in special]
    return str(tokenizer.decode(ids))


@pytest.mark.parametrize(
    "off", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"loss": False}, {"training": False}]
)
def test_answers_without_weight_are_read_and_not_learned(off: dict[str, Any]) -> None:
    on = {name: type(value)(1) for name, value in off.items()}
    assert learned(turns(off, on)) == "answer 1"
    assert learned(turns(on, off)) == "answer 0"
    assert learned(turns(on, {})) == "answer 0answer 1"


def test_conversations_without_a_weighted_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [{"messages": turns({"weight": n % 2}), "number": n} for n in range(40)]
    for n, row in enumerate(rows):
        row["messages"][0]["content"] = f"question {n}"
    found = read(table(tmp_path, rows))
    assert len(found.train) + len(found.validation) == 20
    assert any("20 rows left out" in note for note in found.notes)


def test_a_weight_of_a_whole_row_is_honoured(tmp_path: Path) -> None:
    rows = [{"prompt": f"q {n}", "completion": f"a {n}", "weight": n % 4 and 1} for n in range(40)]
    found = read(table(tmp_path, rows, ".csv"))
    assert len(found.train) + len(found.validation) == 30
    assert any("10 rows left out: their weight is 0" in note for note in found.notes)


def test_a_weight_that_is_a_fraction_is_refused_by_name(tmp_path: Path) -> None:
    rows = [{"messages": turns({"weight": 0.5})} for _ in range(9)]
    with pytest.raises(InputError, match=r"row 1.*weight is 0\.5"):
        read(table(tmp_path, rows))
    rows = [{"prompt": f"q {n}", "completion": "a", "weight": 0.5} for n in range(9)]
    with pytest.raises(InputError, match=r"row 1.*weight is 0\.5"):
        read(table(tmp_path, rows))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_numbers_of_two_texts_are_scores(tmp_path: Path, suffix: str) -> None:
    rows = [{"sentence1": f"a {n}", "sentence2": f"b {n}", "label": n % 9 / 2} for n in range(40)]
    found = read(table(tmp_path, rows, suffix))
    assert found.name == "similarity"
    assert found.columns == {"first": "sentence1", "second": "sentence2", "score": "label"}
    assert all(isinstance(row["score"], float) for row in found.train)
    assert any("scores" in note for note in found.notes)
    assert read(table(tmp_path, rows, suffix), task="entail").name == "entail", "if it is named"


def test_scores_of_two_texts_may_lack_some(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"sentence1": f"a {n}", "sentence2": f"b {n}", "label": "-" if n < 4 else n % 9 / 2 - 1.5}
        for n in range(44)
    ]
    for group in (None, "sentence1"):
        found = read(table(tmp_path, rows, ".csv"), **({} if group is None else {"group": group}))
        assert found.name == "similarity"
        assert len(found.train) + len(found.validation) == 40
        assert any("4 rows left out: - is no gold label" in note for note in found.notes)


def test_whole_numbers_of_two_texts_are_labels_unless_they_are_many(tmp_path: Path) -> None:
    for count, name in ((3, "entail"), (25, "similarity")):
        rows = [
            {"premise": f"a {n}", "hypothesis": f"b {n}", "label": n % count} for n in range(99)
        ]
        assert read(table(tmp_path, rows)).name == name


@pytest.mark.parametrize(
    ("numbers", "name"),
    [
        ([n / 2 for n in range(9)], "regression"),
        (range(1990, 2010), "regression"),
        (range(0, 1000, 25), "regression"),
        (range(5), "classify"),
        (range(1, 6), "classify"),
        (range(40), "classify"),
        (range(-1, 2), "classify"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_numbers_of_one_text_are_scores_unless_they_count_classes(
    tmp_path: Path, suffix: str, numbers: Sequence[float], name: str
) -> None:
    rows = [{"text": f"a {n}", "label": numbers[n % len(numbers)]} for n in range(200)]
    found = read(table(tmp_path, rows, suffix))
    assert found.name == name
    assert any("--task classify takes classes" in note for note in found.notes) == (
        name == "regression"
    )
    assert read(table(tmp_path, rows, suffix), task="classify").name == "classify"


def test_a_column_of_stars_is_a_number_unless_there_is_a_label(tmp_path: Path) -> None:
    rows = [{"review": f"a {n}", "stars": n % 5 + 1} for n in range(60)]
    assert read(table(tmp_path, rows, ".csv")).name == "regression"
    labelled = [{**row, "label": "good" if row["stars"] > 3 else "bad"} for row in rows]
    assert read(table(tmp_path, labelled, ".csv")).name == "classify"
    pairs = [{"sentence1": "a", "sentence2": row["review"], "score": row["stars"]} for row in rows]
    found = read(table(tmp_path, pairs, ".csv"), task="regression")
    assert found.columns == {"text": "sentence1", "number": "score", "second": "sentence2"}


@pytest.mark.parametrize("mark", ["-", "-1", -1])
def test_rows_without_a_gold_label_are_left_out_and_counted(tmp_path: Path, mark: object) -> None:
    labels = [0, 1, 2] if mark != "-" else ["entailment", "neutral", "contradiction"]
    rows = [
        {"premise": f"a {n}", "hypothesis": f"b {n}", "label": mark if n < 5 else labels[n % 3]}
        for n in range(90)
    ]
    source = table(tmp_path, rows)
    for validation in (None, source):
        found = read(source, validation=validation)
        for part in (found.train, found.validation):
            assert {row["label"] for row in part} == set(map(str, labels))
        assert any(f"5 rows left out: {mark}" in note for note in found.notes)


def test_minus_one_is_a_label_where_many_rows_have_it(tmp_path: Path) -> None:
    rows = [{"premise": f"a {n}", "hypothesis": f"b {n}", "label": n % 3 - 1} for n in range(90)]
    assert {row["label"] for row in read(table(tmp_path, rows)).train} == {"-1", "0", "1"}


def test_every_label_is_validated_in_its_proportion_and_rare_ones_are_told(tmp_path: Path) -> None:
    rows = [{"text": f"t {n}", "label": "good" if n < 4 else "bad"} for n in range(400)]
    rows += [{"text": "odd", "label": "god"}]
    for seed in range(20):
        found = read(table(tmp_path, rows), seed=seed)
        held = [row["label"] for row in found.validation]
        assert held.count("good") == 1 and 36 <= held.count("bad") <= 41
    notes = " ".join(found.notes)
    assert "under 1 %" in notes and "'god' (1)" in notes and "'good' 1" in notes


def test_many_even_labels_are_no_rare_ones(tmp_path: Path) -> None:
    rows = [{"text": f"t {n}", "label": f"intent {n % 150}"} for n in range(3000)]
    assert not any("under 1 %" in note for note in read(table(tmp_path, rows)).notes)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"said": ["Ada", "ran"], "is": [1, 0]}, "label single words .--task tag"),
        ({"comment": "fine", "kinds": ["a", "b"]}, "several labels .--task multilabel"),
        ({"comment": "fine", "grams": 4.5}, "--task regression --columns text=comment,number=gr"),
        ({"comment": "fine", "toxic": 1, "insult": 0}, "several numbers"),
        ({"a": "one", "b": "two", "c": 4.5}, "first=a,second=b,score=c"),
    ],
)
def test_what_no_task_learns_is_named(tmp_path: Path, row: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=rf"{what}.*classify.*similarity"):
        read(table(tmp_path, [row] * 9))
    with pytest.raises(InputError, match=r"holds a list: several labels .* --task multilabel"):
        read(table(tmp_path, [{"text": "fine", "label": ["a", "b"]}] * 9), task="classify")
