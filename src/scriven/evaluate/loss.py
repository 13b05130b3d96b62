"""Loss, accuracy and bits per byte over a whole text: every token is predicted exactly once."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.batch import IGNORE_INDEX, Batch
from ..data.pairs import PairDataset
from ..data.shards import TokenFile
from ..distributed import SINGLE_PROCESS, DistributedContext
from ..nn.cache import Cache
from ..runtime import Runtime
from ..tasks.base import BaseTask, Output
from ..tasks.pairs import Pairs
from ..tokenizers import Tokenizer

Metric = Callable[[Tensor, Tensor], Tensor]
"""A user's metric: logits (N, V) and targets (N,) -> mean over the targets."""


@dataclass(frozen=True)
class Score:
    """What a model reaches on a text."""

    loss: float  # mean nats per token
    accuracy: float  # fraction of targets to which the model gave the highest logit
    tokens: int
    bits_per_byte: float
    """Total bits over the UTF-8 bytes of the text, which does not depend on the tokenizer."""
    metrics: dict[str, float] = field(default_factory=dict)  # the user's metrics by name
    by_accuracy: bool = False  # whether the best weights are chosen by accuracy instead of loss

    @property
    def selection_value(self) -> float:
        """The best weights have the least of it: the loss, or the error rate and then the loss."""
        if not self.by_accuracy or not math.isfinite(self.loss):
            return self.loss
        # a classifier that overfits becomes confident in its mistakes, so its loss rises while its
        # accuracy still improves
        return 1 - self.accuracy + 1e-6 * min(self.loss, 1e3)

    @property
    def perplexity(self) -> float:
        """exp(loss), where the exponential does not overflow."""
        return math.exp(min(self.loss, 700.0))


def evaluate_loss(
    task: BaseTask,
    batches: Iterable[Batch],
    *,
    text_bytes: int,
    runtime: Runtime,
    metrics: Mapping[str, Metric] | None = None,
    memory: int | None = None,
    pause: Callable[[], bool] = lambda: False,
    dist: DistributedContext = SINGLE_PROCESS,
    forward: Callable[..., Output] | None = None,
) -> Score | None:
    """Mean negative log-likelihood over every target.

    Args:
        batches: the text as the task cuts it; a recurrent model keeps its state from one batch to
            the next where they continue the same rows.
        text_bytes: UTF-8 bytes of the text, for bits per byte.
        metrics: further means to compute, by name.
        memory: positions of earlier text to attend to, instead of the model's own number.
        pause: called between batches; evaluation stops and returns None when it returns True.
        dist: each of several processes evaluates its shard, and the sums are reduced.
        forward: computes the loss of a batch; by default the task.

    Raises:
        ValueError: there are no targets.
    """
    # sums over targets, divided once at the end: how the text is cut into batches does not matter
    loss = correct = seen = 0.0
    sums = [0.0] * len(metrics or {})
    training = task.training
    task.eval()
    state: Cache | None = None
    try:
        for batch in shard_batches(task, batches, dist):
            if pause():
                return None
            with inference_mode(dist), runtime.autocast():
                if batch.reset_state:  # its rows do not continue those of the batch before
                    state = task.backbone.recurrent_state(batch.tokens.size(0), memory)
                if metrics:
                    found = _metric_sums(metrics, task, batch, state)
                    sums = [total + each for total, each in zip(sums, found, strict=True)]
                output = (forward or task)(batch, state)
            loss += float(output.loss)
            correct += int(output.correct)
            seen += int(output.tokens)
    finally:  # back to dropout and the like, where the model was in training
        task.train(training)
    loss, correct, seen, *sums = dist.all_reduce([loss, correct, seen, *sums])
    if not seen:
        raise ValueError("no tokens to evaluate")
    return Score(
        loss=loss / seen,
        accuracy=correct / seen,
        tokens=int(seen),
        bits_per_byte=loss / math.log(2) / max(1, text_bytes),
        metrics={name: total / seen for name, total in zip(metrics or {}, sums, strict=True)},
        by_accuracy=task.selection_metric == "accuracy",
    )


