"""Loss over a whole text: every token once, as its task cuts it."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import islice

import torch
from torch import Tensor

from ..data.batch import IGNORE_INDEX, Batch
from ..data.pairs import PairDataset
from ..data.shards import TokenFile
from ..distributed import SINGLE_PROCESS, DistributedContext
from ..nn.state import State
from ..runtime import Runtime
from ..tasks.base import Objective
from ..tasks.pairs import Pairs
from ..tokenizers import Tokenizer

Metric = Callable[[Tensor, Tensor], Tensor]
"""The user's own: logits (N, V) and targets (N,) -> mean over the targets."""


@dataclass(frozen=True)
class Score:
    """What a model makes of a text."""

    loss: float
    """Mean nats per token."""
    accuracy: float
    """Share of tokens that were the likeliest one."""
    tokens: int
    bits_per_byte: float
    """Independent of the tokenizer: total bits over the UTF-8 bytes of the text."""
    metrics: dict[str, float] = field(default_factory=dict)
    by_accuracy: bool = False
    """Whether the best model is the one that is right most often."""

    @property
    def selection_metric(self) -> float:
        """The better of two models has less of it: the loss; or the share of wrong answers, and of
        equal shares the loss.

        A model that learns labels by heart becomes sure of its mistakes, so that its loss rises
        while it still learns to make fewer of them.
        """
        if not self.by_accuracy or not math.isfinite(self.loss):
            return self.loss
        return 1 - self.accuracy + 1e-6 * min(self.loss, 1e3)

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return math.exp(min(self.loss, 700.0))


def evaluate_loss(
    task: Objective,
    batches: Iterable[Batch],
    *,
    text_bytes: int,
    runtime: Runtime,
    metrics: Mapping[str, Metric] | None = None,
    memory: int | None = None,
    pause: Callable[[], bool] = lambda: False,
    dist: DistributedContext = SINGLE_PROCESS,
) -> Score | None:
    """Mean negative log-likelihood of every counted target.

    Args:
        batches: as `task.examine` cuts a text; a model with a memory carries it from one batch to
            the next where they follow each other.
        text_bytes: UTF-8 bytes of the text, for bits per byte.
        metrics: further means to compute, by name.
        memory: positions of earlier text to remember, instead of the model's own number.
        pause: asked between batches; when it says yes, None is returned.
        world: of several processes each measures its share.
    """
    loss = correct = seen = 0.0
    means = dict.fromkeys(metrics or {}, 0.0)
    training = task.training
    task.eval()
    state: State | None = None
    try:
        for batch in shared(task, batches, dist):
            if pause():
                return None
            with no_gradient(dist), runtime.autocast():
                if batch.reset_state:
                    state = task.backbone.carried(batch.tokens.size(0), memory)
                if metrics:
                    _add(means, metrics, task, batch, state)
                output = task(batch, state)
            loss += float(output.loss)
            correct += int(output.correct)
            seen += int(output.tokens)
    finally:
        task.train(training)
    names = list(means)
    loss, correct, seen, *totals = dist.all_reduce_sum([loss, correct, seen, *means.values()])
    means = dict(zip(names, totals, strict=True))
    if not seen:
        raise ValueError("no tokens to evaluate")
    return Score(
        loss=loss / seen,
        accuracy=correct / seen,
        tokens=int(seen),
        bits_per_byte=loss / math.log(2) / max(1, text_bytes),
        metrics={name: total / seen for name, total in means.items()},
        by_accuracy=task.by_accuracy,
    )


def no_gradient(dist: DistributedContext) -> AbstractContextManager[None]:
    """Inference mode, but where weights lie in parts: those put together in a pass are kept, and
    training could not use them after it."""
    return torch.inference_mode() if dist.world_size == 1 else torch.no_grad()


def shared(task: Objective, batches: Iterable[Batch], dist: DistributedContext) -> Iterator[Batch]:
    """This process's share of batches; as many for each, the last ones perhaps without targets.

    Where a text is read in its order, the rows of each batch are shared out; elsewhere batches are.
    """
    if dist.world_size == 1:
        yield from batches
    elif task.backbone.remembers:
        for batch in batches:
            rows = dist.shard(batch.tokens.size(0))
            yield batch.rows(rows) if rows.start < rows.stop else _empty(batch.rows(slice(0, 1)))
    else:
        source = iter(batches)
        while turn := list(islice(source, dist.world_size)):
            yield turn[dist.rank] if dist.rank < len(turn) else _empty(turn[0])


def _empty(batch: Batch) -> Batch:
    """One that counts nothing: a pass of the model that other processes wait for."""
    return replace(batch, targets=torch.full_like(batch.targets, IGNORE_INDEX))


def bytes_measured(task: Objective, shard: TokenFile, tokenizer: Tokenizer, size: int) -> int:
    """UTF-8 bytes of what `task.examine` counts of a shard of `size` bytes: all, but for pairs."""
    if not isinstance(task, Pairs):
        return size
    rows = PairDataset(shard, tokenizer.eos)
    return rows.target_bytes(tokenizer, task.backbone.config.context_length)


def _add(
    means: dict[str, float],
    metrics: Mapping[str, Metric],
    task: Objective,
    batch: Batch,
    state: State | None,
) -> None:
    """Adds one batch to the user's own metrics."""
    logits = task.logits(task.hidden(batch, copy.deepcopy(state))).flatten(0, 1)
    targets = batch.targets.flatten()
    kept = targets != IGNORE_INDEX
    count = int(kept.sum())
    if count < len(targets):  # a function of the user's own knows nothing of IGNORE_INDEX
        logits, targets = logits[kept], targets[kept]
    if not count:
        return
    for name, metric in metrics.items():
        means[name] += float(metric(logits, targets)) * count
