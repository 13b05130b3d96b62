"""Copying from a source: beside the words it knows, a model may write a token of what it reads
(pointer-generator, See et al. 2017, section 2.2; Vinyals et al. 2015).

Each place of the source has a key, made of what the encoder says of it and of the token before it,
so that a passage is found again by its last copied token.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .init import initialise, normal, ones, zeros


class Pointer(nn.Module):
    """Attention over a source's places, and the share of the words that are made up."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.before = nn.Linear(d_model, d_model, bias=False)
        self.gate = nn.Linear(d_model, 1)

    def initialise(self) -> None:
        """Fresh weights: at first three quarters of the words are made up."""
        spread = normal(self.query.in_features**-0.5)
        initialise(self, [("gate.weight", zeros), ("gate.bias", ones), ("weight", spread)])

    def forward(
        self,
        hidden: Tensor,
        words: Tensor,
        encoded: Tensor,
        vectors: Tensor,
        source: Tensor,
        source_at: Tensor,
    ) -> Tensor:
        """Logarithms of the probability of each token, made up or copied.

        Args:
            hidden: (B, T, W) of the decoder.
            words: (B, T, V) logits of the words it knows.
            encoded: (B, S, W) of the encoder.
            vectors: (B, S, W) of the source's tokens themselves.
            source: (B, S) int64. source_at: (B, S), negative for padding.
        """
        padding = source_at < 0
        before = F.pad(vectors.masked_fill(padding[..., None], 0), (0, 0, 1, 0))[:, :-1]
        keys = self.key(encoded) + self.before(before)
        scores = _exact(self.query(hidden) @ keys.mT) * hidden.size(-1) ** -0.5
        scores = scores.masked_fill(padding[:, None, :], -torch.inf)
        gate, words = _exact(self.gate(hidden)), _exact(words)
        copied = torch.zeros_like(words).scatter_add(
            2, source[:, None, :].expand_as(scores), scores.softmax(-1)
        )
        made_up = F.logsigmoid(gate) + words.log_softmax(-1)
        return torch.logaddexp(made_up, F.logsigmoid(-gate) + copied.clamp_min(1e-9).log())


def _exact(scores: Tensor) -> Tensor:
    """In float32 or better."""
    return scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores
