"""Optimizers that do not load PyTorch's compiler, and move weights as PyTorch's own do."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from scriven.train.optim import adamw as adamw_file
from scriven.train.optim import sgd as sgd_file

LIFE = """
import sys
import torch
from scriven.train.optim.muon import Muon
from scriven.train.optim.adamw import AdamW
from scriven.train.optim.sgd import SGD

weight = torch.ones(3, 3, requires_grad=True)
optimizer = {made}
weight.grad = torch.ones(3, 3)
optimizer.step()
optimizer.load_state_dict(optimizer.state_dict())
optimizer.zero_grad()
print("torch._dynamo" in sys.modules)
"""


def compiler_after(made: str) -> bool:
    """Whether it is loaded when such an optimizer has lived."""
    command = [sys.executable, "-c", LIFE.format(made=made)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout == "True\n"


@pytest.mark.parametrize("kind", ["AdamW", "SGD", "Muon"])
def test_no_compiler_is_loaded(kind: str) -> None:
    assert not compiler_after(f"{kind}([weight], lr=0.1)")


def test_the_probe_sees_the_compiler() -> None:
    assert compiler_after("torch.optim.SGD([weight], lr=0.1)")


def moved(make: Callable[[list[torch.Tensor]], torch.optim.Optimizer]) -> torch.Tensor:
    """A weight after twenty updates, the state handed on in the middle."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 4, generator=draw).requires_grad_()
    optimizer = make([weight])
    for number in range(20):
        weight.grad = torch.randn(5, 4, generator=draw)
        optimizer.step()
        if number == 9:
            state = optimizer.state_dict()
            optimizer = make([weight])
            optimizer.load_state_dict(state)
    return weight.detach()


@pytest.mark.parametrize("fused", [False, True])
def test_adamw_is_pytorchs(fused: bool) -> None:
    def made(kind: type[torch.optim.AdamW]) -> torch.Tensor:
        return moved(lambda weights: kind(weights, 0.03, (0.8, 0.95), 1e-9, 0.2, fused=fused))

    assert torch.equal(made(adamw_file.AdamW), made(torch.optim.AdamW))


def sgd(kind: type[torch.optim.SGD], momentum: float = 0.8) -> torch.Tensor:
    return moved(lambda weights: kind(weights, lr=0.03, momentum=momentum, weight_decay=0.2))


def test_sgd_is_pytorchs() -> None:
    assert torch.equal(sgd(sgd_file.SGD), sgd(torch.optim.SGD))


def test_another_momentum_is_noticed() -> None:
    assert not torch.equal(sgd(sgd_file.SGD), sgd(torch.optim.SGD, 0.81))
