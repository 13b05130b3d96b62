"""Causal attention in blocks against the formula, and where it is taken."""

import pytest
import torch
from torch import Tensor

from scriven.nn import attention as attention_module
from scriven.nn import block_causal
from scriven.nn.attention import naive_attention, scaled_dot_product_attention
from scriven.nn.block_causal import block_causal_attention

LENGTHS = (1, 3, 4, 5, 8, 11)
"""Shorter than a block of four, as long, and several with and without a rest."""


def inputs(length: int, dtype: torch.dtype = torch.float64, kv_heads: int = 2) -> list[Tensor]:
    draw = torch.Generator().manual_seed(length)
    shapes = [(3, heads, length, 6) for heads in (2, kv_heads, kv_heads)]
    return [torch.randn(s, generator=draw).to(dtype).requires_grad_() for s in shapes]


def results(kernel, given: list[Tensor]) -> list[Tensor]:
    """Outputs and gradients."""
    out = kernel(*given)
    weights = torch.arange(out.numel()).view_as(out).sin().to(out.dtype)
    return [out, *torch.autograd.grad((out * weights).sum(), given)]


def by_formula(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.einsum("bhtd,bhsd->bhts", q, k) / q.size(-1) ** 0.5
    seen = torch.ones(q.size(2), q.size(2)).tril().bool()
    return scores.masked_fill(~seen, float("-inf")).softmax(-1) @ v


def apart(kernel, length: int) -> float:
    given = inputs(length)
    pairs = zip(results(kernel, given), results(by_formula, given), strict=True)
    return max(float((one - other).detach().abs().max()) for one, other in pairs)


@pytest.mark.parametrize("length", LENGTHS)
def test_blocks_equal_the_formula(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_causal, "BLOCK", 4)
    assert apart(block_causal_attention, length) < 1e-12


def test_a_block_that_sees_too_little_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_causal, "BLOCK", 4)
    whole = list(block_causal._blocks(11))
    monkeypatch.setattr(block_causal, "_blocks", lambda _: [*whole[:1], (4, 7), (7, 11)])
    assert apart(block_causal_attention, 11) < 1e-12, "other blocks are right as well"
    monkeypatch.setattr(
        block_causal, "additive_mask", lambda seen, dtype: torch.zeros(seen.shape, dtype=dtype)
    )
    assert apart(block_causal_attention, 11) > 1e-3


def test_training_in_bfloat16_takes_it_and_has_the_same_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(block_causal, "BLOCK", 4)
    monkeypatch.setattr(attention_module, "BLOCK_CAUSAL_LENGTHS", range(5, 20))
    taken = []

    def spy(*given: Tensor) -> Tensor:
        taken.append(len(given))
        return block_causal_attention(*given)

    monkeypatch.setattr(attention_module, "block_causal_attention", spy)
    given = inputs(11, torch.bfloat16, kv_heads=1)
    got = results(lambda *each: scaled_dot_product_attention(*each, causal=True), given)
    wanted = results(
        lambda *each: naive_attention(*each, causal=True),
        [each.detach().double().requires_grad_() for each in given],
    )
    assert taken == [4]
    for one, other in zip(got, wanted, strict=True):
        assert one.dtype == torch.bfloat16
        assert (one - other).norm() < 0.02 * other.norm()


CASES = {"taken": 257, "float32": 257, "short": 256, "long": 1025, "not causal": 257, "mask": 257,
         "dropout": 257}  # fmt: skip


@pytest.mark.parametrize(("case", "length"), CASES.items())
def test_it_is_taken_where_it_is_faster(
    case: str, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    monkeypatch.setattr(attention_module, "block_causal_attention", lambda *_: taken.append(case))
    dtype = torch.float32 if case == "float32" else torch.bfloat16
    mask = torch.zeros(length, length, dtype=dtype) if case == "mask" else None
    dropout = 0.5 if case == "dropout" else 0.0
    given = inputs(length, dtype)
    causal = case not in ("not causal", "mask")
    scaled_dot_product_attention(*given, causal=causal, mask=mask, dropout=dropout)
    with torch.no_grad():
        scaled_dot_product_attention(*given, causal=True)
    assert taken == ([case] if case == "taken" else [])
