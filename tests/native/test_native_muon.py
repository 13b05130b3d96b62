"""Muon's compiled update, beside PyTorch in float64."""

import pytest
import torch
from gradients import BOUND, error
from torch import nn

from scriven.native.muon import muon_step
from scriven.train.optim.muon import COEFFICIENTS, Muon

SHAPES = [(96, 32), (32, 32), (32, 88), (5, 7), (40, 23), (70, 300)]


def errors(shape: tuple[int, int], precision: torch.dtype) -> tuple[float, float]:
    """The largest errors of weights after updates in this precision against those in float64: of
    compiled code, and of PyTorch. Skips where compiled code does not know the precision."""
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(shape)) for _ in range(3)]
    copies = [nn.Parameter(weight.detach().clone()) for weight in weights]
    true = [nn.Parameter(weight.detach().double()) for weight in weights]
    momenta = [torch.zeros(shape) for _ in weights]
    plain = Muon(copies, weight_decay=0.1, precision=precision)
    optimizer = Muon(true, weight_decay=0.1, precision=torch.float64)
    for _ in range(5):
        for weight, copy, other in zip(weights, copies, true, strict=True):
            weight.grad = torch.randn(shape)
            copy.grad, other.grad = weight.grad.clone(), weight.grad.double()
        plain.step()
        optimizer.step()
        if not muon_step(
            weights, momenta, momentum=0.95, decay=1 - 0.02 * 0.1,
            step=-0.02 * max(1.0, shape[0] / shape[1]) ** 0.5,
            coefficients=COEFFICIENTS, precision=precision,
        ):  # fmt: skip
            assert precision == torch.bfloat16, "float32 is for every CPU"
            pytest.skip("this CPU multiplies no pairs of bfloat16")
    of_native, of_torch = (
        max(error(one, other) for one, other in zip(found, true, strict=True))
        for found in (weights, copies)
    )
    return of_native, of_torch


@pytest.mark.parametrize("shape", SHAPES)
def test_muon_updates_are_those_of_float64(shape: tuple[int, int]) -> None:
    assert errors(shape, torch.float32)[0] < BOUND


@pytest.mark.parametrize("shape", SHAPES)
def test_muon_updates_in_bfloat16_are_as_near_to_float64_as_those_of_pytorch(
    shape: tuple[int, int],
) -> None:
    of_native, of_torch = errors(shape, torch.bfloat16)
    assert BOUND < of_native < 1.5 * of_torch, "rounding G in one term alone doubles the error"
