"""Tokens to vectors, with positions where they act on the embedding."""

import torch.nn.functional as F
from torch import Tensor, nn


class Embedding(nn.Module):
    """Token vectors, plus position vectors when a position module is given."""

    def __init__(
        self, vocabulary: int, width: int, position: nn.Module | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = position
        self.dropout = dropout

    def forward(self, tokens: Tensor, at: Tensor) -> Tensor:
        """tokens (B, T) at positions (T,) or (B, T) -> (B, T, W)"""
        x: Tensor = self.token(tokens)
        if self.position is not None:
            x = x + self.position(at)
        return F.dropout(x, self.dropout, self.training) if self.dropout else x
