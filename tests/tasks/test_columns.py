"""Which task a table is for, which column is which, and what a column may hold."""

import math
from typing import Any

import pytest
from task_models import TASKS, rows

from scriven.errors import InputError, SettingError
from scriven.tasks.shared.classification import label_index, label_names
from scriven.tasks.shared.columns import (
    BadValue,
    label,
    match_columns,
    number,
    parse_columns,
    read_row,
    text,
    texts,
)
from scriven.tasks.shared.supervised import truncate_longest_first
from scriven.train.load_table import infer_task
from scriven.train.split_table import keep_rare_labels, split_rows

USUAL = {
    "classify": ["text", "label"],
    "entail": ["premise", "hypothesis", "label"],
    "similarity": ["first", "second", "score"],
    "choice": ["context", "choices", "answer"],
    "chat": ["messages"],
    "instruct": ["prompt", "completion"],
    "translate": ["source", "target"],
    "summarize": ["document", "summary"],
}


@pytest.mark.parametrize("task", USUAL)
def test_the_usual_columns_tell_the_task(task: str) -> None:
    for found in (USUAL[task], USUAL[task][::-1], [*USUAL[task], "id", "split"]):
        name, chosen = infer_task(None, found, "")
        assert name == task
        assert sorted(chosen.values()) == sorted(USUAL[task])


@pytest.mark.parametrize(
    ("found", "task"),
    [
        (["sentence", "label"], "classify"),
        (["review", "stars", "sentiment"], "classify"),
        (["sentence1", "sentence2", "label"], "entail"),
        (["sentence_A", "sentence_B", "relatedness_score"], "similarity"),
        (["sentence_A", "sentence_B", "entailment_label"], "entail"),
        (["question", "choices", "answer"], "choice"),
        (["question", "answer"], "instruct"),
        (["instruction", "output"], "instruct"),
        (["article", "title"], "summarize"),
        (["text", "summary"], "summarize"),
        (["src", "tgt"], "translate"),
        (["premise", "hypothesis", "gold_label", "text"], "entail"),
    ],
)
def test_names_in_use_elsewhere_tell_the_task(found: list[str], task: str) -> None:
    assert infer_task(None, found, "")[0] == task


@pytest.mark.parametrize(
    "found",
    [
        ["sentence_A", "sentence_B", "relatedness_score", "entailment_label"],
        ["text", "label", "summary"],
        ["messages", "prompt", "completion"],
        ["source", "target", "text", "label"],
    ],
)
def test_what_fits_several_tasks_is_asked_for(found: list[str]) -> None:
    with pytest.raises(InputError, match="choose one with --task") as caught:
        infer_task(None, found, "")
    assert all(name in str(caught.value) for name in found)


