"""One training step: forward and backward over micro-batches, gradient clipping, optimizer step."""

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from ..data.batch import Batch
from ..distributed import full_tensor
from ..native.library import single_threaded_pytorch
from ..native.training import NativeTraining
from ..runtime import Runtime
from ..tasks.base import Output
from .build_model import Parallel
from .optim.base import Optimizers
from .recurrent_state import TBPTTState


@dataclass(frozen=True)
class StepMetrics:
    """What one step did."""

    loss: float
    """Mean loss in nats per target, over all micro-batches and processes."""
    accuracy: float
    grad_norm: float
    """Norm of the gradient of all weights together, before clipping."""
    applied: bool
    """False if the loss or the gradient was NaN, infinite or too large, so that the weights are as
    before. A batch without targets changes no weight either, but counts as applied."""
    num_tokens: int
    """Tokens of the text in the batch."""


class TrainStep:
    """Turns a batch into an update of the weights.

    Gradient accumulation adds up sums, which are divided once by the number of targets of the whole
    batch: neither the number of micro-batches nor the number of processes changes the mathematics.
    """

    def __init__(
        self,
        parallel: Parallel,
        optimizers: Optimizers,
        runtime: Runtime,
        grad_clip: float,
        recurrent_state: TBPTTState | None = None,
    ) -> None:
        self.parallel, self.optimizers = parallel, optimizers
        self.runtime, self.grad_clip = runtime, grad_clip
        self.recurrent_state = recurrent_state
        half = runtime.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(runtime.device.type, enabled=half)

    def __call__(
        self,
        batch: Batch,
        micro_batch_size: int,
        lr_multiplier: float,
        max_loss: float = math.inf,
    ) -> StepMetrics:
        """One step.

        Args:
            batch: this process's rows of the batch, (B, T) tokens and targets.
            micro_batch_size: rows of one forward pass.
            lr_multiplier: the learning rate as a fraction of its peak.
            max_loss: nats per target above which the weights stay as they are.
        """
        is_native = isinstance(self.parallel.forward, NativeTraining)
        with single_threaded_pytorch() if is_native else nullcontext():
            return self._step(batch, micro_batch_size, lr_multiplier, max_loss)

    def _step(
        self, batch: Batch, micro_batch_size: int, lr_multiplier: float, max_loss: float
    ) -> StepMetrics:
        """The step itself, on the threads that `__call__` chose."""
        dist = self.parallel.dist
        # 1. what the loss is divided by: the targets of the whole batch, over all processes
        targets, num_tokens = dist.all_reduce([batch.num_targets(), batch.num_tokens])
        if not targets:  # weight decay and momentum would move the weights without a gradient
            return StepMetrics(0.0, 0.0, 0.0, applied=True, num_tokens=int(num_tokens))
        # 2. forward and backward, micro-batch by micro-batch; gradients accumulate
        loss, correct = 0.0, 0
        micro_batches = list(batch.split(micro_batch_size))
        for index, micro_batch in enumerate(micro_batches):  # (micro_batch_size, T) each
            inputs: tuple[Any, ...] = (micro_batch,)
            if self.recurrent_state is not None:  # truncated BPTT goes on from the batch before
                first, rows = index * micro_batch_size, micro_batch.tokens.size(0)
                inputs = (micro_batch, self.recurrent_state.of_rows(first, rows))
            # DDP reduces gradients after the last micro-batch only; FSDP after each: the same sum
            waits = self.parallel.mode == "ddp" and index < len(micro_batches) - 1
            with self.parallel.wrapped.no_sync() if waits else nullcontext():
                with self.runtime.autocast():  # for the forward pass; backward uses its dtypes
                    output: Output = self.parallel.forward(*inputs)
                # DDP and FSDP average gradients over processes, so the mean is undone here
                scaled = self.scaler.scale(output.loss / (targets / dist.world_size))
                scaled.backward()  # type: ignore[no-untyped-call]
            loss += float(output.loss.detach())
            correct += int(output.correct)
        loss, correct_of_all = dist.all_reduce([loss, correct])
        # 3. clip the norm of the whole gradient, without the factor of float16 loss scaling
        for optimizer in self.optimizers.optimizers:
            self.scaler.unscale_(optimizer)
        limit = self.grad_clip if self.grad_clip > 0 else math.inf  # inf: measured only
        norm = torch.nn.utils.clip_grad_norm_(self.optimizers.parameters, limit)
        grad_norm = float(full_tensor(norm))  # the norm before clipping; FSDP holds it in shards
        # 4. update the weights, unless the loss or the gradient is NaN, infinite or too large
        applied = math.isfinite(loss) and math.isfinite(grad_norm) and loss / targets <= max_loss
        if applied:
            self.optimizers.step(lr_multiplier)
        else:
            self.optimizers.zero_grad()
            if self.recurrent_state is not None:  # it may hold the same NaN
                self.recurrent_state.reset()
        self.scaler.update()
        return StepMetrics(
            loss / targets, correct_of_all / targets, grad_norm, applied, int(num_tokens)
        )


@dataclass
class RunningAverages:
    """Averages over the steps since a moment, for progress lines."""

    began: float
    """Seconds of the run at the first step; moved on by whatever is not training time."""
    steps: int = 0
    applied: int = 0
    tokens: int = 0
    loss_sum: float = 0.0
    accuracy_sum: float = 0.0

    def add(self, metrics: StepMetrics) -> None:
        """Counts a step; a skipped one takes time, but its loss is left out of the mean."""
        self.steps += 1
        self.tokens += metrics.num_tokens
        if metrics.applied:
            self.applied += 1
            self.loss_sum += metrics.loss
            self.accuracy_sum += metrics.accuracy

    @property
    def loss(self) -> float | None:
        """Mean loss of the steps that were applied."""
        return self.loss_sum / self.applied if self.applied else None

    @property
    def accuracy(self) -> float | None:
        """Mean accuracy of the steps that were applied."""
        return self.accuracy_sum / self.applied if self.applied else None

    def tokens_per_second(self, now: float) -> float:
        """Training speed; `now` is the clock of `began`."""
        return self.tokens / max(1e-9, now - self.began)