def inference_mode(dist: DistributedContext) -> AbstractContextManager[None]:
    """Inference mode for one process, no_grad for several: weights that FSDP gathers in a pass are
    kept, and as inference tensors training could not use them afterwards."""
    return torch.inference_mode() if dist.world_size == 1 else torch.no_grad()


def shard_batches(
    task: BaseTask, batches: Iterable[Batch], dist: DistributedContext
) -> Iterator[Batch]:
    """This process's shard of the batches. Each process gets as many, if need be without targets.

    Sequential text is sharded by the rows of each batch, everything else by batches.
    """
    if dist.world_size == 1:
        yield from batches
    elif task.backbone.is_recurrent:
        for batch in batches:
            rows = dist.shard(batch.tokens.size(0))
            yield batch.rows(rows) if rows.start < rows.stop else _empty(batch.rows(slice(0, 1)))
    else:
        source = iter(batches)
        while turn := list(islice(source, dist.world_size)):
            yield turn[dist.rank] if dist.rank < len(turn) else _empty(turn[0])


def _empty(batch: Batch) -> Batch:
    """A batch without targets, for a forward pass that the other processes wait for."""
    return replace(batch, targets=torch.full_like(batch.targets, IGNORE_INDEX))


def scored_bytes(task: BaseTask, shard: TokenFile, tokenizer: Tokenizer, size: int) -> int:
    """UTF-8 bytes of the targets in a shard of `size` bytes: of pairs those of the targets only."""
    if not isinstance(task, Pairs):
        return size
    rows = PairDataset(shard, tokenizer.eos)
    return rows.target_bytes(tokenizer, task.backbone.config.context_length)


def _metric_sums(
    metrics: Mapping[str, Metric], task: BaseTask, batch: Batch, state: Cache | None
) -> list[float]:
    """Each of the user's metrics, summed over the targets of one batch."""
    # a copy, since reading changes the state, and the loss of this batch is computed after this
    logits = task.logits(task.hidden(batch, copy.deepcopy(state))).flatten(0, 1)  # (B · T, V)
    targets = batch.targets.flatten()  # (B · T,)
    counted = targets != IGNORE_INDEX  # a user's function knows nothing of it
    count = int(counted.sum())
    if count < len(targets):
        logits, targets = logits[counted], targets[counted]
    return [count and count * float(metric(logits, targets)) for metric in metrics.values()]


def token_nll(
    task: BaseTask, shard: TokenFile, tokenizer: Tokenizer, runtime: Runtime, count: int = 600
) -> list[tuple[str, float]]:
    """(text, nats) of the first tokens of a shard, each predicted as in `evaluate_loss`.

    Empty for a task that does not predict the next token.
    """
    tokens: list[tuple[str, float]] = []
    if task.loss_unit != "next token":
        return tokens
    task.eval()
    state = None
    for batch in task.eval_batches(shard.head(count), runtime.device):
        with torch.inference_mode(), runtime.autocast():
            if batch.reset_state:
                state = task.backbone.recurrent_state(batch.tokens.size(0))
            logits = task.logits(task.hidden(batch, state))  # (B, T, V)
        # rows of a recurrent batch are distant places of the text: only the first is its beginning
        rows = slice(0, 1) if task.backbone.is_recurrent else slice(None)
        logits, targets = logits[rows].flatten(0, 1), batch.targets[rows].flatten()
        nats = F.cross_entropy(logits, targets, reduction="none", ignore_index=IGNORE_INDEX)
        for token, value in zip(targets.tolist(), nats.tolist(), strict=True):
            if token != IGNORE_INDEX:
                tokens.append((tokenizer.decode([token]), value))
            if len(tokens) == count:
                return tokens
    return tokens
