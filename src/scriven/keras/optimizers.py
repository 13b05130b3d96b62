"""What `compile(optimizer=...)` means: a setting of the run, or an optimizer of PyTorch."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import registry
from ..errors import SettingError
from ..train.optim.base import UserOptimizer

OptimizerLike = str | type[torch.optim.Optimizer] | UserOptimizer

REFUSED = {
    "lbfgs": "it computes the loss several times per step",
    "sparseadam": "it takes sparse gradients only",
}
"""Optimizers of torch.optim that a training cannot use, in lower case, with the reason."""


def torch_optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    """Every optimizer of torch.optim by its name in lower case."""
    found = vars(torch.optim).values()
    kind = torch.optim.Optimizer
    classes = [each for each in found if inspect.isclass(each) and issubclass(each, kind)]
    return {each.__name__.lower(): each for each in classes if each is not kind}


def resolve(
    optimizer: OptimizerLike, lr: float | None
) -> tuple[dict[str, object], UserOptimizer | None]:
    """(settings of the run, the optimizer from memory): one of them says what trains.

    Args:
        optimizer: a name of `train/optim/` or a .py file, which is a setting; a name or class of
            torch.optim, a function of the parameters, or an optimizer, which is handed over.
        lr: learning rate of a name or class; by default that of the optimizer.

    Raises:
        SettingError: an unknown name, an optimizer that cannot be used, or a learning rate beside
            an optimizer that has one already.
    """
    rate: dict[str, object] = {} if lr is None else {"optim.lr": lr}
    if isinstance(optimizer, str):
        ours, of_torch = registry.names("scriven.train.optim"), torch_optimizers()
        name = optimizer if optimizer.endswith(".py") else optimizer.lower()
        if name in ours or name.endswith(".py"):
            return {"optim.optimizer": name, **rate}, None
        if name not in of_torch:
            known = sorted({*ours, *of_torch} - set(REFUSED))
            raise SettingError(f"optimizer={optimizer!r}: use {', '.join(known)}, or a .py file")
        optimizer = of_torch[name]
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer):
        _check_usable(optimizer)
        return {}, partial(_build, optimizer, {} if lr is None else {"lr": lr})
    if lr is not None:
        raise SettingError(f"lr={lr} is for a name or a class: {optimizer!r} has its own")
    if isinstance(optimizer, torch.optim.Optimizer):
        _check_usable(type(optimizer))
    elif not callable(optimizer):
        raise SettingError(f"optimizer={optimizer!r}: use a name, a class or an object of torch")
    made: Any = optimizer
    return {}, made


def _check_usable(kind: type[torch.optim.Optimizer]) -> None:
    for base in kind.__mro__:
        if reason := REFUSED.get(base.__name__.lower()):
            raise SettingError(f"optimizer {kind.__name__} cannot train a model here: {reason}")


def _build(
    kind: Callable[..., torch.optim.Optimizer], options: dict[str, Any], weights: list[Tensor]
) -> torch.optim.Optimizer:
    try:
        return kind(weights, **options)
    except (TypeError, ValueError) as error:  # torch.optim.Muon takes matrices only
        raise SettingError(
            f"the optimizer cannot be made for all weights ({error}): use a function of them, such "
            "as lambda weights: torch.optim.SGD(weights, lr=0.1)"
        ) from error
