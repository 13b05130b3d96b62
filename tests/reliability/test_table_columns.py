"""Which columns of a table are used, and what is said where they are missing."""

from pathlib import Path

import pytest

from .finetuning import done, labelled, read_lines, refuses, sentence, tuned, write_lines
from .runs import refused


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


def test_a_table_that_is_not_there_is_told_with_the_nearest(base: Path, tmp_path: Path) -> None:
    said = refuses(base, tmp_path / "shakespeare-genr", out=tmp_path / "run")
    assert "did you mean shakespeare-genre" in said
    assert "built-in tables: shakespeare-genre, shakespeare-next, shakespeare-reply" in said
