"""One update of the weights: forward, backward, clip, step, or skip when a number went bad."""

import math
from dataclasses import dataclass

import torch

from ..data.batch import Batch
from ..runtime import Runtime
from ..tasks.base import Output
from .optim.base import Optimizers
from .parallel import Parallel, whole
from .recurrent_state import RecurrentState


@dataclass(frozen=True)
class StepMetrics:
    """What one update did."""

    loss: float
    """Mean nats per counted token, over all micro-batches."""
    accuracy: float
    norm: float
    """Of the gradient of all weights together, before clipping."""
    applied: bool
    """False when loss or gradient was not a finite number: the weights are as before. A batch in
    which nothing counts moves nothing either, but is no reason to worry."""
    read: int
    """Tokens of the text."""


class TrainStep:
    """Turns a batch into an update.

    Micro-batches add up sums, divided once by the tokens of the whole batch, so their number
    changes memory and speed but not the mathematics. A model with a memory finds in `carry` what
    its rows remember; an update that went bad makes it forget, as that may have gone bad as well.
    Several processes take each their rows of a batch and divide by the tokens of all of it.
    """

    def __init__(
        self,
        parallel: Parallel,
        optimizers: Optimizers,
        runtime: Runtime,
        clip: float,
        carry: RecurrentState | None = None,
    ) -> None:
        self.parallel, self.optimizers = parallel, optimizers
        self.runtime, self.clip, self.carry = runtime, clip, carry
        half = runtime.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(runtime.device.type, enabled=half)

    def __call__(self, batch: Batch, rows: int, lr_multiplier: float) -> StepMetrics:
        """One update.

        Args:
            batch: all rows of this process for this update.
            rows: at most so many at once.
            lr_multiplier: of the peak learning rate.
        """
        dist = self.parallel.dist
        total, read = dist.all_reduce_sum([batch.num_targets(), batch.num_tokens])
        if not total:  # decay and momentum would move the weights without anything learnt
            return StepMetrics(0.0, 0.0, 0.0, applied=True, read=int(read))
        loss, correct = 0.0, 0
        parts = list(batch.split(rows))
        for number, part in enumerate(parts):
            with self.parallel.part(last=number == len(parts) - 1):
                output = self._forward(part, number * rows)
                self.scaler.scale(output.loss / (total / dist.world_size)).backward()  # type: ignore[no-untyped-call]
            loss += float(output.loss.detach())
            correct += int(output.correct)
        loss, right = dist.all_reduce_sum([loss, correct])
        for optimizer in self.optimizers.optimizers:
            self.scaler.unscale_(optimizer)
        norm = float(self._clip())
        applied = math.isfinite(loss) and math.isfinite(norm)
        if applied:
            self.optimizers.step(lr_multiplier)
        else:
            self.optimizers.zero_grad()
            if self.carry is not None:
                self.carry.clear()
        self.scaler.update()
        return StepMetrics(loss / total, right / total, norm, applied, int(read))

    def _forward(self, part: Batch, start: int) -> Output:
        """A forward pass over the rows from `start` on."""
        state = self.carry.state(start, part.tokens.size(0)) if self.carry else None
        with self.runtime.autocast():
            if state is None:
                return self.parallel.forward(part)
            return self.parallel.forward(part, state)

    def _clip(self) -> torch.Tensor:
        limit = self.clip if self.clip > 0 else math.inf
        return whole(torch.nn.utils.clip_grad_norm_(self.optimizers.parameters, limit))
