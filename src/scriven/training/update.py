"""One update of the weights: forward, backward, clip, step, or skip when a number went bad."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ..data.batch import Batch
from ..runtime import Runtime
from ..tasks.base import Output
from .carry import Carry
from .optim import Optimizers


@dataclass(frozen=True)
class Update:
    """What one update did."""

    loss: float
    """Mean nats per counted token, over all micro-batches."""
    accuracy: float
    norm: float
    """Of the gradient of all weights together, before clipping."""
    applied: bool
    """False when loss or gradient was not a finite number: the weights are as before. A batch in
    which nothing counts moves nothing either, but is no reason to worry."""


class Updater:
    """Turns a batch into an update.

    Micro-batches add up sums, divided once by the tokens of the whole batch, so their number
    changes memory and speed but not the mathematics. A model with a memory finds in `carry` what
    its rows remember; an update that went bad makes it forget, as that may have gone bad as well.
    """

    def __init__(
        self,
        task: nn.Module,
        optimizers: Optimizers,
        runtime: Runtime,
        clip: float,
        forward: Callable[[Batch], Output] | None = None,
        carry: Carry | None = None,
    ) -> None:
        self.task, self.optimizers, self.runtime, self.clip = task, optimizers, runtime, clip
        self.forward, self.carry = forward or task, carry
        half = runtime.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(runtime.device.type, enabled=half)

    def __call__(self, batch: Batch, rows: int, share: float) -> Update:
        """One update.

        Args:
            batch: all rows of this update.
            rows: at most so many at once.
            share: of the peak learning rate.
        """
        total = batch.counted()
        if not total:  # decay and momentum would move the weights without anything learnt
            return Update(0.0, 0.0, 0.0, applied=True)
        loss, correct = 0.0, 0
        for number, part in enumerate(batch.split(rows)):
            state = self.carry.state(number * rows, part.tokens.size(0)) if self.carry else None
            with self.runtime.autocast():
                output = self.forward(part) if state is None else self.task(part, state)
            self.scaler.scale(output.loss / total).backward()
            loss += float(output.loss.detach())
            correct += int(output.correct)
        for part_of_step in self.optimizers.parts:
            self.scaler.unscale_(part_of_step)
        norm = float(self._clip())
        applied = math.isfinite(loss) and math.isfinite(norm)
        if applied:
            self.optimizers.step(share)
        else:
            self.optimizers.clear()
            if self.carry is not None:
                self.carry.clear()
        self.scaler.update()
        return Update(loss / total, correct / total, norm, applied)

    def _clip(self) -> torch.Tensor:
        limit = self.clip if self.clip > 0 else math.inf
        return torch.nn.utils.clip_grad_norm_(self.optimizers.parameters, limit)
