"""Evaluation counts every token once, whatever the task, and hands users' metrics only those."""

import math
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scriven import registry
from scriven.data.shards import TokenFile, write_token_file
from scriven.evaluate.loss import Score, evaluate_loss, token_nll
from scriven.models.base import BASES
from scriven.runtime import choose_runtime
from scriven.settings import RuntimeSettings
from scriven.tasks.base import BaseTask

V, CONTEXT = 31, 8
SPECIAL = {"eos": V - 3, "pad": V - 2, "mask": V - 1}
RUNTIME = choose_runtime(RuntimeSettings(device="cpu", dtype="float32"))


def make(module: ModuleType) -> BaseTask:
    torch.manual_seed(0)
    config = module.Config(vocab_size=V, context_length=CONTEXT, layers=2, d_model=16)
    task = registry.module("scriven.tasks", module.Model.pretraining_task).Task(
        module.Model(config), special=SPECIAL
    )
    with torch.no_grad():
        for weight in task.parameters():
            weight.normal_(0, 0.3)
    made: BaseTask = task.double().eval()
    return made


@pytest.fixture
def shard(tmp_path: Path) -> TokenFile:
    ids = np.random.default_rng(0).integers(0, V - 3, 3 * CONTEXT + 5)
    write_token_file(tmp_path / "ids.bin", "<u2", ids)
    return TokenFile(tmp_path / "ids.bin", "<u2", len(ids))


@pytest.mark.parametrize("name", registry.names("scriven.models", BASES))
def test_every_token_counts_once_and_a_metric_sees_the_same(name: str, shard: TokenFile) -> None:
    task = make(registry.module("scriven.models", name))
    score = evaluate_loss(
        task,
        task.eval_batches(shard, torch.device("cpu")),
        text_bytes=100,
        runtime=RUNTIME,
        metrics={"mine": F.cross_entropy, "targets": lambda _, targets: targets.double().mean()},
    )
    assert score is not None
    assert score.tokens == len(shard)
    assert 2 ** (100 * score.bits_per_byte / len(shard)) == pytest.approx(np.exp(score.loss))
    assert score.metrics["mine"] == pytest.approx(score.loss, abs=1e-9)
    assert score.metrics["targets"] == pytest.approx(shard.read(0, len(shard)).mean(), abs=1e-9)


@pytest.mark.parametrize("name", ["llama", "rnn"])
def test_the_first_tokens_alone_have_the_loss_that_they_have_in_the_whole(
    name: str, shard: TokenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make(registry.module("scriven.models", name))
    tokenizer: Any = SimpleNamespace(decode=str)
    whole = token_nll(task, shard, tokenizer, RUNTIME, len(shard))
    ids = shard.read(0, len(shard)).tolist()
    assert [text for text, _ in whole] == [str([token]) for token in ids]
    read: list[int] = []
    logits = task.logits
    monkeypatch.setattr(
        task, "logits", lambda hidden: read.append(hidden[..., 0].numel()) or logits(hidden)
    )
    first = token_nll(task, shard, tokenizer, RUNTIME, CONTEXT + 2)
    assert [text for text, _ in first] == [text for text, _ in whole[: CONTEXT + 2]]
    assert [nats for _, nats in first] == pytest.approx(
        [nats for _, nats in whole[: CONTEXT + 2]], abs=1e-9
    )
    assert sum(read) < len(shard)  # and nothing else was computed


def test_the_best_weights_have_the_least_loss_or_make_the_fewest_mistakes() -> None:
    """In the order of a person: fewer mistakes first, of as many the smaller loss."""

    def value(loss: float, accuracy: float, by_accuracy: bool) -> float:
        return Score(loss, accuracy, 10, 1.0, by_accuracy=by_accuracy).selection_value

    ordered = [(9.0, 0.9), (0.2, 0.8), (0.3, 0.8), (5e6, 0.8), (0.1, 0.1)]
    values = [value(*each, by_accuracy=True) for each in ordered]
    assert values == sorted(values) and len(set(values)) == len(values)
    by_loss = sorted(ordered)
    assert [value(*each, by_accuracy=False) for each in by_loss] == [loss for loss, _ in by_loss]
    assert math.isinf(value(math.inf, 1.0, by_accuracy=True))
