"""Predictions over any number of rows: in their order, each as if alone, in constant memory."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import scriven
from scriven.data.table import Table, TableRow
from scriven.generate import predict

from .finetuning import base_run, done, labelled, read_lines, sentence, tuned, write_lines
from .runs import command, refused, spawn

PAIRS = [{"source": sentence(n), "target": sentence(n + 7)} for n in range(20)]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("judge"), "llama", labelled())


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("writer"), "transformer", PAIRS)


def made(folder: Path, arch: str, rows: list[Any]) -> Path:
    patch = pytest.MonkeyPatch()
    patch.setenv("SCRIVEN_CACHE", str(folder / "cache"))
    tuned(base_run(folder, arch), write_lines(folder / "t.jsonl", rows), out=folder / "run")
    patch.undo()
    return folder / "run"


def lengths(count: int) -> list[str]:
    """Texts of very different lengths in no order."""
    return [(sentence(n) + " ") * (1 + n * 7 % 5) for n in range(count)]


def test_answers_stand_in_the_order_of_the_rows(
    judge: Path, writer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "AT_ONCE", 7)
    for run, column in ((judge, "text"), (writer, "source")):
        texts = lengths(40)
        table = write_lines(tmp_path / "t.jsonl", [{column: text, "id": i}
                                                   for i, text in enumerate(texts)])  # fmt: skip
        out = tmp_path / "out.jsonl"
        done("predict", run, table, "-o", out, "--max-new-tokens=4")
        rows = read_lines(out)
        assert [row["id"] for row in rows] == list(range(40))
        model = scriven.load(run)
        for row in rows[::9]:
            ((answer, chance),) = model.predict(
                [row[column]], **({} if probabilities(row) else SHORT)
            )
            assert answer == row["prediction"]
            assert chance is None or chance == pytest.approx(row["probability"], abs=1e-5)


SHORT = {"max_new_tokens": 4}


def probabilities(row: dict[str, Any]) -> bool:
    return "probability" in row


def test_rows_are_read_as_they_are_answered(
    judge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more rows are held than are answered at once, however many there are."""
    monkeypatch.setattr(predict, "AT_ONCE", 16)
    read, most, answered = 0, 0, 0
    right = Table.__iter__

    def counting(self: Table) -> Iterator[TableRow]:
        nonlocal read, most
        for row in right(self):
            read += 1
            most = max(most, read - answered)
            yield row

    monkeypatch.setattr(Table, "__iter__", counting)
    table = write_lines(tmp_path / "t.jsonl", labelled(500))
    found = iter(scriven.load(judge).predict_table(str(table)))
    for _ in found:
        answered += 1
    assert answered == 500
    assert most <= 16 + 1 + 1  # a look at the columns, and the row that begins a block


def test_scores_of_a_run_are_those_of_predict(judge: Path, tmp_path: Path) -> None:
    """Counted here from what predict wrote."""
    table = write_lines(tmp_path / "t.jsonl", labelled(60, ["good", "bad", "bad"]))
    out = tmp_path / "out.csv"
    done("predict", judge, table, "-o", out)
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    right = sum(row["label"] == row["prediction"] for row in rows) / len(rows)
    found = done("evaluate", judge, table)["scores"]["accuracy"]
    assert found["value"] == pytest.approx(right)
    assert found["low"] <= right <= found["high"]
    for row in rows:
        shares = {name: float(row[f"p({name})"]) for name in ("good", "bad")}
        assert row["prediction"] == max(shares, key=shares.__getitem__)
        assert float(row["probability"]) == max(shares.values())


def test_standard_output_gets_a_line_for_each_row_and_nothing_else(
    judge: Path, tmp_path: Path
) -> None:
    table = write_lines(tmp_path / "t.jsonl", labelled(5))
    code, out, err = command("predict", str(judge), str(table))
    assert (code, err) == (0, "")
    assert [json.loads(line)["text"] for line in out.splitlines()] == [
        row["text"] for row in labelled(5)
    ]


def test_a_column_of_the_table_is_never_overwritten(judge: Path, tmp_path: Path) -> None:
    rows = [{**row, "prediction": "mine"} for row in labelled(3)]
    first, second, third = (tmp_path / name for name in ("1.csv", "2.csv", "3.csv"))
    done("predict", judge, write_lines(tmp_path / "t.jsonl", rows), "-o", first)
    done("predict", judge, first, "-o", second)
    with second.open(newline="") as file:
        for row in csv.DictReader(file):
            assert row["prediction"] == "mine"
            assert row["prediction_2"] == row["prediction_3"]
            assert row["probability"] == row["probability_2"]
    uneven = write_lines(tmp_path / "u.jsonl", [*rows, {"text": "a", "later": 1}])
    said = refused("predict", str(judge), str(uneven), "-o", str(third))
    assert "later" in said
    assert ".jsonl" in said
    assert not third.exists()


def test_a_reader_that_leaves_costs_no_traceback(judge: Path, tmp_path: Path) -> None:
    table = write_lines(tmp_path / "t.jsonl", labelled(3000))
    process = spawn(
        "predict", str(judge), str(table), shell="{} | head -1; exit ${{PIPESTATUS[0]}}"
    )
    out, err = process.communicate(timeout=120)
    assert json.loads(out)["text"] == labelled(1)[0]["text"]
    assert err == ""
    assert process.returncode in (0, 141)


@pytest.mark.slow
def test_two_hundred_thousand_rows_take_no_more_memory_than_a_few(
    judge: Path, tmp_path: Path
) -> None:
    def peak(rows: int) -> int:
        table = tmp_path / f"{rows}.csv"
        with table.open("w") as file:
            file.write("text,label\n")
            file.writelines(f"rain fell {n} and more,good\n" for n in range(rows))
        out = tmp_path / f"{rows}-out.csv"
        process = spawn("predict", str(judge), str(table), "-o", str(out))
        _, _, used = os_wait(process)
        assert sum(1 for _ in out.open()) == rows + 1
        return used

    few, many = peak(5_000), peak(200_000)
    assert many < few + 40_000, (few, many)  # kB


def os_wait(process: Any) -> tuple[int, int, int]:
    """(process, exit code, most memory in kB); reads nothing, as there is little said."""
    import os

    number, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    process.stdout.close()
    process.stderr.close()
    return number, process.returncode, int(used.ru_maxrss)
