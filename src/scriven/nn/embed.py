"""Tokens to vectors, with positions where they act on the embedding."""

import torch
from torch import Tensor, nn

from .dropout import drop


class Embedding(nn.Module):
    """Token vectors, plus position vectors when a position module is given.

    Args:
        scale: what token vectors are multiplied by (Vaswani et al. 2017, section 3.4: sqrt(W)).
        norm: of the sum, before dropout (BERT).
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        position: nn.Module | None = None,
        dropout: float = 0.0,
        scale: float = 1.0,
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        # drawn by `initialise`; to draw here as well makes PyTorch load its compiler where a model
        # is built without memory, which takes a second
        self.token = nn.Embedding(vocab_size, d_model, _weight=torch.zeros(vocab_size, d_model))
        self.position, self.norm = position, norm
        self.dropout, self.scale = dropout, scale

    def forward(self, tokens: Tensor, at: Tensor) -> Tensor:
        """tokens (B, T) at positions (T,) or (B, T) -> (B, T, W)"""
        x: Tensor = self.token(tokens)
        if self.scale != 1:
            x = x * self.scale
        if self.position is not None:
            x = x + self.position(at)
        if self.norm is not None:
            x = self.norm(x)
        return drop(x, self.dropout, self.training)
