"""Copying from a source: probabilities by plain loops, and the same while writing."""

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scriven.data.batch import Batch, collate_pairs
from scriven.generate.model_runner import ModelRunner
from scriven.models import transformer
from scriven.nn.copy_head import CopyHead
from scriven.tasks.summarize import Summarize

SPECIAL = {"eos": 9, "pad": 10, "delimiter": 11}


@pytest.fixture
def task() -> Summarize:
    torch.manual_seed(0)
    config = transformer.Config(
        vocab_size=12,
        context_length=8,
        layers=1,
        heads=2,
        d_model=16,
        encoder_layers=1,
        dropout=0.0,
    )
    made = Summarize(transformer.Model(config), special=SPECIAL, task_config={"copy_head": True})
    made.init_weights()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return made.double().eval()


def batch() -> Batch:
    sources = [np.array(each) for each in ([1, 2, 3, 2], [4, 5])]
    targets = [np.array(each) for each in ([2, 3, 9], [5, 9])]
    return collate_pairs(sources, targets, pad=10, device=torch.device("cpu"))


def slowly(task: Summarize, one: Batch, bug: bool = False) -> Tensor:
    """(B, T, V) probabilities, one place after the other (See et al. 2017, equation 9)."""
    pointer, model, embed = task.pointer, task.backbone, task.backbone.embed
    assert (
        isinstance(pointer, CopyHead)
        and one.source is not None
        and one.source_positions is not None
    )
    reading: Any = model
    found = torch.zeros(*one.tokens.shape, 12, dtype=torch.float64)
    for row in range(len(one.tokens)):
        size = int((one.source_positions[row] >= 0).sum())
        source = one.source[row, :size]
        encoded = reading.encode(source[None])[0]
        hidden = reading(one.tokens[row][None], source=source[None])[0]
        keys = []
        for place in range(size):
            key = pointer.key(encoded[place])
            if place and not bug:
                key = key + pointer.before(embed.token(source[place - 1]) * embed.scale)
            keys.append(key)
        for place, state in enumerate(hidden):
            query = pointer.query(state)
            scores = torch.stack([query @ key / 16**0.5 for key in keys])
            share = torch.sigmoid(pointer.gate(state))[0]
            words = share * torch.softmax(task.logits(state[None])[0], -1)
            for chance, token in zip(torch.softmax(scores, -1), source.tolist(), strict=True):
                words[token] = words[token] + (1 - share) * chance
            found[row, place] = words
    return found


@torch.no_grad()
def gap(task: Summarize, bug: bool = False) -> float:
    one = batch()
    kept = one.targets != -100
    return float((task.predict(one).exp() - slowly(task, one, bug))[kept].abs().max())


def test_probabilities_are_those_of_plain_loops(task: Summarize) -> None:
    assert gap(task) < 1e-9  # copies of less than that are taken for that much


def test_a_key_without_the_token_before_it_is_found(task: Summarize) -> None:
    assert gap(task, bug=True) > 1e-3


@torch.no_grad()
def test_they_are_probabilities(task: Summarize) -> None:
    total = task.predict(batch()).exp().sum(-1)
    assert torch.allclose(total, torch.ones_like(total), atol=1e-9)


@torch.no_grad()
def test_writing_sees_what_training_saw(task: Summarize) -> None:
    reader = ModelRunner(task, 12, [], nullcontext)
    sources, written = [[1, 2, 3, 2], [4, 5]], [[2, 3], [5, 9]]
    logits = [reader.prefill([list(source) for source in sources], 4, [0, 0])]
    for step in range(2):
        logits.append(reader.decode([row[step] for row in written]))
    expected = task.predict(batch())
    assert torch.allclose(logits[0], expected[:, 0], atol=1e-9)
    assert torch.allclose(logits[1], expected[:, 1], atol=1e-9)
    assert torch.allclose(logits[2][0], expected[0, 2], atol=1e-9)


@torch.no_grad()
def test_rows_in_another_order_copy_from_their_own_sources(task: Summarize) -> None:
    straight = ModelRunner(task, 12, [], nullcontext)
    straight.prefill([[1, 2, 3, 2], [4, 5]], 4, [0, 0])
    turned = ModelRunner(task, 12, [], nullcontext)
    turned.prefill([[4, 5], [1, 2, 3, 2]], 4, [0, 0])
    turned.reorder([1, 0], sources_change=True)
    ids = [2, 5]
    assert torch.allclose(straight.decode(ids), turned.decode(ids), atol=1e-9)


def test_gradients_reach_every_part(task: Summarize) -> None:
    task.train()
    task(batch()).loss.backward()
    assert task.pointer is not None
    for name, weight in task.pointer.named_parameters():
        assert weight.grad is not None and float(weight.grad.abs().max()) > 0, name
