"""Standard output in any encoding, prompts that are no UTF-8 or look like options, and outputs that
are refused before anything is computed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import scriven
from scriven.cli import run as command

SETTINGS = {"model.layers": 1, "model.d_model": 16, "model.heads": 2, "train.sample_seconds": 0}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `base` and `tuned`, and the table `table.csv`."""
    folder = tmp_path_factory.mktemp("output")
    (folder / "text.txt").write_text("the fox says a thing, and more of it.\n" * 60)
    rows = [f"{n} caf\u00e9 \U0001f600,{('no', 'yes')[n % 2]},old" for n in range(20)]
    table = folder / "table.csv"
    table.write_text("\n".join(["text,label,prediction", *rows]), encoding="utf-8")
    base = scriven.train(
        folder / "text.txt", out=folder / "base", budget="2steps", settings=SETTINGS, quiet=True
    )
    base.finetune(
        table, task="classify", out=folder / "tuned", budget="2steps", quiet=True,
        settings={"train.sample_seconds": 0},
    )  # fmt: skip
    return folder


def process(place: Path, encoding: str, *words: str | bytes) -> bytes:
    """Standard output of a command whose standard streams have this encoding."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "scriven", *words],
        cwd=place, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_what_standard_output_cannot_show_is_replaced(place: Path, encoding: str) -> None:
    out = process(place, encoding, "generate", "base", "caf\u00e9 \U0001f600", "--max-new-tokens=3")
    assert out.startswith("caf\u00e9 \U0001f600".encode(encoding, "replace"))
    # no row and no character of a prediction is lost
    rows = process(place, encoding, "predict", "tuned", "table.csv").decode(encoding).splitlines()
    assert [json.loads(row)["text"] for row in rows] == [
        f"{n} caf\u00e9 \U0001f600" for n in range(20)
    ]


def test_a_prompt_that_is_no_utf_8_is_continued(place: Path) -> None:
    out = process(place, "utf-8", "generate", "base", b"fox \xff", "--max-new-tokens=3")
    assert out.decode("utf-8").startswith("fox \ufffd")


def test_a_lone_surrogate_costs_no_row(place: Path) -> None:
    (place / "half.jsonl").write_text('{"text": "rain \\ud83d"}\n{"text": "sun"}\n')
    rows = process(place, "utf-8", "predict", "tuned", "half.jsonl").decode().splitlines()
    assert [json.loads(row)["text"] for row in rows] == ["rain \ufffd", "sun"]


def test_a_text_that_looks_like_an_option_is_told_of_the_two_dashes(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["generate", str(place / "base"), "- What"]) == 2
    assert "-- '- What'" in capsys.readouterr().err
    assert command(["generate", str(place / "base"), "--max-new-tokens=2", "--", "- What"]) == 0
    assert capsys.readouterr().out.startswith("- What")
    assert command(["predict", str(place / "tuned"), "--colour"]) == 2
    assert "--colour" in (told := capsys.readouterr().err) and "after --" not in told


@pytest.mark.parametrize("name", ["missing/x.csv", "x.txt", "folder.csv"])
def test_an_output_that_cannot_be_written_is_refused_before_the_model_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    assert command(["predict", str(tmp_path / "no run"), "x.csv", "-o", str(tmp_path / name)]) == 2
    told = capsys.readouterr().err
    assert "with -o" in told and "--out" not in told, told


def test_a_column_called_prediction_stays_and_the_new_name_is_told(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert command(["predict", str(place / "tuned"), str(place / "table.csv")]) == 0
    out, told = capsys.readouterr()
    row = json.loads(out.splitlines()[0])
    assert row["prediction"] == "old" and row["prediction_2"] in ("no", "yes")
    assert "prediction_2" in told


def test_help_shows_the_mask(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["generate", "--help"]) == 0
    assert "<mask>" in capsys.readouterr().out