@pytest.mark.parametrize("found", [["a", "b"], ["text"], ["label"], ["Texts", "Labels"], []])
def test_what_fits_no_task_is_told_with_what_there_is(found: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        infer_task(None, found, "")
    assert ", ".join(found) in str(caught.value)
    assert "classify" in str(caught.value)
    with pytest.raises(InputError) as caught:
        infer_task("classify", found, "")
    assert (", ".join(found) or "none") in str(caught.value)


def test_a_task_that_reads_texts_is_refused() -> None:
    for name in ("language", "pairs", "masked", "seq2seq"):
        with pytest.raises(SettingError, match="reads texts, not tables"):
            infer_task(name, ["text", "label"], "")


def test_a_name_that_was_given_wins_and_must_be_has_column() -> None:
    task = TASKS["classify"]
    found = ["text", "sentence", "label", "topic"]
    assert match_columns(task.COLUMNS, found) == {"text": "text", "label": "label"}
    given = {"text": "sentence", "label": "topic"}
    assert match_columns(task.COLUMNS, found, given) == given
    assert match_columns(task.COLUMNS, found, {"text": "body"}) is None


def test_what_the_model_should_find_may_be_missing_columns() -> None:
    for name, kind in TASKS.items():
        read = {own: column for own, column in kind.COLUMNS.items() if not column.answer}
        asked = [column.names[0] for column in read.values()]
        assert match_columns(read, asked) is not None, name
        whole = [column.names[0] for column in kind.COLUMNS.values()]
        found = match_columns(kind.COLUMNS, asked)
        fits = found is not None and kind.fits(set(found) - {"positive", "negative"})
        assert fits == (len(asked) == len(whole)), name


@pytest.mark.parametrize("words", ["a=b", "text", "text=", "=text", "text=a,label"])
def test_a_mapping_that_is_none_is_refused(words: str) -> None:
    with pytest.raises(InputError, match="write text=NAME"):
        parse_columns(words, TASKS["classify"].COLUMNS)


def test_a_mapping_is_read() -> None:
    columns = TASKS["classify"].COLUMNS
    assert parse_columns("", columns) == {}
    assert parse_columns(" text = the review , label=stars", columns) == {
        "text": "the review",
        "label": "stars",
    }


GOOD: list[tuple[Any, Any, Any]] = [
    (text, " a ", " a "), (text, "\0", "\0"), (label, " a b ", "a b"), (label, 3, "3"),
    (label, True, "True"), (label, "🎭", "🎭"), (number, "1e3", 1000.0), (number, 3, 3.0),
    (number, " 2.5 ", 2.5), (texts, ["a", "b"], ["a", "b"]),
]  # fmt: skip
BAD: list[tuple[Any, Any, str]] = [
    (text, "", "is empty"), (text, " \n", "is empty"), (text, 3, "a number"),
    (text, 2.5, "number"), (text, None, "nothing"), (text, ["a"], "a list"),
    (text, {}, "an object"), (text, b"a", "bytes"), (label, "", "is empty"),
    (label, math.nan, "number"), (label, None, "nothing"), (label, ["a"], "a list"),
    (number, "nan", "'nan', not a number"), (number, math.nan, "nan"), (number, math.inf, "inf"),
    (number, "", "''"), (number, None, "nothing"), (number, [1], "list"),
    (number, True, "true or false"), (number, "1,5", "'1,5'"), (texts, "ab", "two texts"),
    (texts, ["a"], "two texts"), (texts, ["a", 3], "a number"), (texts, ["a", " "], "is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("read", "value", "wanted"), GOOD)
def test_values_that_can_be_used(read: Any, value: Any, wanted: Any) -> None:
    assert read(value) == wanted


@pytest.mark.parametrize(("read", "value", "why"), BAD)
def test_values_that_cannot_be_used_say_why(read: Any, value: Any, why: str) -> None:
    with pytest.raises(BadValue) as caught:
        read(value)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_reads_its_own_rows_and_hides_their_answers(name: str) -> None:
    kind = TASKS[name]
    for row in rows(name, 4):
        same = read_row(kind.COLUMNS, {own: own for own in kind.COLUMNS}, row)
        kind.check_answer(same)
        assert str(kind.gold_answer(same)) != ""
        assert (
            str(kind.gold_answer(same)) not in kind.format_row(same).split(" | ")
            or name == "choice"
        )
        assert kind.without_answer(kind.without_answer(same)) == kind.without_answer(same)


def test_a_row_that_lacks_a_column_names_it() -> None:
    kind = TASKS["classify"]
    with pytest.raises(BadValue, match="has no column 'lbl'"):
        read_row(kind.COLUMNS, {"text": "text", "label": "lbl"}, {"text": "a"})
    with pytest.raises(BadValue, match="'lbl' is empty"):
        read_row(kind.COLUMNS, {"text": "text", "label": "lbl"}, {"text": "a", "lbl": ""})


def test_labels_are_sorted_whole_numbers_by_value() -> None:
    def names(*found: str) -> list[str]:
        return label_names({"label": each} for each in found)

    assert names("b", "a", "b") == ["a", "b"]
    assert names("10", "9", "-1") == ["-1", "9", "10"]
    assert names("10", "9", "x") == ["10", "9", "x"]
    with pytest.raises(InputError, match="every row has the label 'a'"):
        names("a", "a")
    with pytest.raises(InputError, match="no column of labels"):
        names(*map(str, range(50)))
    assert label_index("b", ["a", "b"]) == 1
    assert label_index(None, ["a"]) is None
    with pytest.raises(BadValue, match=r"'c', which training never saw; known are a, b$"):
        label_index("c", ["a", "b"])


def test_one_label_that_some_texts_lack_is_enough_to_tell_apart() -> None:
    def names(*found: list[str]) -> Any:
        return TASKS["multilabel"].label_metadata({"labels": each} for each in found)

    assert names(["a"], []) == {"labels": ["a"]}
    assert names(["10"], ["9"]) == {"labels": ["9", "10"]}
    with pytest.raises(InputError, match="nothing to tell apart"):
        names(["a"], ["a"])


def test_two_tags_are_enough_to_tell_apart() -> None:
    def names(*found: list[str]) -> Any:
        return TASKS["tag"].label_metadata({"tags": each} for each in found)

    assert names(["O", "B-PER"], ["O"]) == {"labels": ["B-PER", "O"]}
    with pytest.raises(InputError, match="every word has the tag 'O'"):
        names(["O", "O"], ["O"])


# ------------------------------------------------------------------ splits


def pairs(count: int) -> list[dict[str, Any]]:
    return [{"text": f"t{n}", "label": "ab"[n % 2]} for n in range(count)]


def test_a_split_is_a_function_of_seed_and_rows_alone() -> None:
    table = pairs(200)
    train, held_out = split_rows(TASKS["classify"], table, 0.1, 0)
    assert (len(train), len(held_out)) == (180, 20)
    again = split_rows(TASKS["classify"], table[::-1], 0.1, 0)
    assert sorted(row["text"] for row in again[1]) == sorted(row["text"] for row in held_out)
    assert split_rows(TASKS["classify"], table, 0.1, 1)[1] != held_out
    assert [row for row in table if row in train] == train


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_neither_part_of_a_split_is_empty(share: float) -> None:
    for count in (2, 3, 10):
        train, held_out = split_rows(TASKS["classify"], pairs(count), share, 3)
        assert train
        assert held_out
    assert split_rows(TASKS["classify"], pairs(1) * 5, share, 3) == (pairs(1) * 5, [])


def test_copies_of_a_row_stay_together() -> None:
    train, held_out = split_rows(TASKS["classify"], pairs(20) * 3, 0.3, 0)
    assert not {row["text"] for row in train} & {row["text"] for row in held_out}


def test_what_is_asked_stays_on_one_side_whatever_the_answer() -> None:
    table = [*pairs(40), *({**row, "label": "c"} for row in pairs(40))]
    train, held_out = split_rows(TASKS["classify"], table, 0.25, 0)
    assert (len(train), len(held_out)) == (60, 20)
    assert not {row["text"] for row in train} & {row["text"] for row in held_out}


def test_the_share_that_is_held_out_is_one_of_rows() -> None:
    table = [*pairs(50), *[{"text": "the same", "label": "a"}] * 50]
    train, held_out = split_rows(TASKS["classify"], table, 0.1, 0)
    assert (len(train), len(held_out)) == (90, 10)  # of the copies all, or none


def test_a_label_is_never_held_out_altogether() -> None:
    rare = {"text": "r", "label": "rare"}
    notes: list[str] = []
    train, held_out = keep_rare_labels(TASKS["classify"], pairs(4), [rare, *pairs(2)], notes)
    assert train == [*pairs(4), rare]
    assert held_out == pairs(2)
    assert notes == ["1 row with labels of no other row: never held out"]


# ------------------------------------------------------------------ what fits


def slow_fit(sizes: list[int], room: int) -> list[int]:
    """One token after the other, off the longest part, the last of equally long ones."""
    kept = list(sizes)
    while sum(kept) > room:
        longest = max(kept)
        kept[max(place for place, size in enumerate(kept) if size == longest)] -= 1
    return kept


@pytest.mark.parametrize("room", range(1, 14))
def test_the_longest_part_loses_its_end_first(room: int) -> None:
    for sizes in ([3, 9], [9, 3], [5, 5], [1, 1, 12], [7], [4, 5, 6], [0, 20]):
        parts = [list(range(size)) for size in sizes]
        kept, lost = truncate_longest_first(parts, room)
        assert [len(part) for part in kept] == slow_fit(sizes, room)
        assert all(part == list(range(len(part))) for part in kept)
        assert lost == max(0, sum(sizes) - room)
