"""Tables as people have them: headings in other letters, choices in columns of their own, a context
beside the question, logs with other fields."""

from pathlib import Path
from typing import Any

import pytest

from scriven import frames
from scriven.errors import InputError, SettingError
from scriven.generate.predict import as_rows
from scriven.settings import DataSettings
from scriven.tasks.choice import Choice, choice_index
from scriven.tasks.shared.columns import BadValue, match_columns, parse_columns, read_row
from scriven.train.load_table import infer_task, load_table, table_tasks

TASKS = table_tasks()


def read(row: dict[str, Any], task: str | None = None, words: str = "") -> tuple[str, Any]:
    """(the task that the columns tell, the row as it uses it)"""
    name, chosen = infer_task(task, list(row), words)
    return name, read_row(TASKS[name].COLUMNS, chosen, row)


@pytest.mark.parametrize("heading", ["Text", "TEXT", " text ", "Review"])
def test_headings_in_other_letters_are_the_usual_ones(heading: str) -> None:
    assert read({heading: "fine", "Label": "1"}) == ("classify", {"text": "fine", "label": "1"})


def test_words_of_a_heading_may_be_joined_in_other_ways() -> None:
    row = {"Sentence1": "a", "Sentence2": "b", "Gold Label": "neutral"}
    assert read(row)[1] == {"premise": "a", "hypothesis": "b", "label": "neutral"}


def test_a_heading_as_it_is_usual_wins_over_other_letters() -> None:
    assert match_columns(TASKS["classify"].COLUMNS, ["Text", "review", "label"]) == {
        "text": "review",
        "label": "label",
    }


@pytest.mark.parametrize(
    "names",
    [
        ["choice1", "choice2", "choice3"],
        ["Option A", "Option B", "Option C"],
        ["ending0", "ending1", "ending2"],
        ["A", "B", "C"],
    ],
)
@pytest.mark.parametrize("answer", ["B", "b", "1", "two"])
def test_choices_may_stand_in_columns_of_their_own(names: list[str], answer: str) -> None:
    cells = dict(zip(names, ["one", "two", "three"], strict=True))
    name, row = read({"question": "which?", **cells, "answer": answer})
    assert name == "choice"
    assert row["choices"] == ["one", "two", "three"]
    assert Choice.gold_answer(row) == 1


def test_ten_choices_stand_in_the_order_of_their_numbers() -> None:
    cells = {f"choice{number}": str(number) for number in (10, *range(1, 10))}
    row = read({"question": "which?", **cells, "answer": "A"})[1]
    assert row["choices"] == [str(number) for number in range(1, 11)]


def test_a_row_may_have_fewer_choices_but_no_gap() -> None:
    row = {"question": "which?", "A": "one", "B": "two", "C": "", "D": None, "answer": "A"}
    assert read(row)[1]["choices"] == ["one", "two"]
    with pytest.raises(BadValue, match=r"'A\+B\+C' is empty"):
        read({"question": "which?", "A": "one", "B": "", "C": "three", "answer": "A"})


def test_a_series_can_be_named_and_stays_what_it_was() -> None:
    row = {"question": "which?", "yes": "one", "no": "two", "answer": "0"}
    name, found = read(row, "choice", "context=question,choices=yes+no,answer=answer")
    assert (name, found["choices"]) == ("choice", ["one", "two"])
    with pytest.raises(InputError, match="found are question, yes, no, answer"):
        read(row, "choice", "choices=yes+maybe")


def test_a_letter_that_is_a_choice_is_that_choice() -> None:
    assert choice_index("A", ["B", "A"]) == 1
    with pytest.raises(BadValue, match="from 0 to 1, or from A to B"):
        choice_index(2, ["x", "y"])
    with pytest.raises(BadValue, match="none of its choices"):
        choice_index("C", ["x", "y"])


def test_lists_are_read_out_of_the_cells_of_a_csv_file() -> None:
    row = {"question": "which?", "choices": '["one", "two"]', "answer": "1"}
    assert read(row)[1]["choices"] == ["one", "two"]
    talk = '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'
    assert len(read({"messages": talk})[1]["messages"]) == 2
    with pytest.raises(BadValue, match="needs a list"):
        read({"question": "which?", "choices": "[one", "answer": "1"})


