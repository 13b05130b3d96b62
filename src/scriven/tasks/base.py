"""What all tasks share: a backbone, a head that scores tokens, and a loss that adds up.

A task file holds a class `Task`, a `BaseTask` that says which rows the model trains on
(`training_batch`), which rows measure it (`eval_batches`), and how a text is presented to a model
that continues it (`build_inputs`). Fine-tuning tasks derive from `SupervisedTask`.
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
from ..nn.block import zeros
from ..nn.cache import Cache
from ..nn.cross_entropy import chunked_cross_entropy
from ..tokenizers.base import Tokenizer

UNLIMITED_CONTEXT = 1 << 20  # tokens read at once by a model that has no limit of its own

Criterion = Callable[[Tensor, Tensor], Tensor]
"""The user's own loss: logits (N, V) and targets (N,) -> mean over the targets."""


@dataclass
class Output:
    """Sums over a batch, so that batches of any size add up to the same mean."""

    loss: Tensor  # summed over the targets, in nats
    tokens: Tensor  # number of targets
    correct: Tensor  # number of targets that were the likeliest token


class BaseTask(nn.Module):
    """A backbone with a head that scores every token of the vocabulary.

    Args:
        criterion: the user's own loss, used while training.
        special: ids of the tokenizer's special tokens by name: eos, pad and EXTRA_TOKENS.
        task_config: settings of the task and what it learned of its data, such as label names; the
            section "finetune" of scriven.json.
    """

    EXTRA_TOKENS: tuple[str, ...] = ()  # special tokens the task needs beyond eos and pad
    loss_unit = "next token"
    """What the loss is a mean over; losses of different units are never ranked together."""
    selection_metric = "loss"  # what selects the best weights: "loss" or "accuracy"
    is_generative = True  # whether the model generates text, token by token
    is_masked_lm = False  # whether the model fills gaps
    native: Any = None  # the compiled forward pass of a model prepared for inference (native/)
    first_tokens: tuple[int, ...] = ()
    """What an imported model's own tokenizer puts before every text: nothing, or one token."""
    echo_prompt = True  # whether generated text continues the prompt, and does not answer it

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
        self.sequence_length: int = backbone.config.context_length
        """Tokens of a training row and of an evaluation window (`train.sequence_length`)."""
        if "bos" in self.special:
            self.first_tokens = (self.special["bos"],)
        self.head: Any = self.make_head()

    def make_head(self) -> nn.Module | None:
        """The output matrix; None: it is tied to the embedding table."""
        if self.backbone.config.tie_embeddings:
            return None
        return nn.Linear(self.backbone.config.d_model, self.vocab_size, bias=False)

    def init_weights(self) -> None:
        """Draws fresh weights; a head starts at zero, so that all tokens are equally likely."""
        self.backbone.init_weights()
        if self.head is not None:
            zeros(self.head.weight)

    # ------------------------------------------------------------------ forward pass

    def hidden(self, batch: Batch, state: Cache | None = None) -> Tensor:
        """(B, T, C) hidden states of a batch.

        Args:
            state: what the previous windows of the rows left behind, in a recurrent model.
        """
        if batch.source is None:
            return self.backbone(batch.tokens, state, batch.positions)  # type: ignore[no-any-return]
        # source (B, S) for the encoder, tokens (B, T) for the decoder
        encoder_decoder: Any = self.backbone
        return encoder_decoder(  # type: ignore[no-any-return]
            batch.tokens, state, batch.positions,
            source=batch.source, source_positions=batch.source_positions,
        )  # fmt: skip

    def logits(self, hidden: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V), in float32 or better."""
        return at_least_float32(self.backbone.logits(hidden, self.head))

    def next_logits(self, hidden: Tensor, state: Cache) -> Tensor:
        """As `logits`, while text is generated; `state` is the cache of the tokens read so far."""
        return self.logits(hidden)

    def predict(self, batch: Batch, state: Cache | None = None) -> Tensor:
        """(B, T, V) logits of a batch."""
        return self.logits(self.hidden(batch, state))

    def forward(self, batch: Batch, state: Cache | None = None) -> Output:
        """Loss of a batch: the user's own while training, cross entropy in evaluation."""
        targets = batch.targets.flatten()  # (B * T,)
        num_targets = (targets != IGNORE_INDEX).sum()
        smoothing = self.label_smoothing if self.training else 0.0
        if self.has_frozen_head:
            hidden = self.hidden(batch, state).flatten(0, 1)  # (B * T, C)
            loss, correct = chunked_cross_entropy(
                hidden, targets, self.logits, self.vocab_size, smoothing
            )
            return Output(self.add_aux_loss(loss, num_targets), num_targets, correct)
        logits = self.predict(batch, state).flatten(0, 1)  # (B * T, V)
        if self.criterion is None or not self.training:
            loss = F.cross_entropy(
                logits, targets, reduction="sum", ignore_index=IGNORE_INDEX,
                label_smoothing=smoothing,
            )  # fmt: skip
        else:
            # a mean already, but outputs are sums, which micro-batches of any size add up
            loss = self.criterion(logits, targets) * num_targets
        correct = (logits.detach().argmax(-1) == targets).sum()
        return Output(self.add_aux_loss(loss, num_targets), num_targets, correct)

    @property
    def has_frozen_head(self) -> bool:
        """Whether only hidden states need the gradient of logits, each from its own position."""
        plain = type(self).predict is BaseTask.predict and self.criterion is None
        weights = [self.backbone.embed.token.weight]
        weights += [] if self.head is None else self.head.parameters()
        return plain and not any(weight.requires_grad for weight in weights)

    def add_aux_loss(self, loss: Tensor, num_targets: Tensor) -> Tensor:
        """Adds the architecture's auxiliary loss, such as a mixture of experts' load balancing."""
        # evaluation measures the model's predictions alone; a mean already, while outputs are sums
        aux_loss = self.backbone.aux_loss() if self.training else None
        return loss if aux_loss is None else loss + aux_loss * num_targets

    # ------------------------------------------------------------------ training data

    @property
    def window(self) -> int:
        """Tokens that are cut out of the text for one training row."""
        return self.window_length(self.sequence_length)

    @classmethod
    def window_length(cls, context: int) -> int:
        """As `window`, of a model with this context."""
        raise NotImplementedError

    @classmethod
    def tokens_per_sample(cls, context: int) -> int:
        """By how many tokens one training row advances in the text, with this context."""
        return context

    def training_batch(self, windows: Tensor, first: int, seed: int) -> Batch:
        """Training rows from (B, window) pieces of the text, int64.

        Row i is sample `first + i`; anything random is a pure function of its number and the seed.
        """
        raise NotImplementedError

    def eval_batches(self, shard: TokenFile, device: torch.device) -> Iterator[Batch]:
        """Batches that together count every token of a shard exactly once."""
        raise NotImplementedError

    # ------------------------------------------------------------------ generation

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """The tokens that end a generated text."""
        # of an imported model also the end of a turn
        return frozenset(self.special[name] for name in ("eos", "end") if name in self.special)

    @property
    def max_context(self) -> int:
        """The most tokens of a text that `build_inputs` may give the model at once."""
        return self.backbone.max_position or UNLIMITED_CONTEXT

    @property
    def max_new_tokens(self) -> int | None:
        """The most tokens that can follow one prompt; None: there is no limit."""
        return None

    def encode_prompt(self, tokenizer: Tokenizer, text: str) -> list[int]:
        """The token ids of a user's prompt; after the first token of an imported model."""
        return [*self.first_tokens, *tokenizer.encode(text)]

    def truncate_prompt(self, prompt: list[int]) -> list[int]:
        """What is read of a prompt: one longer than the context loses its beginning.

        Its last three quarters of a context are read, so that there is room for new tokens.
        """
        context = self.max_context
        if len(prompt) <= context:
            return prompt
        return prompt[-(context - context // 4) :]

    def build_inputs(
        self, window: list[int], num_generated: int
    ) -> tuple[list[int] | None, list[int]]:
        """(source, tokens) that the model reads to continue a text; no source for a decoder.

        A pure function of the text so far, so that a text is the same in any batch;
        `num_generated` counts its last tokens that the model generated.
        """
        return None, window


def at_least_float32(values: Tensor) -> Tensor:
    """Half-precision values as float32, in which a softmax over many of them is exact enough."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
