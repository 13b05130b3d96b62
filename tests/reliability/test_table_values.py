"""Whatever stands in a table is used, counted, or refused in one line with nothing written."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from .finetuning import (
    changed,
    done,
    labelled,
    read_columns,
    read_lines,
    refuses,
    sentence,
    tuned,
    write_lines,
)
from .runs import refused

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
def test_a_wrong_value_is_named_or_skipped_and_counted(
    base: Path, tmp_path: Path, case: str
) -> None:
    change, why = WRONG[case]
    table = write_lines(tmp_path / "t.jsonl", changed(change))
    said = refuses(base, table, out=tmp_path / "run")
    assert "t.jsonl row 6 " in said
    assert why in said
    assert "skip_bad" in said
    found = tuned(base, table, "--skip-bad", out=tmp_path / "run")
    assert "1 row was skipped" in found["said"]
    assert "row 6 " in found["said"]


@pytest.mark.parametrize("score", ["NaN", "Infinity", '"many"', "null", "[1]", "true", '""'])
def test_a_score_that_is_no_number_is_refused(base: Path, tmp_path: Path, score: str) -> None:
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
def test_half_broken_lines_are_named_or_skipped_and_counted(
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


def test_a_file_of_nothing_but_broken_lines_is_refused(base: Path, tmp_path: Path) -> None:
    table = write_lines(tmp_path / "t.jsonl", ["{", "{", "{"])
    assert "row 1 " in refuses(base, table, out=tmp_path / "run")
    assert "no rows" in refuses(base, table, "--skip-bad", out=tmp_path / "run")


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
    share = "--data.val_fraction=0.5"
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
            # the header of a .tsv says that there are quotes
            how = {"delimiter": "\t", "quoting": csv.QUOTE_ALL} if suffix == "tsv" else {}
            writing = csv.DictWriter(file, ["text", "label"], **how)  # type: ignore[arg-type]
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
def test_too_few_rows_to_split_are_refused(base: Path, tmp_path: Path, rows: int) -> None:
    table = write_lines(tmp_path / "t.jsonl", labelled(24)[:rows] * 5)
    said = refuses(base, table, out=tmp_path / "run")
    assert "too few" in said or "nothing to tell apart" in said


def test_one_row_is_learned_with_a_table_to_measure_on(writer: Path, tmp_path: Path) -> None:
    one = write_lines(tmp_path / "one.jsonl", [{"source": "rain", "target": "fell"}])
    other = write_lines(tmp_path / "other.jsonl", [{"source": "see", "target": "him"}])
    found = tuned(writer, one, f"--validation={other}", out=tmp_path / "run")
    assert found["val_rows"] == 1
    assert math.isfinite(found["val_loss"])


def test_an_empty_validation_table_is_refused(base: Path, tmp_path: Path) -> None:
    table = write_lines(tmp_path / "t.jsonl", labelled())
    (tmp_path / "v.jsonl").write_text("\n")
    assert "v.jsonl has no rows" in refuses(
        base, table, f"--validation={tmp_path / 'v.jsonl'}", out=tmp_path / "run"
    )
    for share in ("0", "1", "nan", "-0.5"):
        said = refuses(base, table, f"--data.val_fraction={share}", out=tmp_path / "run")
        assert "--data.val_fraction" in said
    other = write_lines(tmp_path / "w.jsonl", [{"a": 1, "b": 2}])
    assert "found are a, b" in refuses(base, table, f"--validation={other}", out=tmp_path / "run")


def test_rows_in_both_parts_are_told(base: Path, tmp_path: Path) -> None:
    table = write_lines(tmp_path / "t.jsonl", labelled())
    check = write_lines(tmp_path / "v.jsonl", [*labelled(30)[20:]])
    found = tuned(base, table, f"--validation={check}", out=tmp_path / "run")
    assert "4 of 10 validation rows are training rows too" in found["said"]
    assert found["val_rows"] == 10


def test_equal_rows_stay_on_one_side(base: Path, tmp_path: Path) -> None:
    table = write_lines(tmp_path / "t.jsonl", labelled(8) * 6)
    found = tuned(base, table, out=tmp_path / "run")
    assert "training rows too" not in found["said"]
    assert found["val_rows"] == 12  # one question of each label


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
    same = read_columns(tmp_path / "out.csv")
    assert same[5]["p(good)"] == same[6]["p(good)"], "the documented end is cut: what differs"
