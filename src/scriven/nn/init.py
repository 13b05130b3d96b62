"""Initial weights as a table: the end of a parameter's name -> rule. The first match wins."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Rule = Callable[[Tensor], object]


def normal(std: float) -> Rule:
    """Gaussian with mean 0."""
    return lambda weight: nn.init.normal_(weight, 0.0, std)


def zeros(weight: Tensor) -> object:
    """All zero: a sublayer that starts as the identity, a head that starts undecided."""
    return nn.init.zeros_(weight)


def ones(weight: Tensor) -> object:
    """All one: a norm that starts without an effect."""
    return nn.init.ones_(weight)


@torch.no_grad()
def initialise(module: nn.Module, table: Sequence[tuple[str, Rule]]) -> None:
    """Applies the first rule whose key ends a parameter's name; every parameter needs one."""
    for name, parameter in module.named_parameters():
        rule = next((rule for end, rule in table if name.endswith(end)), None)
        assert rule is not None, f"no initial value for {name}"
        rule(parameter)
