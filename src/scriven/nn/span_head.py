"""A head that scores where an answer begins and ends in a context.

Beside the hidden state of a token it sees whether the token stands in the question too, alone and
together with the one or two before it (exact match: Chen et al. 2017, Reading Wikipedia to Answer
Open-Domain Questions, section 3.2). Convolutions with growing dilation (van den Oord et al. 2016)
carry that to the tokens around, so that a small model need not learn to compare words first.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .block import zeros

WIDTH = 64  # channels between the layers
KERNEL = 5  # tokens that a convolution sees
DILATIONS = (1, 3, 9, 27)  # with them, the output sees 80 tokens to either side
LONGEST_MATCH = 3  # tokens in a row that are compared


class SpanHead(nn.Module):
    """Hidden states (B, T, C) -> (B, T, 2) scores of the first and of the last token."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(d_model, WIDTH)
        self.match = nn.Linear(LONGEST_MATCH, WIDTH, bias=False)
        self.layers = nn.ModuleList(
            nn.Conv1d(WIDTH, WIDTH, KERNEL, dilation=each, padding=each * (KERNEL // 2))
            for each in DILATIONS
        )
        self.output = nn.Linear(WIDTH, 2, bias=False)

    def init_weights(self) -> None:
        """Draws fresh weights; all words are equally likely at first."""
        for layer in (self.hidden, self.match, *self.layers):
            layer.reset_parameters()
        zeros(self.output.weight)

    def forward(self, hidden: Tensor, tokens: Tensor, question: Tensor, real: Tensor) -> Tensor:
        """Scores of every token.

        Args:
            hidden: (B, T, C).
            tokens: (B, T) int64.
            question: (B, T) bool, the tokens of the question.
            real: (B, T) bool, all tokens but padding.

        Returns:
            (B, T, 2)
        """
        matches = exact_matches(tokens, question).to(hidden.dtype)
        x = self.hidden(hidden) + self.match(matches)  # (B, T, W)
        is_real = real[:, None].to(x.dtype)
        x = x.mT * is_real  # (B, W, T): padding must not reach the tokens beside it
        for layer in self.layers:
            x = x + F.gelu(layer(x)) * is_real
        scores: Tensor = self.output(x.mT)
        return scores


def exact_matches(tokens: Tensor, question: Tensor) -> Tensor:
    """(B, T, LONGEST_MATCH) bool: whether each token, and it with those before it, stands in the
    question.

    tokens: (B, T). question: (B, T) bool.
    """
    same = (tokens[:, :, None] == tokens[:, None, :]) & question[:, None, :]  # (B, T, T)
    found, run = [same.any(2)], same
    for _ in range(LONGEST_MATCH - 1):
        # the tokens before both must be the same too, and the other one in the question
        before = F.pad(run, (1, 0, 1, 0))[:, :-1, :-1]
        run = same & before
        found.append(run.any(2))
    return torch.stack(found, -1)
