"""The shared block against PyTorch's own encoder layer: norm after and before, GELU and ReLU."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scriven.models import gpt2
from scriven.models.base import TransformerConfig
from scriven.nn.block import Block, GatedMLP, post_norm, pre_norm
from scriven.nn.embeddings import AttentionMask, forward_context
from scriven.nn.norm import RMSNorm

W, H, T = 16, 4, 9
NAMES = {
    "attention.qkv.weight": "self_attn.in_proj_weight",
    "attention.qkv.bias": "self_attn.in_proj_bias",
    "attention.out.weight": "self_attn.out_proj.weight",
    "attention.out.bias": "self_attn.out_proj.bias",
    "attention_norm.weight": "norm1.weight",
    "attention_norm.bias": "norm1.bias",
    "mlp.up.weight": "linear1.weight",
    "mlp.up.bias": "linear1.bias",
    "mlp.down.weight": "linear2.weight",
    "mlp.down.bias": "linear2.bias",
    "mlp_norm.weight": "norm2.weight",
    "mlp_norm.bias": "norm2.bias",
}


SHAPE = TransformerConfig(d_model=W, heads=H, d_ff=24)


def pair(
    first: bool, activation: Callable[[Tensor], Tensor], causal: bool, dtype: torch.dtype
) -> tuple[Block, nn.TransformerEncoderLayer]:
    """Ours and PyTorch's with the same random weights."""
    torch.manual_seed(0)
    residual = pre_norm if first else post_norm
    ours = gpt2.block(SHAPE, residual, activation, AttentionMask(causal=causal)).to(dtype)
    layer: Any = nn.TransformerEncoderLayer(
        W, H, 24, dropout=0.0, activation=activation, batch_first=True, norm_first=first
    )
    layer = layer.to(dtype)
    with torch.no_grad():
        for weight in ours.parameters():
            weight.normal_(0, 0.3)
    layer.load_state_dict({NAMES[name]: weight for name, weight in ours.state_dict().items()})
    return ours, layer


def distance(ours: Block, theirs: nn.TransformerEncoderLayer, causal: bool, padded: bool) -> float:
    """The largest difference of outputs and of any gradient."""
    dtype = ours.mlp.up.weight.dtype
    x = torch.randn(3, T, W, dtype=dtype, generator=torch.Generator().manual_seed(1))
    there = torch.ones(3, T, dtype=torch.bool)
    positions = None
    if padded:
        there[1, 6:] = there[2, 1:] = False
        positions = torch.where(there, torch.arange(T), -1)
    hidden = torch.ones(T, T, dtype=torch.bool).triu(1) if causal else None
    left, right = x.clone().requires_grad_(), x.clone().requires_grad_()
    mine = ours(left, forward_context(there, positions, 0))[there]
    reference = theirs(right, src_mask=hidden, src_key_padding_mask=~there if padded else None)
    mine.square().sum().backward()
    reference = reference[there]
    reference.square().sum().backward()
    assert left.grad is not None and right.grad is not None
    found = [float((mine - reference).detach().abs().max())]
    found.append(float((left.grad - right.grad).abs().max() / right.grad.abs().max()))
    theirs_by_name = dict(theirs.named_parameters())
    for name, weight in ours.named_parameters():
        wanted = theirs_by_name[NAMES[name]].grad
        assert weight.grad is not None and wanted is not None
        found.append(float((weight.grad - wanted).abs().max() / wanted.abs().max()))
    return max(found)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("activation", [F.gelu, F.relu])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_block_equals_pytorchs_layer(
    first: bool,
    activation: Callable[[Tensor], Tensor],
    causal: bool,
    padded: bool,
    dtype: torch.dtype,
    limit: float,
) -> None:
    ours, theirs = pair(first, activation, causal, dtype)
    assert distance(ours, theirs, causal, padded) < limit


@pytest.mark.parametrize("first", [False, True])
def test_the_norm_in_the_other_place_is_noticed(first: bool) -> None:
    ours, theirs = pair(first, F.gelu, True, torch.float64)
    ours.residual = post_norm if first else pre_norm
    assert distance(ours, theirs, True, False) > 1e-3


def test_the_other_gelu_is_noticed() -> None:
    ours, theirs = pair(True, F.gelu, True, torch.float64)
    ours.mlp.activation = lambda x: F.gelu(x, approximate="tanh")
    assert distance(ours, theirs, True, False) > 1e-6


def test_padding_that_is_seen_is_noticed() -> None:
    ours, theirs = pair(False, F.relu, False, torch.float64)
    ours.attention.mask = AttentionMask(causal=True)
    assert distance(ours, theirs, False, True) > 1e-3


def test_swiglu_in_training_has_the_gradient_that_autograd_finds() -> None:
    torch.manual_seed(0)
    mlp = GatedMLP(6, 10, F.silu).double()
    x = torch.randn(3, 4, 6, dtype=torch.float64, requires_grad=True)
    gate, up = mlp.gate_up(x).chunk(2, -1)
    expected = mlp.down(F.silu(gate) * up)
    weights = (x, *mlp.parameters())
    torch.testing.assert_close(mlp(x), expected, rtol=1e-12, atol=1e-12)
    for found, each in zip(
        torch.autograd.grad(mlp(x).pow(2).sum(), weights),
        torch.autograd.grad(expected.pow(2).sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(found, each, rtol=1e-10, atol=1e-12)


def test_a_frozen_norm_passes_on_the_same_gradient() -> None:
    torch.manual_seed(0)
    norm = RMSNorm(6).double()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    some = torch.randn(5, 6, dtype=torch.float64)
    (expected,) = torch.autograd.grad((norm(x) * some).sum(), x)
    norm.requires_grad_(False)
    (found,) = torch.autograd.grad((norm(x) * some).sum(), x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
