"""What every task shares: a backbone, a head that scores tokens, and a loss that adds up.

A task file holds a class `Task` that says which rows a model trains on (`exercise`), which ones
measure it (`examine`), and what a text looks like to the model that goes on with it (`arrange`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.batch import IGNORE_INDEX, Batch
from ..data.shards import TokenFile
from ..models.base import Architecture
from ..nn.cache import Cache
from ..nn.init import zeros
from ..tokenizers.base import Tokenizer

LONGEST = 1 << 20
"""Tokens read at once by a model that has no limit of its own."""

Criterion = Callable[[Tensor, Tensor], Tensor]
"""The user's own loss: logits (N, V) and targets (N,) -> mean over the targets."""


@dataclass
class Output:
    """Sums over a batch, so that batches of any size add up to the same mean."""

    loss: Tensor
    """Nats, summed over the counted targets."""
    tokens: Tensor
    """Counted targets."""
    correct: Tensor
    """Targets that were the likeliest token."""


class BaseTask(nn.Module):
    """A backbone with a head that scores every token of the vocabulary.

    Args:
        backbone: of an architecture.
        criterion: the user's own loss, used while training.
        special: ids of the tokenizer's special tokens by name: eos, pad and EXTRA_TOKENS.
        facts: what a task needs to know of what it was fine-tuned on, as in scriven.json.
    """

    EXTRA_TOKENS: tuple[str, ...] = ()
    """Special tokens it needs beyond eos and pad."""
    loss_unit = "next token"
    """What its loss means; losses of different meaning are never ranked together."""
    selection_metric = "loss"
    """Whether the best weights are those that are right most often, not those of the least loss."""
    is_generative = True
    """Whether it can go on with a text, token by token."""
    is_masked_lm = False
    """Whether it fills gaps."""
    echo_prompt = True
    """Whether what it writes goes on from the prompt, or answers it."""

    def __init__(
        self,
        backbone: Architecture,
        criterion: Criterion | None = None,
        special: Mapping[str, int] | None = None,
        task_config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.criterion = backbone, criterion
        self.special, self.task_config = dict(special or {"eos": 0}), dict(task_config or {})
        self.label_smoothing = float(self.task_config.get("label_smoothing") or 0.0)
        self.vocab_size = backbone.config.vocab_size
        self.head: Any = self.make_head()

    def make_head(self) -> nn.Module | None:
        """What scores tokens, beside the embedding's own vectors; None: they alone do."""
        if self.backbone.config.tie_embeddings:
            return None
        return nn.Linear(self.backbone.config.d_model, self.vocab_size, bias=False)

    def init_weights(self) -> None:
        """Fresh weights."""
        backbone: Any = self.backbone
        backbone.init_weights()
        if self.head is not None:
            zeros(self.head.weight)

    def logits(self, hidden: Tensor) -> Tensor:
        """(B, T, W) -> (B, T, V), in float32 or better."""
        if self.head is None:
            scores = F.linear(hidden, self.backbone.embed.token.weight)
        else:
            scores = self.head(hidden)
        return scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores

    def next_logits(self, hidden: Tensor, state: Cache) -> Tensor:
        """As `logits`, while a text is written: `state` is what the model has read."""
        return self.logits(hidden)

    def hidden(self, batch: Batch, state: Cache | None = None) -> Tensor:
        """(B, T, W) of a batch; `state` is what the rows' earlier windows left behind."""
        if batch.source is None:
            return self.backbone(batch.tokens, state, batch.positions)  # type: ignore[no-any-return]
        reading: Any = self.backbone
        found: Tensor = reading(
            batch.tokens,
            state,
            batch.positions,
            source=batch.source,
            source_positions=batch.source_positions,
        )
        return found

    def predict(self, batch: Batch, state: Cache | None = None) -> Tensor:
        """(B, T, V) logits of a batch."""
        return self.logits(self.hidden(batch, state))

    def forward(self, batch: Batch, state: Cache | None = None) -> Output:
        """Loss of a batch: the user's own while training, cross entropy when measured."""
        logits = self.predict(batch, state).flatten(0, 1)
        targets = batch.targets.flatten()
        tokens = (targets != IGNORE_INDEX).sum()
        if self.criterion is None or not self.training:
            smooth = self.label_smoothing if self.training else 0.0
            loss = F.cross_entropy(
                logits, targets, reduction="sum", ignore_index=IGNORE_INDEX, label_smoothing=smooth
            )
        else:
            loss = self.criterion(logits, targets) * tokens
        correct = (logits.detach().argmax(-1) == targets).sum()
        return Output(loss, tokens, correct)

    @property
    def window(self) -> int:
        """Tokens cut out of the text for one training row."""
        raise NotImplementedError

    @classmethod
    def tokens_per_sample(cls, context: int) -> int:
        """Tokens by which one training row goes on in the text, with this context."""
        return context

    def training_batch(self, windows: Tensor, first: int, seed: int) -> Batch:
        """Training rows.

        Args:
            windows: (B, window) int64, pieces of the text.
            first: number of the first row's sample; row i is sample `first + i`.
            seed: of the run. Anything random is a pure function of it and the sample's number.
        """
        raise NotImplementedError

    def eval_batches(self, shard: TokenFile, device: torch.device) -> Iterator[Batch]:
        """Batches that together count every token of a shard exactly once."""
        raise NotImplementedError

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """The tokens that end what it writes."""
        return frozenset({self.special["eos"]})

    def encode_prompt(self, tokenizer: Tokenizer, text: str) -> list[int]:
        """What a person's text is to the model."""
        return tokenizer.encode(text)

    @property
    def max_context(self) -> int:
        """The most tokens `arrange` may give the model at once."""
        return self.backbone.max_position or LONGEST

    @property
    def max_new_tokens(self) -> int | None:
        """The most tokens it can write to one prompt; None: there is no limit."""
        return None

    def truncate_prompt(self, prompt: list[int]) -> list[int]:
        """What is read of a prompt: one longer than the context loses its beginning.

        Its last three quarters of a context are read, so that there is room to write.
        """
        context = self.max_context
        if len(prompt) <= context:
            return prompt
        return prompt[-(context - context // 4) :]

    def build_inputs(self, window: list[int], written: int) -> tuple[list[int] | None, list[int]]:
        """(source, tokens) a model reads to go on with a text.

        A pure function of the text, so that a text is the same beside any others.

        Args:
            window: the text so far.
            written: how many of its last tokens the model wrote.
        """
        return None, window
