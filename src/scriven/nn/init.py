"""Initial weights as a table: the end of a parameter's name -> rule. The first match wins.

init_weights(self, [("norm.weight", ones), ("bias", zeros), ("weight", normal(0.02))])
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

Rule = Callable[[Tensor], object]

zeros: Rule = nn.init.zeros_
"""For a sublayer that starts as the identity, or a head whose first predictions are uniform."""
ones: Rule = nn.init.ones_
"""For a norm that starts without an effect."""


def normal(std: float) -> Rule:
    """Gaussian with mean 0."""
    return partial(nn.init.normal_, mean=0.0, std=std)


@torch.no_grad()
def init_weights(module: nn.Module, table: Sequence[tuple[str, Rule]]) -> None:
    """Applies the first rule whose key ends a parameter's name; every parameter needs one.

    Parameters are drawn in the order in which the module holds them, so a seed gives the same
    weights as long as that order stays.
    """
    # in the order of `named_parameters`, which is that of the modules' attributes; a parameter that
    # no rule names must not stay at zero unnoticed
    for name, parameter in module.named_parameters():
        for end, rule in table:
            if name.endswith(end):
                rule(parameter)
                break
        else:
            raise AssertionError(f"no rule for the initial value of {name}")
