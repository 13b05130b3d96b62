"""Compiled causal attention, beside PyTorch in float64 and in bfloat16."""

from typing import Any

import pytest
import torch
from gradients import BOUND, error, gradients, make_batch
from torch import Tensor, nn

from scriven.models import gpt2
from scriven.native.causal_attention import NativeAttention, causal_attention
from scriven.native.weights import UnsupportedError
from scriven.tasks.language import Language


@pytest.mark.parametrize("length", [1, 2, 48, 49, 130])
@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(4, 2, 16), (3, 3, 64), (2, 1, 48)])
def test_attention_and_its_derivative_are_those_of_float64(
    heads: int, kv_heads: int, size: int, length: int
) -> None:
    torch.manual_seed(0)
    given = [
        torch.randn(2, each, length, size, requires_grad=True)
        for each in (heads, kv_heads, kv_heads)
    ]
    d_y, found = torch.randn(2, heads, length, size), []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        y = causal_attention(*given, 0.2)
        found.append([y, *torch.autograd.grad(y, given, d_y)])
    torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    exact = [each.detach().double().requires_grad_() for each in given]
    q, k, v = exact[0], *(each.repeat_interleave(heads // kv_heads, 1) for each in exact[1:])
    scores = (q @ k.mT * 0.2).masked_fill(torch.ones(length, length).triu(1) > 0, -torch.inf)
    true = scores.softmax(-1) @ v
    for one, other in zip(
        found[0], [true, *torch.autograd.grad(true, exact, d_y.double())], strict=True
    ):
        if float(other.detach().norm()) > 1e-9:  # one position has no gradient of queries and keys
            assert error(one, other) < BOUND


@pytest.mark.parametrize("length", [1, 48, 130])
def test_attention_in_bfloat16_is_as_near_to_float64_as_pytorchs(length: int) -> None:
    torch.manual_seed(0)
    given = [torch.randn(2, heads, length, 48).bfloat16().requires_grad_() for heads in (4, 2, 2)]
    d_y = torch.randn(2, 4, length, 48).bfloat16()

    def outputs(kernel: Any, inputs: list[Tensor], d_y: Tensor) -> list[Tensor]:
        y = kernel(*inputs)
        return [y, *torch.autograd.grad(y, inputs, d_y)]

    def pytorch(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    found, rounded = outputs(causal_attention, given, d_y), outputs(pytorch, given, d_y)
    exact = [each.detach().double().requires_grad_() for each in given]
    true = outputs(pytorch, exact, d_y.double())
    assert all(each.dtype == torch.bfloat16 for each in found)
    for one, other, wanted in zip(found, rounded, true, strict=True):
        if float(wanted.detach().norm()) > 1e-9:
            assert error(one, wanted) < max(1.2 * error(other, wanted), 2e-3)


def test_a_model_that_pytorch_trains_has_its_attention_compiled() -> None:
    torch.manual_seed(0)
    shape = {"vocab_size": 53, "context_length": 70, "layers": 2, "d_model": 48, "heads": 3}
    task = Language(gpt2.Model(gpt2.Config(**shape, dropout=0.0))).train()
    batch, native = make_batch(task), NativeAttention(task)
    assert len(native.layers) == 2
    found, plain = gradients(task, native(batch).loss), gradients(task, task(batch).loss)
    assert any(not torch.equal(found[name], plain[name]) for name in plain)  # it was another path
    wanted = gradients(task.double(), task(batch).loss)
    for name, true in wanted.items():
        if float(true.norm()) > 1e-9:
            assert error(found[name], true) < BOUND
    random = torch.get_rng_state()  # a resumed run does not measure again
    assert all(trial(batch).loss.isfinite() for trial in native.trials())
    assert torch.equal(torch.get_rng_state(), random)
    with pytest.raises(UnsupportedError):  # float64
        NativeAttention(task)
