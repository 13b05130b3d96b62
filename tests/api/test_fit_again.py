"""`GPT.fit` on a second text goes on with the model and the tokenizer of the first."""

import math
from pathlib import Path

import pytest

import scriven
from scriven.train.trackers.jsonl import read_events

SHAPE = {"layers": 1, "heads": 2, "d_model": 32, "context_length": 16}


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_a_second_fit_keeps_the_first_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCRIVEN_CACHE", str(tmp_path / "cache"))
    Path("a.txt").write_text("the rain fell on the town and no one came to see it " * 60)
    Path("b.txt").write_text("no one on the town came to see it and the rain fell! " * 60)
    gpt = scriven.GPT(tokenizer=kind, **SHAPE)
    settings = {"tokenizer.vocab_size": 300, "train.log_seconds": 0} if kind == "bpe" else {}
    gpt.fit("a.txt", budget="60steps", settings={**settings, "train.log_seconds": 0})
    assert gpt.model is not None
    tokenizer = gpt.model.tokenizer.fingerprint
    gpt.fit("b.txt", budget="20steps", out="runs/second", settings={"train.log_seconds": 0})
    assert gpt.model.tokenizer.fingerprint == tokenizer
    first = next(e for e in read_events(Path("runs/second/metrics.jsonl")) if e["event"] == "step")
    assert first["loss"] < math.log(gpt.model.tokenizer.vocab_size) - 0.5, "nothing was forgotten"
    # what opens the run later finds the same tokens
    assert gpt.evaluate()["loss"] == pytest.approx(gpt.model.results["val_loss"], rel=1e-6)
    longer = scriven.train(resume="runs/second", budget="+10steps", quiet=True)
    assert longer.results["steps"] == 30
    assert longer.tokenizer.fingerprint == tokenizer
