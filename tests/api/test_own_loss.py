"""With a loss of one's own, what is measured is still cross entropy, so figures stay comparable."""

import math
from pathlib import Path

import pytest
import torch

import scriven


def test_a_loss_of_ones_own_trains_but_does_not_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("It was a dark and stormy night. " * 60, encoding="utf-8")
    gpt = scriven.GPT(layers=1, heads=2, d_model=32, context_length=16, tokenizer="char")
    entropy = torch.nn.functional.cross_entropy
    gpt.compile(optimizer="adamw", loss=lambda logits, targets: 1000 * entropy(logits, targets))
    history = gpt.fit("book.txt", budget="3steps").history
    assert history["loss"][0] > 1000
    assert max(history["val_loss"]) < 2 * math.log(300)
    assert gpt.evaluate()["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-3)
