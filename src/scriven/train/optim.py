"""Which optimizer moves which weight, and the optimizers' state as plain tensors."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..distributed import SINGLE_PROCESS, DistributedContext
from ..errors import DamagedError, SettingError
from ..settings import OptimSettings
from .muon import Muon
from .parallel import like
from .plain import SGD, AdamW

Custom = Callable[[list[Tensor]], torch.optim.Optimizer] | torch.optim.Optimizer


def roles(task: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """(matrices inside the blocks, other matrices, vectors), by parameter name."""
    matrices: dict[str, Tensor] = {}
    tables: dict[str, Tensor] = {}
    vectors: dict[str, Tensor] = {}
    for name, weight in task.named_parameters():
        if not weight.requires_grad:
            continue
        if weight.dim() < 2:
            vectors[name] = weight
        elif ".blocks." in name:
            matrices[name] = weight
        else:
            tables[name] = weight
    return matrices, tables, vectors


class Optimizers:
    """One or two optimizers that step together under one schedule."""

    def __init__(
        self,
        task: nn.Module,
        settings: OptimSettings,
        rate: float,
        custom: Custom | None = None,
        precision: torch.dtype = torch.bfloat16,
        dist: DistributedContext = SINGLE_PROCESS,
    ) -> None:
        matrices, tables, vectors = roles(task)
        self.names = [*matrices, *tables, *vectors]
        self.parameters = [*matrices.values(), *tables.values(), *vectors.values()]
        self.parts: list[torch.optim.Optimizer] = []
        decay = settings.weight_decay
        if custom is not None:
            self.parts = [_custom(custom, self.parameters)]
        elif settings.optimizer == "muon":
            if matrices:
                muon = Muon(
                    matrices.values(),
                    lr=settings.muon_lr,
                    weight_decay=decay,
                    precision=precision,
                    dist=dist,
                )
                self.parts.append(muon)
            rest = [*tables.values(), *vectors.values()]
            if rest:
                self.parts.append(_adamw([{"params": rest, "weight_decay": 0.0}], settings, rate))
        elif settings.optimizer == "adamw":
            decayed = {"params": [*matrices.values(), *tables.values()], "weight_decay": decay}
            groups = [decayed, {"params": list(vectors.values()), "weight_decay": 0.0}]
            groups = [group for group in groups if group["params"]]
            self.parts.append(_adamw(groups, settings, rate))
        else:
            sgd = SGD(self.parameters, lr=rate, momentum=settings.beta1, weight_decay=decay)
            self.parts.append(sgd)
        self.peaks = [[group["lr"] for group in part.param_groups] for part in self.parts]
        self.held: list[tuple[Tensor, int]] = []

    def hold(self, name: str, first: int) -> None:
        """Of the weight `name`, moves only row `first` and those after it.

        The gradient of the others is zero, so that it counts for nothing in its norm; neither
        decay nor momentum moves them.
        """
        weight = self.parameters[self.names.index(name)]
        clear = partial(_clear_rows, first)
        weight.register_post_accumulate_grad_hook(clear)  # type: ignore[no-untyped-call]
        self.held.append((weight, first))

    def step(self, share: float) -> None:
        """One update at `share` of the peak rates; gradients are cleared after it."""
        kept = [weight.detach()[:first].clone() for weight, first in self.held]
        for part, peaks in zip(self.parts, self.peaks, strict=True):
            for group, peak in zip(part.param_groups, peaks, strict=True):
                group["lr"] = peak * share
            part.step()
        for (weight, first), rows in zip(self.held, kept, strict=True):
            weight.detach()[:first].copy_(rows)
        self.clear()

    def clear(self) -> None:
        """Forgets the gradients."""
        for weight in self.parameters:
            weight.grad = None

    @property
    def rate(self) -> float:
        """The rate of the last update, of the first optimizer."""
        return float(self.parts[0].param_groups[0]["lr"])

    def state(self) -> tuple[dict[str, Tensor], dict[str, float]]:
        """(tensors, numbers) under keys `part.parameter.entry`, parameters by position."""
        tensors: dict[str, Tensor] = {}
        numbers: dict[str, float] = {}
        for index, part in enumerate(self.parts):
            for parameter, entries in part.state_dict()["state"].items():
                for entry, value in entries.items():
                    key = f"{index}.{parameter}.{entry}"
                    if isinstance(value, Tensor):
                        tensors[key] = value
                    elif value is not None:
                        numbers[key] = float(value)
        return tensors, numbers

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, float]) -> None:
        """The inverse of `state`.

        Raises:
            DamagedError: the state belongs to another set of weights.
        """
        for index, part in enumerate(self.parts):
            plain = part.state_dict()
            plain["state"] = {}
            for key, value in [*tensors.items(), *numbers.items()]:
                place, parameter, entry = key.split(".", 2)
                if int(place) == index:
                    plain["state"].setdefault(int(parameter), {})[entry] = value
            try:
                _spread(part, plain)
                part.load_state_dict(plain)
            except (ValueError, KeyError) as error:
                raise DamagedError(f"the optimizer's state does not fit: {error}") from error


def _spread(part: torch.optim.Optimizer, plain: dict[str, Any]) -> None:
    """Cuts whole tensors of a state as the weights lie on the processes."""
    weights = [weight for group in part.param_groups for weight in group["params"]]
    for number, entries in plain["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor) and number < len(weights):
                entries[name] = like(value, weights[number])


def _clear_rows(first: int, weight: Tensor) -> None:
    """Takes away the gradient of the rows before `first`."""
    if weight.grad is not None:
        weight.grad[:first].zero_()


def _adamw(groups: list[dict[str, Any]], settings: OptimSettings, rate: float) -> Any:
    betas = (settings.beta1, settings.beta2)
    return AdamW(groups, lr=rate, betas=betas, eps=1e-10, fused=True)


def _custom(custom: Custom, parameters: list[Tensor]) -> torch.optim.Optimizer:
    """The user's own: a torch optimizer, or something that makes one from parameters."""
    if isinstance(custom, torch.optim.Optimizer):
        mine = {id(weight) for weight in parameters}
        theirs = {id(weight) for group in custom.param_groups for weight in group["params"]}
        if not theirs <= mine:
            raise SettingError(
                "the optimizer moves weights of another model: hand over a function of the "
                "parameters instead, such as lambda weights: torch.optim.SGD(weights, lr=0.1)"
            )
        return custom
    if not callable(custom):
        raise SettingError(f"optimizer {custom!r} is neither a name, a function nor an optimizer")
    made = custom(parameters)
    if not isinstance(made, torch.optim.Optimizer):
        kind = "class" if inspect.isclass(custom) else "function"
        raise SettingError(f"the optimizer {kind} returned {type(made).__name__}, not an optimizer")
    return made
