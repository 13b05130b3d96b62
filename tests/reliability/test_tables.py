"""Whatever stands in a table is used, counted, or refused in one line with nothing written."""

import csv
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from .runs import command, refused
from .tuning import base_run, done, labelled, read_lines, refuses, sentence, tuned, write_lines


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_run(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_run(tmp_path_factory.mktemp("base"), "transformer")


@pytest.fixture(scope="module")
def judge(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model fine-tuned to tell good from bad."""
    folder = tmp_path_factory.mktemp("judge")
    patch = pytest.MonkeyPatch()
    patch.setenv("SCRIVEN_CACHE", str(folder / "cache"))
    tuned(base, write_lines(folder / "t.jsonl", labelled()), out=folder / "run")
    patch.undo()
    return folder / "run"


def changed(change: dict[str, Any], at: int = 5, rows: list[Any] | None = None) -> list[Any]:
    """Good rows, of which one has other values."""
    made: list[Any] = labelled() if rows is None else list(rows)
    made[at] = {**made[at], **change}
    return made


# ------------------------------------------------------------------ columns


def test_a_missing_column_is_told_with_those_found(base: Path, tmp_path: Path) -> None:
    rows = [{"txt": row["text"], "lbl": row["label"]} for row in labelled()]
    table = write_lines(tmp_path / "t.jsonl", rows)
    said = refuses(base, table, out=tmp_path / "run")
    assert "txt, lbl" in said
    assert "--columns" in said
    said = refuses(base, table, "--task=classify", out=tmp_path / "run")
    assert "txt, lbl" in said
    assert "text" in said
    said = refuses(base, table, "--task=classify", "--columns=text=txt,label=lbel",
                   out=tmp_path / "run")  # fmt: skip
    assert "lbel" in said
    assert "txt, lbl" in said


def test_columns_are_mapped_and_the_mapping_is_kept(base: Path, tmp_path: Path) -> None:
    rows = [{"txt": row["text"], "lbl": row["label"], "id": 7} for row in labelled()]
    table = write_lines(tmp_path / "t.jsonl", rows)
    tuned(base, table, "--task=classify", "--columns=text=txt,label=lbl", out=tmp_path / "run")
    out = tmp_path / "out.jsonl"
    assert done("predict", tmp_path / "run", table, "-o", out)["rows"] == 24
    assert [row["txt"] for row in read_lines(out)] == [row["txt"] for row in rows]
    assert done("evaluate", tmp_path / "run", table)["rows"] == 24
    usual = write_lines(tmp_path / "usual.jsonl", labelled())  # the usual names do as well
    assert done("evaluate", tmp_path / "run", usual)["rows"] == 24
    other = write_lines(tmp_path / "other.jsonl", [{"body": "a", "lbl": "good"}])
    assert "body, lbl" in refused("predict", str(tmp_path / "run"), str(other))
    assert "body, lbl" in refused("evaluate", str(tmp_path / "run"), str(other))


def test_columns_that_fit_two_tasks_ask_for_one(base: Path, tmp_path: Path) -> None:
    rows = [
        {"sentence1": sentence(n), "sentence2": sentence(n + 1), "label": "ab"[n % 2], "score": n}
        for n in range(12)
    ]
    table = write_lines(tmp_path / "t.jsonl", rows)
    said = refuses(base, table, out=tmp_path / "run")
    assert "entail and similarity" in said
    assert "--task" in said
    assert tuned(base, table, "--task=entail", out=tmp_path / "run")["task"] == "entail"


@pytest.mark.parametrize(
    "words", ["text", "text=", "=a", "body=text", "text=text,label=label,other=label"]
)
def test_a_wrong_mapping_is_refused(base: Path, tmp_path: Path, words: str) -> None:
    table = write_lines(tmp_path / "t.jsonl", labelled())
    said = refuses(base, table, "--task=classify", f"--columns={words}", out=tmp_path / "run")
    assert "--columns" in said


@pytest.mark.parametrize("task", ["language", "none", "masked", ""])
def test_an_impossible_task_is_refused(base: Path, tmp_path: Path, task: str) -> None:
    table = write_lines(tmp_path / "t.jsonl", labelled())
    assert "classify" in refuses(base, table, f"--task={task}", out=tmp_path / "run")


@pytest.mark.parametrize("name", ["t.txt", "none.csv", "empty.csv", "head.csv", "none", "folder"])
def test_what_is_no_table_is_refused(base: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "t.txt").write_text("text,label\na,b\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "head.csv").write_text("text,label\n")
    (tmp_path / "folder").mkdir()
    refuses(base, tmp_path / name, out=tmp_path / "run")


# ------------------------------------------------------------------ values

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "empty text": ({"text": ""}, "is empty"),
    "blank text": ({"text": " \n\t"}, "is empty"),
    "number as text": ({"text": 5}, "holds a number, not a text"),
    "nothing as text": ({"text": None}, "holds nothing"),
    "list as text": ({"text": ["a"]}, "holds a list"),
    "list as label": ({"label": ["good"]}, "holds a list"),
    "object as label": ({"label": {"a": 1}}, "holds an object"),
    "empty label": ({"label": " "}, "is empty"),
    "no label": ({"label": None}, "holds nothing"),
}


@pytest.mark.parametrize("case", WRONG)
def test_C12_a_wrong_value_is_named_or_skipped_and_counted(
    base: Path, tmp_path: Path, case: str
) -> None:
    change, why = WRONG[case]
    table = write_lines(tmp_path / "t.jsonl", changed(change))
    said = refuses(base, table, out=tmp_path / "run")
    assert "t.jsonl row 6 " in said
    assert why in said
    assert "skip_bad" in said
    found = tuned(base, table, "--skip-bad", out=tmp_path / "run")
    assert "1 rows were skipped, first" in found["said"]
    assert "row 6 " in found["said"]


@pytest.mark.parametrize("score", ["NaN", "Infinity", '"many"', "null", "[1]", "true", '""'])
def test_C12_a_score_that_is_no_number_is_refused(base: Path, tmp_path: Path, score: str) -> None:
    good = [
        json.dumps({"first": sentence(n), "second": sentence(n + 3), "score": n % 5})
        for n in range(12)
    ]
    bad = '{"first": "a", "second": "b", "score": ' + score + "}"
    table = write_lines(tmp_path / "t.jsonl", [*good, bad])
    assert "row 13 'score' holds" in refuses(base, table, out=tmp_path / "run")
    found = tuned(base, table, "--skip-bad", out=tmp_path / "run")
    assert all(
        math.isfinite(each["value"]) or name in ("pearson", "spearman")
        for name, each in found["val_scores"].items()
    )


@pytest.mark.parametrize(
    "line",
    ['{"text": "a", "label": "good"', "not json", "[1, 2]", '"text"', "7", "{}", '{"text": "a"}',
     '{"label": "good"}', "null", "\0"],
)  # fmt: skip
def test_C12_half_broken_lines_are_named_or_skipped_and_counted(
    base: Path, tmp_path: Path, line: str
) -> None:
    rows: list[Any] = labelled()
    table = write_lines(tmp_path / "t.jsonl", [*rows[:9], "", line, *rows[9:], line])
    said = refuses(base, table, out=tmp_path / "run")
    assert "row 11 " in said
    assert "skip_bad" in said
    found = tuned(base, "--skip-bad", table, out=tmp_path / "run")
    assert "2 rows were skipped" in found["said"]
    out = tmp_path / "out.jsonl"
    if line != '{"text": "a"}':
        assert "row 11 " in refused("predict", str(tmp_path / "run"), str(table), "-o", str(out))
        assert not out.exists()
        counts = done("predict", tmp_path / "run", table, "--data.skip_bad", "-o", out)
        assert (counts["rows"], counts["skipped"]) == (24, 2)
    assert "row 11 " in refused("evaluate", str(tmp_path / "run"), str(table))
    scores = done("evaluate", tmp_path / "run", table, "--skip-bad")
    assert scores["rows"] == 24
    assert any("2 rows were skipped" in note for note in scores["notes"])


def test_C12_a_file_of_nothing_but_broken_lines_is_refused(base: Path, tmp_path: Path) -> None:
    table = write_lines(tmp_path / "t.jsonl", ["{", "{", "{"])
    assert "row 1 " in refuses(base, table, out=tmp_path / "run")
    assert "no rows" in refuses(base, table, "--skip-bad", out=tmp_path / "run")


# ------------------------------------------------------------------ labels and splits


def test_one_class_only_is_refused(base: Path, tmp_path: Path) -> None:
    table = write_lines(tmp_path / "t.jsonl", labelled(labels=["good"]))
    assert "every row has the label 'good'" in refuses(base, table, out=tmp_path / "run")


def test_a_column_of_different_texts_is_no_column_of_labels(base: Path, tmp_path: Path) -> None:
    rows = [{"text": sentence(n), "label": sentence(n)} for n in range(60)]
    said = refuses(base, write_lines(tmp_path / "t.jsonl", rows), out=tmp_path / "run")
    assert "is no column of labels" in said


def test_equal_scores_only_are_refused(base: Path, tmp_path: Path) -> None:
    rows = [{"first": sentence(n), "second": "b", "score": 3} for n in range(12)]
    said = refuses(base, write_lines(tmp_path / "t.jsonl", rows), out=tmp_path / "run")
    assert "every row has the score 3" in said


def test_a_label_that_training_never_saw_is_told_with_those_known(
    judge: Path, base: Path, tmp_path: Path
) -> None:
    table = write_lines(tmp_path / "t.jsonl", changed({"label": "ugly"}))
    said = refused("evaluate", str(judge), str(table), "--json")
    assert "row 6 " in said
    assert "'ugly'" in said
    assert "known are bad, good" in said
    found = done("evaluate", judge, table, "--skip-bad")
    assert found["rows"] == 23
    # as the part to measure on
    train = write_lines(tmp_path / "train.jsonl", labelled())
    said = refuses(base, train, f"--validation={table}", out=tmp_path / "run")
    assert "'ugly'" in said


@pytest.mark.parametrize("seed", range(4))
def test_a_label_of_one_row_is_learned_wherever_the_split_falls(
    base: Path, tmp_path: Path, seed: int
) -> None:
    rows = changed({"label": "rare"}, at=seed * 3)
    table = write_lines(tmp_path / "t.jsonl", rows)
    share = "--data.validation=0.5"
    found = tuned(base, table, share, f"--seed={seed}", out=tmp_path / "run")
    record = json.loads((tmp_path / "run" / "scriven.json").read_text())
    assert record["finetune"]["labels"] == ["bad", "good", "rare"]
    assert done("evaluate", tmp_path / "run")["rows"] == found["val_rows"]


NAMES = ["very good", "🎭 tragédie", "a,b;c", 'quoted "so"', "<|extract|>", "0.5", "=1+1", "no\tne"]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_label_names_survive_from_table_to_table(base: Path, tmp_path: Path, suffix: str) -> None:
    rows = labelled(32, NAMES)
    table = tmp_path / f"t.{suffix}"
    if suffix == "jsonl":
        write_lines(table, rows)
    else:
        with table.open("w", newline="", encoding="utf-8") as file:
            writing = csv.DictWriter(file, ["text", "label"], delimiter=",\t"[suffix == "tsv"])
            writing.writeheader()
            writing.writerows(rows)
    tuned(base, table, out=tmp_path / "run")
    record = json.loads((tmp_path / "run" / "scriven.json").read_text())
    assert record["finetune"]["labels"] == sorted(NAMES)
    for kind in ("jsonl", "csv", "tsv"):
        out = tmp_path / f"out.{kind}"
        assert done("predict", tmp_path / "run", table, "-o", out)["rows"] == 32
        if kind == "jsonl":
            made = read_lines(out)
        else:
            with out.open(newline="", encoding="utf-8") as file:
                made = list(csv.DictReader(file, delimiter=",\t"[kind == "tsv"]))
        assert [row["text"] for row in made] == [row["text"] for row in rows]
        assert [row["label"] for row in made] == [row["label"] for row in rows]
        assert {row["prediction"] for row in made} <= set(NAMES)
        assert all(f"p({name})" in made[0] for name in NAMES)
        assert sum(float(made[0][f"p({name})"]) for name in NAMES) == pytest.approx(1, abs=1e-5)
    assert done("evaluate", tmp_path / "run", table)["rows"] == 32


def test_whole_numbers_are_labels_in_their_order(base: Path, tmp_path: Path) -> None:
    rows = [{"text": sentence(n), "label": (10, 9, -1)[n % 3]} for n in range(24)]
    tuned(base, write_lines(tmp_path / "t.jsonl", rows), out=tmp_path / "run")
    record = json.loads((tmp_path / "run" / "scriven.json").read_text())
    assert record["finetune"]["labels"] == ["-1", "9", "10"]
    assert done("evaluate", tmp_path / "run", tmp_path / "t.jsonl")["rows"] == 24


@pytest.mark.parametrize("rows", [1, 2])
def test_B10_too_few_rows_to_split_are_refused(base: Path, tmp_path: Path, rows: int) -> None:
    table = write_lines(tmp_path / "t.jsonl", labelled(24)[:rows] * 5)
    said = refuses(base, table, out=tmp_path / "run")
    assert "too few" in said or "nothing to tell apart" in said


def test_one_row_is_learned_with_a_table_to_measure_on(writer: Path, tmp_path: Path) -> None:
    one = write_lines(tmp_path / "one.jsonl", [{"source": "rain", "target": "fell"}])
    other = write_lines(tmp_path / "other.jsonl", [{"source": "see", "target": "him"}])
    found = tuned(writer, one, f"--validation={other}", out=tmp_path / "run")
    assert found["val_rows"] == 1
    assert math.isfinite(found["val_loss"])


def test_C15_an_empty_validation_table_is_refused(base: Path, tmp_path: Path) -> None:
    table = write_lines(tmp_path / "t.jsonl", labelled())
    (tmp_path / "v.jsonl").write_text("\n")
    assert "v.jsonl has no rows" in refuses(
        base, table, f"--validation={tmp_path / 'v.jsonl'}", out=tmp_path / "run"
    )
    for share in ("0", "1", "nan", "-0.5"):
        said = refuses(base, table, f"--data.validation={share}", out=tmp_path / "run")
        assert "--data.validation" in said
    other = write_lines(tmp_path / "w.jsonl", [{"a": 1, "b": 2}])
    assert "found are a, b" in refuses(base, table, f"--validation={other}", out=tmp_path / "run")


def test_C15_rows_in_both_parts_are_told(base: Path, tmp_path: Path) -> None:
    table = write_lines(tmp_path / "t.jsonl", labelled())
    check = write_lines(tmp_path / "v.jsonl", [*labelled(30)[20:]])
    found = tuned(base, table, f"--validation={check}", out=tmp_path / "run")
    assert "4 of 10 validation rows are training rows too" in found["said"]
    assert found["val_rows"] == 10


def test_C15_equal_rows_stay_on_one_side(base: Path, tmp_path: Path) -> None:
    table = write_lines(tmp_path / "t.jsonl", labelled(8) * 6)
    found = tuned(base, table, out=tmp_path / "run")
    assert "training rows too" not in found["said"]
    assert found["val_rows"] == 6


def test_a_text_longer_than_the_context_is_cut_and_counted(
    judge: Path, base: Path, tmp_path: Path
) -> None:
    long = "rain fell " * 20
    rows = changed({"text": long + "x"}, rows=changed({"text": long}))
    rows[6]["text"] = long + "y"
    table = write_lines(tmp_path / "t.jsonl", rows)
    found = tuned(base, table, out=tmp_path / "run")
    assert "2 of 24 rows are longer than the context of 32 tokens" in found["said"]
    counts = done("predict", judge, table, "-o", tmp_path / "out.csv")
    assert (counts["rows"], counts["cut"]) == (24, 2)
    assert "2 rows were longer than the context" in counts["said"]
    scores = done("evaluate", judge, table)
    assert scores["cut"] == 2
    same = read_lines_of(tmp_path / "out.csv")
    assert same[5]["p(good)"] == same[6]["p(good)"], "the documented end is cut: what differs"


def read_lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_of_every_dialect_is_read(
    base: Path, judge: Path, tmp_path: Path, mark: str, separator: str, end: str
) -> None:
    text = io.StringIO()
    writing = csv.writer(text, delimiter=separator, lineterminator=end)
    writing.writerow(["text", "label"])
    quoted = 'he said: "rain"\nand, went; off\t.'
    writing.writerows([[row["text"], row["label"]] for row in changed({"text": quoted})])
    table = tmp_path / "t.csv"
    table.write_bytes((mark + text.getvalue()).encode())
    out = tmp_path / "out.csv"
    assert done("predict", judge, table, "-o", out)["rows"] == 24
    made = read_lines_of(out)
    assert list(made[0])[:3] == ["text", "label", "prediction"]
    assert made[5]["text"] == quoted
    if (separator, end) == (";", "\n"):
        assert tuned(base, table, out=tmp_path / "run")["val_rows"] == 2
        return
    assert done("evaluate", judge, table)["rows"] == 24


@pytest.mark.parametrize("line", ["one,two,good", "one", '"one,good'])
def test_C12_a_row_of_another_width_is_named(base: Path, tmp_path: Path, line: str) -> None:
    rows = [f"{row['text']},{row['label']}" for row in labelled()]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["text,label", *rows, line]) + "\n")
    assert "t.csv row 26 " in refuses(base, table, out=tmp_path / "run")
    found = tuned(base, table, "--skip-bad", out=tmp_path / "run")
    assert "1 rows were skipped" in found["said"]


def test_parquet_is_read_and_answered(judge: Path, base: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the data extra is not installed")
    import datetime

    import pyarrow

    day = datetime.datetime(2020, 1, 1)
    rows = [{**row, "day": day, "raw": b"\xff", "n": 1.5} for row in labelled()]
    table = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    assert tuned(base, table, out=tmp_path / "run")["val_rows"] == 2
    for suffix in ("csv", "jsonl"):
        out = tmp_path / f"out.{suffix}"
        assert done("predict", judge, table, "-o", out)["rows"] == 24
        assert "2020-01-01" in out.read_text()
    missing = pyarrow.Table.from_pylist([*rows, {**rows[0], "text": None}])
    parquet.write_table(missing, table)
    assert "row 25 'text' holds nothing" in refused("predict", str(judge), str(table))


def test_several_tables_are_one(judge: Path, tmp_path: Path) -> None:
    one = write_lines(tmp_path / "a.jsonl", labelled(3))
    (tmp_path / "b.csv").write_text("text,label\nrain,good\n")
    assert done("evaluate", judge, one, tmp_path / "b.csv")["rows"] == 4
    assert done("evaluate", judge, tmp_path / "*.*")["rows"] == 4


# ------------------------------------------------------------------ standard input and output


class Input:
    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


def typed(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setattr(sys, "stdin", Input(content.encode()))


def test_predict_reads_lines_and_objects_from_standard_input(
    judge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, '{"text": "the rain", "id": 3}\nrain fell\n\n{"text": "him"}\n')
    code, out, err = command("predict", str(judge), "-")
    assert (code, err) == (0, "")
    made = [json.loads(line) for line in out.splitlines()]
    assert [row["text"] for row in made] == ["the rain", "rain fell", "him"]
    assert made[0]["id"] == 3
    assert all(row["prediction"] in ("good", "bad") for row in made)


@pytest.mark.parametrize("content", ["", "\n \n", "{\n", '{"body": 1}\n'])
def test_predict_refuses_standard_input_without_rows(
    judge: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    typed(monkeypatch, content)
    refused("predict", str(judge), "-")


def test_a_model_taught_from_standard_input_is_measured_without_reading_it_again(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in labelled())
    typed(monkeypatch, lines)
    tuned(base, "-", out=tmp_path / "run")
    typed(monkeypatch, lines)
    found = done("evaluate", tmp_path / "run", "-")
    assert found["rows"] == 24
    assert any("standard input" in note for note in found["notes"])
    assert "standard input" in refused("evaluate", str(tmp_path / "run"))
    typed(monkeypatch, lines)  # the same command on the finished run
    assert "is finished" in tuned(base, "-", out=tmp_path / "run")["said"]


@pytest.mark.parametrize("name", ["out.txt", "out", "out.parquet", "nowhere/out.csv"])
def test_an_output_that_cannot_be_written_is_refused(
    judge: Path, tmp_path: Path, name: str
) -> None:
    table = write_lines(tmp_path / "t.jsonl", labelled(3))
    refused("predict", str(judge), str(table), "-o", str(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == ["t.jsonl"]


def test_predict_and_evaluate_need_a_fine_tuned_model(base: Path, tmp_path: Path) -> None:
    table = write_lines(tmp_path / "t.jsonl", labelled(3))
    assert "finetune" in refused("predict", str(base), str(table))
    assert "needs RUN" in refused("predict") or "RUN" in refused("predict")
    assert "no data" in refused("predict", str(base))
    assert "no data" in refused("finetune", str(base))


# ------------------------------------------------------------------ other tasks


def talks(count: int = 12) -> list[Any]:
    return [
        {"messages": [{"role": "user", "content": sentence(n)},
                      {"role": "assistant", "content": WORD[n % 3]}]}
        for n in range(count)
    ]  # fmt: skip


WORD = ("rain", "him", "see")


def user(text: Any = "rain") -> dict[str, Any]:
    return {"role": "user", "content": text}


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([], "no messages"), ("hi", "must be a list"), (None, "must be a list"),
        ([user()], "no answer of the assistant"),
        ([user(), {"role": "assistant", "content": "b"}, user()], "no answer of the assistant"),
        ([{"role": "assistant", "content": "b"}], "user"),
        ([user(), user()], "take turns"), ([user(5)], "must be text"),
        ([{"role": "robot", "content": "b"}], "robot"), ([{"content": "b"}], "no role"),
        ([["a"]], "object"),
    ],
)  # fmt: skip
def test_C12_C13_a_conversation_without_anything_to_learn_is_refused(
    base: Path, tmp_path: Path, messages: Any, why: str
) -> None:
    table = write_lines(tmp_path / "t.jsonl", [*talks(), {"messages": messages}])
    said = refuses(base, table, out=tmp_path / "run")
    assert "t.jsonl row 13 " in said
    assert why in said


def test_C13_what_has_no_answer_is_counted_and_the_rest_is_learned(
    base: Path, tmp_path: Path
) -> None:
    table = write_lines(tmp_path / "t.jsonl", [*talks(), {"messages": [user()]}])
    found = tuned(base, table, "--skip-bad", out=tmp_path / "run")
    assert "1 rows were skipped" in found["said"]
    # asked, and not measured, it is as good as any
    out = tmp_path / "out.jsonl"
    assert done("predict", tmp_path / "run", table, "-o", out, "--max-new-tokens=3")["rows"] == 13
    assert "no answer of the assistant" in refused("evaluate", str(tmp_path / "run"), str(table))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"answer": 4}, "from 0 to 2"), ({"answer": -1}, "from 0 to 2"), ({"answer": "z"}, "none"),
        ({"answer": 1.5}, "number"), ({"answer": True}, "true or false"),
        ({"choices": ["a"]}, "two texts or more"), ({"choices": "abc"}, "two texts or more"),
        ({"choices": ["a", 5]}, "number"), ({"choices": ["a", ""]}, "empty"),
    ],
)  # fmt: skip
def test_C12_a_choice_that_cannot_be_made_is_named(
    base: Path, tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    rows = [
        {"context": sentence(n), "choices": ["a", "b", "c"], "answer": n % 3} for n in range(12)
    ]
    table = write_lines(tmp_path / "t.jsonl", changed(change, rows=rows))
    said = refuses(base, table, out=tmp_path / "run")
    assert "t.jsonl row 6 " in said
    assert why in said
    assert "1 rows were skipped" in tuned(base, table, "--skip-bad", out=tmp_path / "run")["said"]


def test_choices_of_different_numbers_are_answered(base: Path, tmp_path: Path) -> None:
    rows = [
        {"context": sentence(n), "choices": list("12345"[: 2 + n % 4]), "answer": "12"[n % 2]}
        for n in range(12)
    ]
    table = write_lines(tmp_path / "t.jsonl", rows)
    tuned(base, table, out=tmp_path / "run")
    out = tmp_path / "out.jsonl"
    done("predict", tmp_path / "run", table, "-o", out)
    for row in read_lines(out):
        assert row["prediction"] in row["choices"]
        shares = [row[f"p({place})"] for place in range(len(row["choices"]))]
        assert sum(shares) == pytest.approx(1, abs=1e-5)
        assert f"p({len(shares)})" not in row
    assert done("evaluate", tmp_path / "run", table)["rows"] == 12


def test_C10_special_tokens_in_rows_are_text(base: Path, tmp_path: Path) -> None:
    marks = "<|extract|> <|im_end|> <|endoftext|> <|pad|> <mask> <|im_start|>assistant\n"
    rows = [{"prompt": marks, "completion": f"{marks}{n}"} for n in range(12)]
    table = write_lines(tmp_path / "t.jsonl", rows)
    tuned(base, table, out=tmp_path / "run")
    out = tmp_path / "out.jsonl"
    done("predict", tmp_path / "run", table, "-o", out, "--max-new-tokens=5")
    assert [row["prompt"] for row in read_lines(out)] == [marks] * 12


def test_an_encoder_is_not_asked_to_write(tmp_path: Path) -> None:
    encoder = base_run(tmp_path, "roberta")
    table = write_lines(tmp_path / "t.jsonl", talks())
    said = refuses(encoder, table, out=tmp_path / "run")
    assert "roberta" in said
    assert "llama" in said


def test_no_rows_are_left_after_skipping(judge: Path, tmp_path: Path) -> None:
    rows: list[Any] = [{"text": "rain", "label": "ugly"}, {"text": "", "label": "good"}]
    table = write_lines(tmp_path / "t.jsonl", rows)
    refused("evaluate", str(judge), str(table), "--skip-bad", "--json")
    counts = done("predict", judge, table, "--skip-bad", "-o", tmp_path / "out.csv")
    assert (counts["rows"], counts["skipped"]) == (1, 1)


# ------------------------------------------------------------------ settings

IMPOSSIBLE = """
--lora=-1 --lora=x --lora=1e9 --tune.rank=-1 --tune.weights=none --tune.auxiliary=-1
--tune.auxiliary=nan --tune.auxiliary=inf --model.width=64 --model.layers=2 --model.context=64
--model.dropout=1 --model.dropout=nan --train.batch=0 --train.micro_batch=0 --optim.rate=nan
--optim.rate=-1 --budget=0steps --budget=soon --seed=-1 --out= --arch=none --arch=gpt2 --nothing
--data.encoding=none-such --tokenizer.kind=byte --runtime.device=gpu --train.patience=-1
--tune.nothing=1
""".split()  # noqa: SIM905


@pytest.mark.parametrize("flag", IMPOSSIBLE)
def test_B9_impossible_settings_are_refused_with_nothing_written(
    base: Path, tmp_path: Path, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = write_lines(tmp_path / "t.jsonl", labelled())
    name = flag.split("=")[0]
    parts = ["--train.batch=4", "--budget=6steps", "--out=run"]
    kept = [part for part in parts if part.split("=")[0] != name]
    refused("finetune", str(base), str(table), *kept, flag, "--json")
    assert [path.name for path in tmp_path.iterdir()] == ["t.jsonl"]


@pytest.mark.parametrize("more", [["--head-only"], ["--lora=0"], ["--lora=4", "--head-only"]])
def test_B9_nothing_to_train_is_refused_with_nothing_written(
    writer: Path, tmp_path: Path, more: list[str]
) -> None:
    rows = [{"source": sentence(n), "target": sentence(n + 3)} for n in range(12)]
    refuses(writer, write_lines(tmp_path / "t.jsonl", rows), *more, out=tmp_path / "run")


# ------------------------------------------------------------------ what is measured


@pytest.mark.parametrize("rows", [labelled(1), labelled(5, ["good"]), labelled(5)])
def test_scores_of_few_rows_or_one_class_are_numbers_or_nothing(
    judge: Path, tmp_path: Path, rows: list[Any]
) -> None:
    scores = done("evaluate", judge, write_lines(tmp_path / "t.jsonl", rows))["scores"]
    assert 0 <= scores["accuracy"]["value"] <= 1
    for each in scores.values():
        assert all(math.isfinite(each[key]) for key in ("value", "low", "high"))


def alike(count: int) -> list[dict[str, Any]]:
    return [{"first": sentence(n), "second": sentence(n + 3), "score": n % 5} for n in range(count)]


@pytest.mark.parametrize("score", [None, 2])
@pytest.mark.parametrize("count", [1, 2, 12])
def test_equal_or_few_scores_are_measured_without_nonsense(
    base: Path, tmp_path: Path, score: int | None, count: int
) -> None:
    tuned(base, write_lines(tmp_path / "t.jsonl", alike(20)), out=tmp_path / "run")
    rows = alike(count) if score is None else [{**row, "score": score} for row in alike(count)]
    code, out, err = command("evaluate", str(tmp_path / "run"),
                             str(write_lines(tmp_path / "v.jsonl", rows)), "--json")  # fmt: skip
    assert code == 0, err
    assert "NaN" not in out
    assert "Infinity" not in out
    for name in ("pearson", "spearman"):
        value = json.loads(out)["scores"][name]["value"]
        assert value is None or -1 <= value <= 1
    assert command("evaluate", str(tmp_path / "run"), str(tmp_path / "v.jsonl"))[0] == 0


def test_a_block_of_nothing_but_bad_rows_is_passed_over(
    writer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scriven.api import answers

    monkeypatch.setattr(answers, "AT_ONCE", 3)
    pairs = [{"source": sentence(n), "target": sentence(n + 3)} for n in range(12)]
    tuned(writer, write_lines(tmp_path / "t.jsonl", pairs), out=tmp_path / "run")
    bad = [{"source": "", "target": "a"}] * 7
    table = write_lines(tmp_path / "p.jsonl", [pairs[0], *bad, pairs[1]])
    counts = done("predict", tmp_path / "run", table, "--skip-bad", "-o", tmp_path / "out.csv",
                  "--max-new-tokens=3")  # fmt: skip
    assert (counts["rows"], counts["skipped"]) == (2, 7)


def test_two_columns_of_one_name_are_refused(base: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label,text\na,b,c\nd,e,f\n")
    assert "two columns 'text'" in refuses(base, tmp_path / "t.csv", out=tmp_path / "run")


@pytest.mark.parametrize(
    "given", [5, None, ("a", "b"), (), {"body": "a"}, {"text": ""}, "", {"text": 3}, [["a"]]]
)
def test_what_python_gives_is_used_or_refused(judge: Path, given: Any) -> None:
    import scriven

    model = scriven.load(judge)
    assert len(model.predict(["rain", ("rain",), {"text": "rain"}, {"sentence": "rain"}])) == 4
    with pytest.raises(scriven.ScrivenError, match=r"^input 2 "):
        model.predict(["rain", given])


# ------------------------------------------------------------------ from one task to the next


def test_a_fine_tuned_model_is_fine_tuned_again(base: Path, judge: Path, tmp_path: Path) -> None:
    more = write_lines(tmp_path / "more.jsonl", labelled(30)[4:])
    same = tuned(judge, more, out=tmp_path / "same")
    assert same["task"] == "classify"
    before = done("evaluate", judge, more)["scores"]["accuracy"]["value"]
    assert 0 <= before <= 1
    other = write_lines(tmp_path / "other.jsonl", labelled(24, ["x", "y", "z"]))
    assert tuned(judge, other, out=tmp_path / "labels")["task"] == "classify"
    talk = write_lines(tmp_path / "talks.jsonl", talks())
    assert tuned(judge, talk, out=tmp_path / "chat")["task"] == "chat"
    assert tuned(tmp_path / "chat", other, "--lora=2", out=tmp_path / "back")["task"] == "classify"
    assert tuned(tmp_path / "back", talk, out=tmp_path / "again")["task"] == "chat"
    done("evaluate", tmp_path / "again", talk)
