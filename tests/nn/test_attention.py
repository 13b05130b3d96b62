"""Attention against the formula written as loops, and against PyTorch's own layers."""

import math

import pytest
import torch
from torch import Tensor, nn

from scriven.nn import attention as attention_module
from scriven.nn.attention import Attention, naive_attention, scaled_dot_product_attention
from scriven.nn.block import MLP, Block, post_norm, pre_norm
from scriven.nn.cache import CrossCache, KVCache, LayerCache, SegmentMemory
from scriven.nn.embeddings import AttentionMask, ForwardContext, additive_mask, forward_context
from scriven.nn.norm import LayerNorm, RMSNorm


def by_loops(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, bias: Tensor | None = None) -> Tensor:
    """The formula, one query at a time."""
    out = torch.zeros_like(q)
    groups = q.size(1) // k.size(1)
    for b in range(q.size(0)):
        for h in range(q.size(1)):
            for t in range(q.size(2)):
                keys = [s for s in range(k.size(2)) if seen[b, h, t, s]]
                scores = torch.stack(
                    [
                        q[b, h, t] @ k[b, h // groups, s] / math.sqrt(q.size(-1))
                        + (0 if bias is None else bias[b, h, t, s])
                        for s in keys
                    ]
                )
                weights = scores.exp() / scores.exp().sum()
                out[b, h, t] = sum(
                    w * v[b, h // groups, s] for w, s in zip(weights, keys, strict=True)
                )
    return out


def inputs(heads: int = 4, kv_heads: int = 2, t: int = 5, s: int = 5) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    draw = [(2, heads, t, 6), (2, kv_heads, s, 6), (2, kv_heads, s, 6)]
    return tuple(
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in draw
    )


CASES = {
    "causal": lambda t, s: torch.ones(t, s).tril().bool().expand(2, 4, t, s),
    "full": lambda t, s: torch.ones(t, s).bool().expand(2, 4, t, s),
    "window": lambda t, s: torch.ones(t, s).tril().triu(-1).bool().expand(2, 4, t, s),
    "padded": lambda t, s: (
        torch.ones(t, s).tril().bool() & (torch.arange(s) >= torch.tensor([0, 2])[:, None, None])
        | torch.eye(t, s).bool()
    )[:, None].expand(2, 4, t, s),
}


@pytest.mark.parametrize("kernel", [naive_attention, scaled_dot_product_attention])
@pytest.mark.parametrize("case", CASES)
def test_attention_equals_the_formula(kernel, case: str, monkeypatch) -> None:
    monkeypatch.setattr(
        attention_module, "NAIVE_MAX_LENGTH", 0
    )  # `scaled_dot_product_attention` takes the fused one
    q, k, v = inputs()
    seen = CASES[case](5, 5)
    bias = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    for extra in (None, bias):
        wanted = by_loops(q, k, v, seen, extra)
        # causal by the kernel itself, which takes no other mask then
        causal = case == "causal" and extra is None
        mask = None if causal else additive_mask(seen, q.dtype)
        if extra is not None:
            mask = mask + extra
        got = kernel(q, k, v, causal=causal, mask=mask)
        assert (got - wanted).abs().max() < 1e-12
        grads = torch.autograd.grad(got.square().sum(), (q, k, v))
        expected = torch.autograd.grad(wanted.square().sum(), (q, k, v))
        for one, other in zip(grads, expected, strict=True):
            assert (one - other).abs().max() < 1e-10


def test_a_planted_scale_error_is_noticed() -> None:
    q, k, v = inputs()
    wrong = naive_attention(q * 1.001, k, v, causal=True)
    assert (wrong - by_loops(q, k, v, CASES["causal"](5, 5))).abs().max() > 1e-6


@pytest.mark.parametrize("kernel", [naive_attention, scaled_dot_product_attention])
def test_a_query_that_may_see_nothing_is_not_nan(kernel) -> None:
    q, k, v = inputs()
    seen = torch.ones(5, 5).tril(-1).bool()  # the first row sees nothing
    out = kernel(q, k, v, mask=additive_mask(seen, q.dtype))
    assert out.isfinite().all()
    assert torch.autograd.grad(out.sum(), q)[0].isfinite().all()


def copy_attention(ours: Attention, theirs: nn.MultiheadAttention) -> None:
    with torch.no_grad():
        ours.qkv.weight.copy_(theirs.in_proj_weight)
        ours.qkv.bias.copy_(theirs.in_proj_bias)
        ours.out.weight.copy_(theirs.out_proj.weight)
        ours.out.bias.copy_(theirs.out_proj.bias)


def copy_linear(ours: nn.Module, theirs: nn.Module) -> None:
    with torch.no_grad():
        for name, weight in ours.named_parameters():
            weight.copy_(dict(theirs.named_parameters())[name])


def layer(residual, causal: bool, cross: bool) -> Block:
    def attention(rule: AttentionMask) -> Attention:
        return Attention(16, 4, mask=rule)

    return Block(
        residual,
        attention(AttentionMask(causal=causal)),
        LayerNorm(16),
        MLP(16, 24, torch.relu),
        LayerNorm(16),
        cross=attention(AttentionMask(causal=False)) if cross else None,
        cross_norm=LayerNorm(16) if cross else None,
    ).double()


@pytest.mark.parametrize("norm_first", [True, False])
def test_the_block_equals_torchs_encoder_layer(norm_first: bool) -> None:
    theirs = nn.TransformerEncoderLayer(
        16, 4, 24, 0.0, batch_first=True, norm_first=norm_first
    ).double()
    ours = layer(pre_norm if norm_first else post_norm, causal=False, cross=False)
    randomise(theirs)
    copy_attention(ours.attention, theirs.self_attn)
    copy_linear(ours.attention_norm, theirs.norm1)
    copy_linear(ours.mlp_norm, theirs.norm2)
    copy_linear(ours.mlp.up, theirs.linear1)
    copy_linear(ours.mlp.down, theirs.linear2)
    x = torch.randn(3, 7, 16, dtype=torch.float64, requires_grad=True)
    compare(ours(x, where(7)), theirs(x), x)


@pytest.mark.parametrize("norm_first", [True, False])
def test_the_block_with_cross_attention_equals_torchs_decoder_layer(norm_first: bool) -> None:
    theirs = nn.TransformerDecoderLayer(
        16, 4, 24, 0.0, batch_first=True, norm_first=norm_first
    ).double()
    ours = layer(pre_norm if norm_first else post_norm, causal=True, cross=True)
    randomise(theirs)
    copy_attention(ours.attention, theirs.self_attn)
    copy_attention(ours.cross, theirs.multihead_attn)
    copy_linear(ours.attention_norm, theirs.norm1)
    copy_linear(ours.cross_norm, theirs.norm2)
    copy_linear(ours.mlp_norm, theirs.norm3)
    copy_linear(ours.mlp.up, theirs.linear1)
    copy_linear(ours.mlp.down, theirs.linear2)
    x = torch.randn(3, 7, 16, dtype=torch.float64, requires_grad=True)
    source = torch.randn(3, 5, 16, dtype=torch.float64)
    mask = nn.Transformer.generate_square_subsequent_mask(7, dtype=torch.float64)
    wanted = theirs(x, source, tgt_mask=mask)
    compare(ours(x, where(7), source=source, source_positions=torch.arange(5)), wanted, x)


def test_decoding_step_by_step_with_cross_attention_equals_the_whole() -> None:
    block = layer(pre_norm, causal=True, cross=True)
    x, source = torch.randn(2, 6, 16).double(), torch.randn(2, 4, 16).double()
    positions = torch.arange(4)
    whole = block(x, where(6), source=source, source_positions=positions)
    own = KVCache(2, 6, 4, 4, torch.float64, torch.device("cpu"))
    state = LayerCache(self_attn=own, cross=CrossCache())
    with torch.no_grad():
        steps = [
            block(x[:, t : t + 1], forward_context(x[:, :1, 0], None, t), state, source, positions)
            for t in range(6)
        ]
    assert (torch.cat(steps, 1) - whole).abs().max() < 1e-12


def test_segment_memory_equals_one_long_segment() -> None:
    attention = Attention(16, 4, mask=AttentionMask(causal=True)).double()
    x = torch.randn(2, 8, 16).double()
    whole = attention(x, where(8))
    memory = SegmentMemory(8)
    parts = []
    for start in (0, 3, 6):
        part = x[:, start : start + 3]
        positions = torch.arange(start, start + part.size(1))
        parts.append(attention(part, ForwardContext(positions, unpadded=False), memory))
    assert (torch.cat(parts, 1) - whole).abs().max() < 1e-12


def test_segment_memory_stops_the_gradient_at_the_old_segment() -> None:
    attention = Attention(16, 4, mask=AttentionMask(causal=True)).double()
    old = torch.randn(1, 3, 16).double().requires_grad_()
    new = torch.randn(1, 3, 16).double().requires_grad_()
    memory = SegmentMemory(3)
    attention(old, where(3), memory)
    out = attention(new, ForwardContext(torch.arange(3, 6), unpadded=False), memory)
    assert torch.autograd.grad(out.sum(), old, allow_unused=True, retain_graph=True)[0] is None
    assert torch.autograd.grad(out.sum(), attention.qkv.weight)[0].abs().sum() > 0


def test_norms_equal_their_formulas() -> None:
    x = torch.randn(3, 5, 16).double() * 3 + 1
    layer_norm, rms = LayerNorm(16, 1e-5).double(), RMSNorm(16, 1e-6).double()
    randomise(layer_norm)
    randomise(rms)
    mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    wanted = (x - mean) / (var + 1e-5).sqrt() * layer_norm.weight + layer_norm.bias
    assert (layer_norm(x) - wanted).abs().max() < 1e-12
    wanted = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * rms.weight
    assert (rms(x) - wanted).abs().max() < 1e-12


def test_the_written_out_derivative_of_the_norm_is_right() -> None:
    rms = RMSNorm(6).double()
    randomise(rms)
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, _: rms(x), (x, rms.weight))


def randomise(module: nn.Module) -> None:
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0, 0.3)


def where(size: int) -> ForwardContext:
    return ForwardContext(torch.arange(size), unpadded=True)


def compare(ours: Tensor, theirs: Tensor, x: Tensor) -> None:
    assert (ours - theirs).abs().max() < 1e-10
    one = torch.autograd.grad(ours.square().sum(), x)[0]
    other = torch.autograd.grad(theirs.square().sum(), x)[0]
    assert (one - other).abs().max() < 1e-10


def test_a_mask_is_its_rule_pair_by_pair() -> None:
    queries, keys = torch.tensor([-1, 0, 3]), torch.tensor([-2, -1, 0, 1, 2, 3, 4])
    for causal in (True, False):
        for window in (None, 1, 2):
            allowed = AttentionMask(causal, window).allowed(queries, keys)
            for row, q in enumerate(queries.tolist()):
                for column, k in enumerate(keys.tolist()):
                    past = not causal or k <= q
                    near = window is None or q - k < window
                    assert bool(allowed[row, column]) == (k >= 0 and past and near), (q, k)
