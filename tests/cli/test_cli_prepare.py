"""`scriven prepare` as a command, and `scriven train` on what it made."""

import json
from pathlib import Path

import pytest

from scriven import load
from scriven.cli import run

STORY = "It was a dark and stormy night; she said nothing, and the rain fell on the town. "
SHAPE = ["--model.layers=1", "--model.heads=2", "--model.d_model=32", "--model.context_length=16"]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [json.dumps({"text": f"{number}. {STORY * 3}"}) for number in range(60)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows) + "\noops\n")
    (tmp_path / "b.txt").write_text(STORY * 90)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(["prepare", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("scriven: ")
    return last


def test_json_is_one_object_with_the_counts(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prepare", "a.jsonl", "--skip-bad", "--out", "data", "--json"]) == 0
    out, err = capsys.readouterr()
    made = json.loads(out)
    assert (made["documents"], made["skipped"], made["out"]) == (60, 1, "data")
    for name in ("bytes", "train_tokens", "validation_tokens", "shards", "seconds"):
        assert made[name] > 0
    assert "learning a tokenizer" in err
    assert run(["prepare", "--skip-bad", "a.jsonl", "--out", "data", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "1 row, first a.jsonl row 61 is not JSON" in out


def test_what_cannot_be_done_is_one_line(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in [
        (["a.jsonl", "--out", "d"], "a.jsonl row 61 is not JSON"),
        (["b.txt"], "name the folder to write: --out"),
        (["--out", "d"], "no text"),
        (["c.txt", "--out", "d"], "c.txt does not exist"),
        (["b.txt", "--out", "b.txt"], "is a file"),
        (["b.txt", "--out", "d", "--tokenizer", "nothing"], "no run nothing"),
        (["b.txt", "--out", "d", "--tokenizer.kind", "wordpiece"], "unknown tokenizer 'wordpiece'"),
        (["b.txt", "--out", "d", "--optim.lr", "1"], "--optim.lr"),
        (["b.txt", "--out", "d", "--weights", "c=1"], "names no source"),
        (["b.txt", "--out", "d", "--format", "x"], "--format x"),
        (["hf:", "--out", "d"], "write hf:NAME"),
    ]:
        assert message in refused(capsys, *words)


def test_a_run_is_trained_stopped_gone_on_with_and_measured(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prepare", "b.txt", "a.jsonl", "--skip-bad", "--out", "data", "--weights", "b=1,a=2"]
    assert run([*words, "--quiet"]) == 0
    capsys.readouterr()
    train = ["train", "data", *SHAPE, "--json", "--quiet"]
    assert run([*train, "--budget", "6steps"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["run"] == "runs/data"
    assert run([*train, "--budget", "6steps"]) == 0  # it is finished: the same result again
    assert json.loads(capsys.readouterr().out)["val_loss"] == first["val_loss"]
    measured = load("data").evaluate()
    assert measured["loss"] == pytest.approx(first["val_loss"], abs=1e-5)
    prepared = json.loads((desk / "data" / "manifest.json").read_text())
    assert measured["tokens"] == prepared["validation_tokens"]
    assert run(["prepare", "b.txt", "--out", "two", "--tokenizer", "data", "--quiet"]) == 0
    again = json.loads((desk / "two" / "manifest.json").read_text())
    assert again["tokenizer"] == prepared["tokenizer"]
