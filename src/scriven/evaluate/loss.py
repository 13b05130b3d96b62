"""Loss over a whole shard of text: every token once, in windows without overlap."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..data.batch import IGNORED, Batch
from ..data.shards import Shard
from ..runtime import Runtime
from ..tasks.language import Language

Metric = Callable[[Tensor, Tensor], Tensor]
"""The user's own: logits (N, V) and targets (N,) -> mean over the targets."""

TOKENS_AT_ONCE = 8192


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

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return math.exp(min(self.loss, 700.0))


def evaluate_loss(
    task: Language,
    shard: Shard,
    *,
    eos: int,
    text_bytes: int,
    runtime: Runtime,
    metrics: Mapping[str, Metric] | None = None,
    pause: Callable[[], bool] = lambda: False,
) -> Score | None:
    """Mean negative log-likelihood of every token of `shard`.

    The text is cut into windows of the model's context that do not overlap; the first token is
    predicted from the end-of-text token.

    Args:
        eos: id of the end-of-text token.
        text_bytes: UTF-8 bytes of the text, for bits per byte.
        metrics: further means to compute, by name.
        pause: asked between batches; when it says yes, None is returned.
    """
    if len(shard) == 0:
        raise ValueError("no tokens to evaluate")
    context = task.backbone.config.context
    loss, correct, seen = 0.0, 0, 0
    means = dict.fromkeys(metrics or {}, 0.0)
    training = task.training
    task.eval()
    try:
        for batch in windows(shard, context, eos, runtime.device):
            if pause():
                return None
            with torch.inference_mode(), runtime.autocast():
                output = task(batch)
                if metrics:
                    _add(means, metrics, task, batch)
            loss += float(output.loss)
            correct += int(output.correct)
            seen += int(output.tokens)
    finally:
        task.train(training)
    return Score(
        loss=loss / seen,
        accuracy=correct / seen,
        tokens=seen,
        bits_per_byte=loss / math.log(2) / max(1, text_bytes),
        metrics={name: total / seen for name, total in means.items()},
    )


def windows(shard: Shard, context: int, eos: int, device: torch.device) -> Iterator[Batch]:
    """All of a shard as batches (B, context); the last window may be shorter."""
    rows = max(1, TOKENS_AT_ONCE // context)
    for start in range(0, len(shard), rows * context):
        count = min(rows * context, len(shard) - start)
        targets = shard.read(start, count)
        before = np.array([eos]) if start == 0 else shard.read(start - 1, 1)
        tokens = np.concatenate((before, targets[:-1]))
        whole = count // context * context
        for begin, end, width in ((0, whole, context), (whole, count, count - whole)):
            if end > begin:
                yield Batch(
                    torch.from_numpy(tokens[begin:end]).view(-1, width).to(device),
                    torch.from_numpy(targets[begin:end]).view(-1, width).to(device),
                )


def _add(
    means: dict[str, float], metrics: Mapping[str, Metric], task: Language, batch: Batch
) -> None:
    """Adds one batch to the user's own metrics."""
    logits = task.logits(task.backbone(batch.tokens)).flatten(0, 1)
    targets = batch.targets.flatten()
    count = int((targets != IGNORED).sum())
    for name, metric in metrics.items():
        means[name] += float(metric(logits, targets)) * count
