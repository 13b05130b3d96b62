"""Copying from a source: a model may output a token of the text it reads instead of one of its
vocabulary (pointer-generator network, See et al. 2017, section 2.2; Vinyals et al. 2015).

Each position of the source has a key, made of the encoder's output there and of the token before
it, so that a passage is found again by its last copied token.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .block import init_weights, normal, ones, zeros


class CopyHead(nn.Module):
    """Attention over the positions of a source, and the probability of generating, p_gen."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.before = nn.Linear(d_model, d_model, bias=False)
        self.gate = nn.Linear(d_model, 1)

    def init_weights(self) -> None:
        """Fresh weights: at first p_gen is about three quarters."""
        spread = normal(self.query.in_features**-0.5)
        init_weights(self, [("gate.weight", zeros), ("gate.bias", ones), ("weight", spread)])

    def forward(
        self,
        hidden: Tensor,
        logits: Tensor,
        encoded: Tensor,
        embedded: Tensor,
        source: Tensor,
        source_positions: Tensor,
    ) -> Tensor:
        """log(p_gen * softmax(logits) + (1 - p_gen) * copied), (B, T, V).

        Args:
            hidden: (B, T, C) output of the decoder.
            logits: (B, T, V) over the vocabulary.
            encoded: (B, S, C) output of the encoder.
            embedded: (B, S, C) embedding of the source's tokens.
            source: (B, S) int64. source_positions: (B, S), negative for padding.
        """
        padding = source_positions < 0
        # 1. attention of each output position over the source: (B, T, S)
        before = F.pad(embedded.masked_fill(padding[..., None], 0), (0, 0, 1, 0))[:, :-1]
        keys = self.key(encoded) + self.before(before)  # (B, S, C)
        scores = _float32(self.query(hidden) @ keys.mT) * hidden.size(-1) ** -0.5
        scores = scores.masked_fill(padding[:, None, :], -torch.inf)
        # 2. attention weights summed over equal tokens: (B, T, V)
        gate, logits = _float32(self.gate(hidden)), _float32(logits)
        copied = torch.zeros_like(logits).scatter_add(
            2, source[:, None, :].expand_as(scores), scores.softmax(-1)
        )
        # 3. the mixture, in logarithms; a token that is not in the source has log(1e-9)
        generated = F.logsigmoid(gate) + logits.log_softmax(-1)
        return torch.logaddexp(generated, F.logsigmoid(-gate) + copied.clamp_min(1e-9).log())


def _float32(scores: Tensor) -> Tensor:
    """In float32 or better."""
    return scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores
