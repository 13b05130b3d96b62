"""How surprised a model is by each token of a stretch of text."""

import torch
import torch.nn.functional as F

from ..data.shards import Shard
from ..runtime import Runtime
from ..tasks.language import Language
from ..text import Tokenizer
from .loss import windows


def surprise(
    task: Language, shard: Shard, tokenizer: Tokenizer, runtime: Runtime, count: int = 600
) -> list[tuple[str, float]]:
    """(text, nats) of the first tokens of a shard, read as `evaluate_loss` reads them."""
    found: list[tuple[str, float]] = []
    task.eval()
    for batch in windows(shard, task.backbone.config.context, tokenizer.eos, runtime.device):
        with torch.inference_mode(), runtime.autocast():
            logits = task.logits(task.backbone(batch.tokens)).flatten(0, 1)
        targets = batch.targets.flatten()
        nats = F.cross_entropy(logits, targets, reduction="none")
        for token, value in zip(targets.tolist(), nats.tolist(), strict=True):
            found.append((tokenizer.decode([token]), value))
            if len(found) == count:
                return found
    return found
