"""Our models against transformers': same weights, outputs and every gradient."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("transformers", reason="the hf extra is not installed")

import parity

from scriven.models import gpt1, gpt2, gpt3, llama, roberta
from scriven.nn.embeddings import AttentionMask, SinusoidalPositions
from scriven.tasks.base import BaseTask

CASES = [
    (gpt1, {}),
    (gpt1, {"tie_embeddings": False}),
    (gpt2, {}),
    (gpt2, {"tie_embeddings": False, "d_ff": 40}),
    (gpt2, {"positions": "sinusoidal"}),
    (gpt3, {"window": None}),
    (gpt3, {"window": 20, "tie_embeddings": False}),
    (llama, {}),
    (llama, {"kv_heads": 2}),
    (llama, {"kv_heads": 1, "head_dim": 6, "tie_embeddings": False, "rope_theta": 500.0}),
    (llama, {"qk_norm": False}),
    (llama, {"qk_norm": False, "kv_heads": 2, "tie_embeddings": False}),
    (roberta, {}),
    (roberta, {"tie_embeddings": False, "d_ff": 40}),
]


def name(case: object) -> str:
    if isinstance(case, ModuleType):
        return case.__name__.rsplit(".", 1)[-1]
    return ",".join(f"{key}={value}" for key, value in case.items()) or "plain"  # type: ignore


@pytest.mark.parametrize("side", ["", "left", "right"])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("module", "changes"), CASES, ids=name)
def test_logits_loss_and_gradients_equal(
    module: ModuleType, changes: dict[str, Any], dtype: torch.dtype, limit: float, side: str
) -> None:
    task, theirs = parity.pair(module, changes, dtype)
    found = parity.differences(task, theirs, side)
    assert len(found) > 20
    assert max(found.values()) < limit, found


def weights(task: BaseTask) -> None:
    """One norm is off by a millionth."""
    with torch.no_grad():
        task.backbone.blocks[0].mlp_norm.weight.add_(1e-6)


def activation(task: BaseTask) -> None:
    """The other GELU; for the gated layer a GELU at all."""
    exact = task.backbone.blocks[1].mlp.activation is F.gelu
    other = "tanh" if exact else "none"
    task.backbone.blocks[1].mlp.activation = lambda x: F.gelu(x, approximate=other)


def mask(task: BaseTask) -> None:
    """One layer sees a token more, or one less."""
    attention = task.backbone.blocks[1].attention
    causal = attention.mask.causal
    attention.mask = AttentionMask(causal, window=19) if causal else AttentionMask(True)


def order(task: BaseTask) -> None:
    """Positions begin at 1."""
    inner = task.backbone.forward
    task.backbone.forward = lambda tokens, state=None, positions=None: inner(
        tokens, state, torch.arange(1, 21).clamp(max=19)
    )


@pytest.mark.parametrize("plant", [weights, activation, mask, order])
@pytest.mark.parametrize("module", [gpt1, gpt2, gpt3, llama, roberta], ids=name)
def test_a_planted_error_is_noticed(module: ModuleType, plant: Callable[[BaseTask], None]) -> None:
    changes = {"window": None} if module is gpt3 else {}
    task, theirs = parity.pair(module, changes, torch.float64)
    plant(task)
    assert max(parity.differences(task, theirs).values()) > 1e-8


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_that_is_seen_is_noticed(side: str) -> None:
    task, theirs = parity.pair(roberta, {}, torch.float64)
    for block in task.backbone.blocks:
        block.attention.mask = Everything(causal=False)
    assert max(parity.differences(task, theirs, side).values()) > 1e-6


class Everything(AttentionMask):
    """Forgets that some positions are padding."""

    def allowed(self, query_at: torch.Tensor, key_at: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(super().allowed(query_at, key_at))


def test_a_table_of_other_sines_is_noticed() -> None:
    task, theirs = parity.pair(gpt2, {"positions": "sinusoidal"}, torch.float64)
    other = SinusoidalPositions(20, 32, halves=True)
    task.backbone.embed.position = other.double()
    assert parity.differences(task, theirs)["logits"] > 1e-6


def test_the_encoder_alone_equals_robertamodel() -> None:
    from transformers import RobertaModel

    task, theirs = parity.pair(roberta, {}, torch.float64)
    bare = RobertaModel(theirs.config, add_pooling_layer=False).double()
    bare.load_state_dict(theirs.roberta.state_dict())
    batch = parity.batch_of("right", masked=True)
    assert batch.positions is not None
    there = batch.positions >= 0
    reference = bare(batch.tokens, attention_mask=there.long()).last_hidden_state
    assert (task.hidden(batch) - reference)[there].abs().max() < 1e-10
