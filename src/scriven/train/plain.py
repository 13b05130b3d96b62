"""PyTorch's optimizers without its compiler, which each of them loads at its birth: about a second.

They shield themselves from `torch.compile` that way. No update is compiled here, so what stands
behind the shield is called directly; a PyTorch without shields is used as it is.
"""

from collections.abc import Callable
from typing import Any

import torch


def _bare(method: Callable[..., Any]) -> Any:
    return getattr(method, "__wrapped__", method)


class Plain(torch.optim.Optimizer):
    """What is shielded in all of them."""

    add_param_group = _bare(torch.optim.Optimizer.add_param_group)
    state_dict = _bare(torch.optim.Optimizer.state_dict)
    load_state_dict = _bare(torch.optim.Optimizer.load_state_dict)
    zero_grad = _bare(torch.optim.Optimizer.zero_grad)


class AdamW(Plain, torch.optim.AdamW):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    step = torch.no_grad()(_bare(torch.optim.AdamW.step))


class SGD(Plain, torch.optim.SGD):
    """Gradient descent with momentum."""

    step = torch.no_grad()(_bare(torch.optim.SGD.step))
