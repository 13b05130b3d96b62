"""Which weights an optimizer gets, and the container that steps one or several optimizers.

A file of this folder, or the user's own (`--optim.optimizer ./mine.py`), has

    STATE_PER_PARAM             numbers kept per weight, for `scriven plan`
    default_lr(d_model)         peak learning rate where `--optim.lr` is left open
    build(groups, settings)     a torch optimizer, or a list of them, for `ParamGroups`

and, if the defaults in `OptimizerModule` do not suit it, SHORT_RUN_LR_FACTOR, finetune_lr and
ORTHOGONALISES_MATRICES.
"""

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ... import registry
from ...distributed import SINGLE_PROCESS, DistributedContext, shard_like
from ...errors import DamagedError, SettingError
from ...settings import OptimSettings

# An optimizer from Python: a torch optimizer, or a function that makes one from parameters.
UserOptimizer = Callable[[list[Tensor]], torch.optim.Optimizer] | torch.optim.Optimizer


@dataclass(frozen=True)
class ParamGroups:
    """The trainable weights of a model by parameter name, and how they are computed with."""

    matrices: dict[str, Tensor]
    """Weights of rank 2 inside the blocks."""
    other_weights: dict[str, Tensor]
    """All others of rank 2 and more: embeddings, heads, convolutions."""
    vectors: dict[str, Tensor]
    """Gains and biases."""
    precision: torch.dtype = torch.bfloat16
    """Dtype of an optimizer's own matmuls."""
    dist: DistributedContext = SINGLE_PROCESS
    """Processes that can divide the work of an update."""

    @property
    def all(self) -> list[Tensor]:
        """Every weight: matrices, other weights, vectors."""
        return [*self.matrices.values(), *self.other_weights.values(), *self.vectors.values()]

    def with_weight_decay(self, weight_decay: float) -> list[dict[str, Any]]:
        """torch parameter groups in which all but the vectors are decayed."""
        decayed = [*self.matrices.values(), *self.other_weights.values()]
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": weight_decay},
            {"params": list(self.vectors.values()), "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]


def param_groups(task: nn.Module) -> ParamGroups:
    """The trainable weights of a task by their role.

    A model with other needs (stacks of experts that Muon should train) changes the default in
    `Architecture.param_groups`.
    """
    groups = ParamGroups({}, {}, {})
    for name, weight in task.named_parameters():
        # frozen weights, as in a fine-tuning of the head alone
        if not weight.requires_grad:
            continue
        if weight.dim() < 2:
            groups.vectors[name] = weight
        # Muon is for hidden matrices; embeddings and heads want AdamW (Jordan et al. 2024)
        elif ".blocks." in name and weight.dim() == 2:
            groups.matrices[name] = weight
        else:
            groups.other_weights[name] = weight
    backbone: Any = task.backbone
    regrouped: ParamGroups = backbone.param_groups(groups)
    return regrouped


class OptimizerModule:
    """An optimizer's file, with a default for what it leaves out. Raises InputError where there is
    no such file, SettingError where it lacks a required name."""

    def __init__(self, name: str) -> None:
        self.module: ModuleType = registry.module("scriven.train.optim", name, "optimizer")
        for required in ("STATE_PER_PARAM", "default_lr", "build"):
            if not hasattr(self.module, required):
                raise SettingError(
                    f"--optim.optimizer={name}: the file has no {required}; copy "
                    "train/optim/sgd.py as a start"
                )
        self.state_per_param = int(self.module.STATE_PER_PARAM)
        """Numbers the optimizer keeps per weight."""
        self.orthogonalises_matrices = bool(getattr(self.module, "ORTHOGONALISES_MATRICES", False))
        """Whether matrices go through Newton-Schulz: one momentum each, stepped at `muon_lr`."""

    def default_lr(self, d_model: int, short_run: bool = False) -> float:
        """Peak learning rate; larger where there is time for few steps only."""
        factor = getattr(self.module, "SHORT_RUN_LR_FACTOR", 1.0) if short_run else 1.0
        return float(factor * self.module.default_lr(d_model))

    def finetune_lr(self, d_model: int, lora: bool) -> float:
        """Peak learning rate of a fine-tuning: half of the default, five times it for LoRA."""
        if hasattr(self.module, "finetune_lr"):
            return float(self.module.finetune_lr(d_model, lora))
        return self.default_lr(d_model) * (5.0 if lora else 0.5)

    def lrs(self, settings: OptimSettings, d_model: int) -> dict[str, float]:
        """Peak learning rates of the matrices inside the blocks and of the rest.

        Muon's updates have the same size at every width, so one rate serves them all (Jordan et
        al. 2024; Bernstein and Newhouse 2024).
        """
        lr = self.default_lr(d_model) if settings.lr is None else settings.lr
        return {"matrices": settings.muon_lr if self.orthogonalises_matrices else lr, "rest": lr}


def uncompiled(method: Callable[..., Any]) -> Any:
    """A method of torch.optim without the decorator that loads torch.compile."""
    return getattr(method, "__wrapped__", method)


class UncompiledOptimizer(torch.optim.Optimizer):
    """A torch optimizer that does not load torch.compile when it is created: about a second.

    PyTorch wraps these methods to keep torch.compile out of them. No update is compiled here, so
    the wrapped methods are called directly; a PyTorch without wrappers is used as it is.
    """

    add_param_group = uncompiled(torch.optim.Optimizer.add_param_group)
    state_dict = uncompiled(torch.optim.Optimizer.state_dict)
    load_state_dict = uncompiled(torch.optim.Optimizer.load_state_dict)
    zero_grad = uncompiled(torch.optim.Optimizer.zero_grad)


class Optimizers:
    """The optimizers of a task, which step together under one learning rate schedule.

    Args:
        settings: an open `lr` is the optimizer's default for the width of the task.
        user_optimizer: replaces the named optimizer of the settings.
        precision, dist: as in `ParamGroups`.
    """

    def __init__(
        self,
        task: nn.Module,
        settings: OptimSettings,
        user_optimizer: UserOptimizer | None = None,
        precision: torch.dtype = torch.bfloat16,
        dist: DistributedContext = SINGLE_PROCESS,
    ) -> None:
        groups = dataclasses.replace(param_groups(task), precision=precision, dist=dist)
        weights = {**groups.matrices, **groups.other_weights, **groups.vectors}
        self.names, self.parameters = list(weights), list(weights.values())
        self.optimizers: list[torch.optim.Optimizer]
        if user_optimizer is not None:
            self.optimizers = [_user_optimizer(user_optimizer, self.parameters)]
        else:
            module = OptimizerModule(settings.optimizer)
            if settings.lr is None:
                # `scriven train` has filled it in; tests and benchmarks may leave it open
                backbone: Any = task.backbone
                lr = module.default_lr(backbone.config.d_model)
                settings = dataclasses.replace(settings, lr=lr)
            built = module.module.build(groups, settings)
            self.optimizers = [built] if isinstance(built, torch.optim.Optimizer) else list(built)
        # schedules multiply these, so that a group keeps its ratio to the others
        self.base_lrs = [[group["lr"] for group in each.param_groups] for each in self.optimizers]
        self.frozen_rows: list[tuple[Tensor, int]] = []

    def freeze_rows(self, name: str, first: int) -> None:
        """Trains only row `first` and the rows after it of the weight `name`. The gradient of the
        rows before is zero, so that it adds nothing to the gradient norm."""
        weight = self.parameters[self.names.index(name)]

        def zero_gradient(weight: Tensor) -> None:
            if weight.grad is not None:
                weight.grad[:first].zero_()

        weight.register_post_accumulate_grad_hook(zero_gradient)  # type: ignore[no-untyped-call]
        self.frozen_rows.append((weight, first))

    def step(self, lr_multiplier: float) -> None:
        """One update at `lr_multiplier` times the peak learning rates; clears the gradients."""
        # 1. weight decay and momentum would move frozen rows although their gradient is zero
        frozen = [weight.detach()[:first].clone() for weight, first in self.frozen_rows]
        # 2. every optimizer at the same point of the schedule
        for optimizer, base_lrs in zip(self.optimizers, self.base_lrs, strict=True):
            for group, base_lr in zip(optimizer.param_groups, base_lrs, strict=True):
                group["lr"] = base_lr * lr_multiplier
            optimizer.step()
        # 3. frozen rows back to what they were
        for (weight, first), rows in zip(self.frozen_rows, frozen, strict=True):
            weight.detach()[:first].copy_(rows)
        self.zero_grad()

    def use_native(self) -> None:
        """Lets compiled code compute the updates that it knows."""
        for optimizer in self.optimizers:
            if hasattr(optimizer, "native"):
                optimizer.native = True

    def zero_grad(self) -> None:
        """Clears the gradients."""
        for weight in self.parameters:
            weight.grad = None  # instead of zeros, which would take memory

    @property
    def lr(self) -> float:
        """Learning rate of the last update, of the first optimizer."""
        return float(self.optimizers[0].param_groups[0]["lr"])

    def state(self) -> tuple[dict[str, Tensor], dict[str, float]]:
        """(tensors, numbers) under keys `optimizer.parameter.entry`, parameters by position."""
        tensors: dict[str, Tensor] = {}
        numbers: dict[str, float] = {}
        for index, optimizer in enumerate(self.optimizers):
            for parameter, entries in optimizer.state_dict()["state"].items():
                for entry, value in entries.items():
                    # positions, not names: a checkpoint outlives a renamed parameter
                    key = f"{index}.{parameter}.{entry}"
                    if isinstance(value, Tensor):
                        tensors[key] = value
                    elif value is not None:
                        numbers[key] = float(value)
        return tensors, numbers

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, float]) -> None:
        """The inverse of `state`. Raises DamagedError if it belongs to another set of weights."""
        for index, optimizer in enumerate(self.optimizers):
            # groups and learning rates are those of this run; the state alone is the checkpoint's
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            entries: dict[int, dict[str, Any]] = {}
            value: Any
            for key, value in [*tensors.items(), *numbers.items()]:
                place, parameter, entry = key.split(".", 2)
                if int(place) != index:
                    continue
                number = int(parameter)
                # whole tensors are sharded as the weights are over the processes
                if isinstance(value, Tensor) and number < len(weights):
                    value = shard_like(value, weights[number])
                entries.setdefault(number, {})[entry] = value
            try:
                optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})
            except (ValueError, KeyError) as error:
                raise DamagedError(f"the optimizer's state does not fit: {error}") from error


def _user_optimizer(user: UserOptimizer, parameters: list[Tensor]) -> torch.optim.Optimizer:
    """The user's torch optimizer, checked to be one and to move weights of this model only."""
    if isinstance(user, torch.optim.Optimizer):
        # an optimizer made for another model would train nothing, without an error
        ours = {id(weight) for weight in parameters}
        if not {id(each) for group in user.param_groups for each in group["params"]} <= ours:
            raise SettingError(
                "the optimizer moves weights of another model: hand over a function of the "
                "parameters instead, such as lambda weights: torch.optim.SGD(weights, lr=0.1)"
            )
        return user
    if not callable(user):
        raise SettingError(f"optimizer {user!r} is neither a name, a function nor an optimizer")
    optimizer = user(parameters)
    if not isinstance(optimizer, torch.optim.Optimizer):
        kind = "class" if inspect.isclass(user) else "function"
        raise SettingError(
            f"the optimizer {kind} returned {type(optimizer).__name__}, not an optimizer"
        )
    return optimizer
