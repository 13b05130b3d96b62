"""GPT-3's bands against the formula as loops, and its dense form against GPT-2."""

import math

import parity
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from scriven import config as settings
from scriven.data.batch import Batch
from scriven.errors import SettingError
from scriven.models import gpt2, gpt3
from scriven.nn.embeddings import AttentionMask
from scriven.tasks.base import BaseTask

WINDOW = 5
SHAPE = {"window": WINDOW, "layers": 4}


def allowed(layer: int, i: int, j: int) -> bool:
    """Whether the query at i may see the key at j; every second layer is banded."""
    return j <= i and (layer % 2 == 0 or i - j < WINDOW)


def brute(task: BaseTask, tokens: Tensor) -> Tensor:
    """Logits by the formulas of the paper, attention as loops over heads, queries and keys."""
    w = dict(task.named_parameters())
    x = w["backbone.embed.token.weight"][tokens]
    x = x + w["backbone.embed.position.weight"][: tokens.size(1)]

    def norm(x: Tensor, name: str) -> Tensor:
        x = (x - x.mean(-1, True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    for layer in range(4):
        block = f"backbone.blocks.{layer}"
        q, k, v = linear(norm(x, f"{block}.attention_norm"), f"{block}.attention.qkv").chunk(3, -1)
        rows = []
        for i in range(tokens.size(1)):
            seen = [j for j in range(tokens.size(1)) if allowed(layer, i, j)]
            heads = []
            for head in range(4):
                part = slice(8 * head, 8 * head + 8)
                scores = [(q[:, i, part] * k[:, j, part]).sum(-1) / math.sqrt(8) for j in seen]
                share = torch.stack(scores, -1).softmax(-1)
                heads.append(sum(share[:, n, None] * v[:, j, part] for n, j in enumerate(seen)))
            rows.append(torch.cat(heads, -1))
        x = x + linear(torch.stack(rows, 1), f"{block}.attention.out")
        up = linear(norm(x, f"{block}.mlp_norm"), f"{block}.mlp.up")
        gelu = 0.5 * up * (1 + (math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)).tanh())
        x = x + linear(gelu, f"{block}.mlp.down")
    return norm(x, "backbone.norm") @ w["backbone.embed.token.weight"].T


def gradients(task: BaseTask, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(task.parameters())))


def distance(task: BaseTask) -> float:
    """The largest difference of logits and of any gradient."""
    batch = parity.batch_of("", masked=False)
    reference = brute(task, batch.tokens)
    ours = task.logits(task.hidden(batch))
    wanted = F.cross_entropy(reference.flatten(0, 1), batch.targets.flatten())
    output = task(batch)
    pairs = zip(
        [ours, *gradients(task, output.loss / output.tokens)],
        [reference, *gradients(task, wanted)],
        strict=True,
    )
    return max(float((left - right).detach().abs().max()) for left, right in pairs)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_bands_equal_the_formula_as_loops(dtype: torch.dtype, limit: float) -> None:
    assert distance(parity.make(gpt3, SHAPE, dtype)) < limit


@pytest.mark.parametrize(
    ("layer", "rule"),
    [
        (1, AttentionMask(window=WINDOW + 1)),
        (1, AttentionMask(window=WINDOW - 1)),
        (3, AttentionMask()),
        (2, AttentionMask(window=WINDOW)),
    ],
)
def test_a_wrong_band_is_noticed(layer: int, rule: AttentionMask) -> None:
    task = parity.make(gpt3, SHAPE, torch.float64)
    task.backbone.blocks[layer].attention.mask = rule
    assert distance(task) > 1e-6


def test_stepwise_equals_the_whole_beyond_the_band() -> None:
    task = parity.make(gpt3, SHAPE, torch.float64)
    tokens = parity.batch_of("", masked=False).tokens
    with torch.no_grad():
        whole = task.backbone(tokens)
        state = task.backbone.new_cache(3, parity.T)
        parts = [task.backbone(part, state) for part in tokens.split([3, 9, 1, 1, 1, 1, 4], 1)]
    assert (torch.cat(parts, 1) - whole).abs().max() < 1e-12


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing_under_a_band(side: str) -> None:
    task = parity.make(gpt3, SHAPE, torch.float64)
    batch = parity.batch_of(side, masked=False)
    assert batch.positions is not None
    together = task.hidden(batch)
    for row in range(3):
        there = batch.positions[row] >= 0
        alone = batch.tokens[row, there][None]
        assert (together[row, there] - task.hidden(Batch(alone, alone))[0]).abs().max() < 1e-12


@pytest.mark.parametrize("window", [None, parity.T, 128])
def test_without_a_band_it_is_gpt2(window: int | None) -> None:
    dense = parity.make(gpt3, {"window": window}, torch.float64)
    plain = parity.make(gpt2, {}, torch.float64)
    plain.load_state_dict(dense.state_dict())
    tokens = parity.batch_of("", masked=False).tokens
    assert torch.equal(dense.backbone(tokens), plain.backbone(tokens))
    assert gpt3.Model.to_hf_config(dense.backbone.config) == gpt2.Model.to_hf_config(
        plain.backbone.config
    )


def test_a_banded_one_has_no_twin() -> None:
    assert gpt3.Model.to_hf_config(gpt3.Config(**{**parity.BASE, **SHAPE})) is None
    assert gpt3.Model.to_hf_config(gpt3.Config(**{**parity.BASE, **SHAPE, "layers": 1})) is not None


def test_window_is_checked_and_may_be_none() -> None:
    assert settings.replace(gpt3.Config(), {"window": "none"}, "model").window is None
    with pytest.raises(SettingError, match=r"--model\.window=0"):
        settings.replace(gpt3.Config(), {"window": "0"}, "model")
