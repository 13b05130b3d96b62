"""Negative log-likelihood of each token along a stretch of text, for the report's heat map."""

import torch
import torch.nn.functional as F

from ..data.batch import IGNORE_INDEX
from ..data.shards import TokenFile
from ..runtime import Runtime
from ..tasks.base import BaseTask
from ..tokenizers import Tokenizer


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
    for batch in task.eval_batches(shard, runtime.device):
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
