"""Tables of every kind, standard input, and what is written."""

import csv
import io
import json
import sys
from pathlib import Path

import pytest

from .finetuning import (
    changed,
    done,
    labelled,
    read_columns,
    refuses,
    tuned,
    write_lines,
)
from .runs import command, refused


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
    made = read_columns(out)
    assert list(made[0])[:3] == ["text", "label", "prediction"]
    assert made[5]["text"] == quoted
    if (separator, end) == (";", "\n"):
        assert tuned(base, table, out=tmp_path / "run")["val_rows"] == 2
        return
    assert done("evaluate", judge, table)["rows"] == 24


@pytest.mark.parametrize("line", ["one,two,good", "one", '"one,good'])
def test_a_row_of_another_width_is_named(base: Path, tmp_path: Path, line: str) -> None:
    rows = [f"{row['text']},{row['label']}" for row in labelled()]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["text,label", *rows, line]) + "\n")
    assert "t.csv row 26 " in refuses(base, table, out=tmp_path / "run")
    found = tuned(base, table, "--skip-bad", out=tmp_path / "run")
    assert "1 row was skipped" in found["said"]


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
