"""Makes the weights of a `GPT`: for the vocabulary of a text, or without one where it is known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .. import config, registry
from ..distributed import SINGLE_PROCESS
from ..errors import InputError, for_python
from ..settings import Settings
from ..tasks.base import BaseTask
from ..tokenizers import Tokenizer, train_tokenizer
from ..train.autoconfig import TrainPlan
from ..train.pretrain import Pretraining
from ..train.request import TrainRequest, read_overrides
from ..train.scaling_laws import SIZES
from .summary import summary


def plan_run(request: TrainRequest, given: Tokenizer | None) -> tuple[TrainPlan, Tokenizer]:
    """The plan of a run on these texts, which are read and encoded, and its tokenizer.

    Args:
        given: a tokenizer to use instead of a new one.

    Raises:
        ScrivenError: as `train.run.start_or_resume`, before anything is written.
    """
    overrides = read_overrides(request)
    settings = overrides.apply(Settings())
    source = Pretraining(request, overrides, settings, SINGLE_PROCESS, lambda _: None, given=given)
    source.load()
    plan, _ = source.plan()
    assert source.corpus is not None
    return plan, source.corpus.tokenizer


def make_task(arch: str, shape: Any, task: str, tokenizer: Tokenizer, seed: int) -> BaseTask:
    """A model with the random weights that a run of this seed begins with.

    Args:
        arch: the architecture, or a .py file; shape: its Config.
        task: a file of tasks/.
    """
    torch.manual_seed(seed)
    backbone = registry.module("scriven.models", arch).Model(shape)
    kind = registry.module("scriven.tasks", task).Task
    made: BaseTask = kind(backbone, None, tokenizer.special_token_ids, None)
    made.init_weights()
    return made


def make_without_text(
    arch: str, shape: Mapping[str, Any], tokenizer: Tokenizer | None, seed: int
) -> tuple[BaseTask, Tokenizer] | None:
    """A model whose shape and vocabulary are known already; None if a text must decide.

    Args:
        shape: the fields of the Config that were given.
        tokenizer: None for bytes.
    """
    module = registry.module("scriven.models", arch)
    known = {each.name for each in fields(module.Config)}
    needed = {*vars(SIZES["tiny"]), "context_length"} & known
    if not needed <= shape.keys() or module.Model.has_head:
        return None
    task = module.Model.pretraining_task
    if tokenizer is None:
        tokenizer = train_tokenizer("byte", iter(()), Settings().tokenizer)
        extra = registry.module("scriven.tasks", task).Task.EXTRA_TOKENS
        tokenizer = tokenizer.with_special_tokens(*extra)
    changes = {**shape, "vocab_size": tokenizer.vocab_size}
    full = config.replace(module.Config(), changes, "model")
    return make_task(arch, full, task, tokenizer, seed), tokenizer


def fields_chosen(shape: Any) -> dict[str, Any]:
    """The fields of a Config that a plan would choose otherwise, or that are not its defaults."""
    values, defaults = config.to_dict(shape), config.to_dict(type(shape)())
    del values["vocab_size"]
    planned = {*vars(SIZES["tiny"]), "context_length", "dropout"}
    return {
        name: each for name, each in values.items() if name in planned or each != defaults[name]
    }


def write_weights(weights: Sequence[torch.Tensor], values: Sequence[npt.ArrayLike]) -> None:
    """Writes arrays into weights, in place.

    Raises:
        InputError: another number of arrays, or one of another shape; nothing is written then.
    """
    arrays = [np.asarray(each) for each in values]
    if len(arrays) != len(weights):
        raise InputError(f"{len(arrays)} arrays for {len(weights)} weights")
    for place, (weight, array) in enumerate(zip(weights, arrays, strict=True)):
        if array.shape != tuple(weight.shape):
            shape = tuple(weight.shape)
            raise InputError(f"array {place} has the shape {array.shape}, its weight {shape}")
    for weight, array in zip(weights, arrays, strict=True):
        weight.data.copy_(torch.as_tensor(array))


@for_python
class Buildable:
    """A model whose weights are made when their number is known, and stay the same tensors."""

    def __init__(
        self, arch: str, tokenizer: str | Tokenizer | None, seed: int, shape: dict[str, Any]
    ) -> None:
        module = registry.module("scriven.models", arch)
        # refuses a wrong shape here, and not at the first fit
        config.replace(module.Config(), shape, "model")
        self.arch, self.tokenizer, self.seed, self.shape = arch, tokenizer, seed, shape
        self._task: BaseTask | None = None
        if isinstance(tokenizer, Tokenizer) or tokenizer == "byte":
            if made := make_without_text(arch, shape, self._given, seed):
                self._task, self.tokenizer = made
                self._keep_shape()

    def parameters(self) -> list[torch.nn.Parameter]:
        """The weights, the same tensors before and after `fit`.

        Raises:
            InputError: there are none yet, as the vocabulary comes from a text.
        """
        return list(self._built.parameters())

    def get_weights(self) -> list[npt.NDArray[np.float32]]:
        """Copies of all weights as arrays, in the order of `parameters`."""
        return [weight.detach().float().cpu().numpy().copy() for weight in self.parameters()]

    def set_weights(self, weights: Sequence[npt.ArrayLike]) -> None:
        """Replaces all weights, in the order of `parameters`.

        Raises:
            InputError: another number of arrays, or one of another shape.
        """
        write_weights(self.parameters(), weights)

    def count_params(self) -> int:
        """The number of weights."""
        return sum(weight.numel() for weight in self.parameters())

    def summary(self, print_fn: Callable[[str], None] = print) -> None:
        """Prints the layers with their output shapes and numbers of weights, as Keras does."""
        print_fn(summary(self._built, Path(self.arch).stem))

    @property
    def _given(self) -> Tokenizer | None:
        """The tokenizer itself, once there is one."""
        return self.tokenizer if isinstance(self.tokenizer, Tokenizer) else None

    @property
    def _built(self) -> BaseTask:
        if self._task is None:
            raise InputError(
                "the weights do not exist yet, as the vocabulary comes from the text: call "
                'build(TEXT) first, or give the shape and tokenizer="byte"'
            )
        return self._task

    def _plan(self, names: Sequence[str], budget: str, chosen: dict[str, Any]) -> TrainPlan:
        """The plan of a run on these texts; makes the weights for it unless they exist."""
        request = TrainRequest(
            sources=names, budget=budget, seed=self.seed, arch=self.arch, quiet=True,
            settings=chosen,
        )  # fmt: skip
        plan, tokenizer = plan_run(request, self._given)
        if self._task is None:
            self._task = make_task(self.arch, plan.model, plan.task, tokenizer, self.seed)
            self.tokenizer = tokenizer
            self._keep_shape()
        return plan

    def _keep_shape(self) -> None:
        """From now on the shape is that of the weights, whatever the next text is."""
        self.shape = fields_chosen(self._built.backbone.config)