def test_an_input_stands_below_its_instruction_and_a_context_above_its_question() -> None:
    found = read({"instruction": "Add.", "input": "1 2", "output": "3"})
    assert found == ("instruct", {"prompt": "Add.\n1 2", "completion": "3"})
    found = read({"question": "Who?", "context": "Ann sings.", "answer": "Ann"})
    assert found == ("instruct", {"prompt": "Ann sings.\nWho?", "completion": "Ann"})


@pytest.mark.parametrize("empty", ["", None])
def test_an_input_may_be_empty(empty: str | None) -> None:
    row = {"instruction": "Add.", "input": empty, "output": "3"}
    assert read(row)[1] == {"prompt": "Add.", "completion": "3"}


def test_a_context_beside_a_question_and_its_choices_is_read_with_it() -> None:
    row = {"context": "Ann sings.", "question": "Who?", "choices": ["Ann", "Bo"], "answer": 0}
    name, found = read(row)
    assert (name, found["context"]) == ("choice", "Ann sings.\nWho?")
    assert set(found) == {"context", "choices", "answer"}


def test_a_question_alone_is_read_once() -> None:
    row = {"question": "Who?", "choices": ["Ann", "Bo"], "answer": 0}
    assert read(row)[1]["context"] == "Who?"


def test_a_joined_column_that_was_asked_for_must_be_has_column() -> None:
    words = parse_columns("context=story", TASKS["instruct"].COLUMNS)
    assert match_columns(TASKS["instruct"].COLUMNS, ["prompt", "completion"], words) is None


def test_logs_with_from_and_value_are_conversations() -> None:
    log = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
    name, row = read({"id": 1, "conversations": log})
    assert name == "chat"
    assert row["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
    ]
    with pytest.raises(BadValue, match="the role 'tool' is none of"):
        read({"conversations": [{"from": "tool", "value": "x"}]})


def asked(task: str, inputs: Any) -> list[Any]:
    kind: Any = TASKS[task]
    return list(as_rows(kind, inputs))


def test_inputs_in_python_may_leave_away_what_is_joined() -> None:
    assert asked("instruct", ["a?", ("a?",), {"question": "a?"}]) == [{"prompt": "a?"}] * 3
    assert asked("choice", [("c", ["x", "y"]), ("c", ["x", "y"], "q?")]) == [
        {"context": "c", "choices": ["x", "y"]},
        {"context": "c\nq?", "choices": ["x", "y"]},
    ]


def test_a_conversation_in_python_is_one_input() -> None:
    talk = [{"role": "user", "content": "hi"}]
    for given in (talk, (talk,), {"messages": talk}, "hi"):
        assert asked("chat", [given]) == [{"messages": talk}]


@pytest.mark.parametrize("given", ["one text", {"text": "one"}])
def test_one_input_that_is_no_list_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match=r"predict\(\[...\]\)"):
        frames.predict(None, {}, given)  # type: ignore[arg-type]


def test_an_unknown_task_is_told_with_those_that_read_tables() -> None:
    with pytest.raises(
        SettingError, match="--task sentiment: known are answer, chat, choice, classify"
    ):
        infer_task("sentiment", ["text", "label"], "")


def ground(folder: Path, table: str, validation: str, skip: bool) -> Any:
    for name, content in (("rows.csv", table), ("held.csv", validation)):
        (folder / name).write_text("text,label\n" + content)
    return load_table(
        [str(folder / "rows.csv")],
        DataSettings(skip_bad=skip),
        task=None,
        columns="",
        validation=str(folder / "held.csv"),
        seed=0,
    )


def test_a_label_of_the_validation_table_alone_is_named_or_left_out(tmp_path: Path) -> None:
    parts = ("a,yes\nb,no\n", "c,yes\nd,maybe\n")
    with pytest.raises(InputError, match=r"held.csv row 3 has the label 'maybe'"):
        ground(tmp_path, *parts, skip=False)
    found = ground(tmp_path, *parts, skip=True)
    assert found.validation == [{"text": "c", "label": "yes"}]
    assert "1 row was skipped" in found.notes[0]


def test_a_table_of_bad_rows_alone_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no row of rows can be used: 2 rows were skipped"):
        ground(tmp_path, ",yes\n,no\n", "c,yes\n", skip=True)
