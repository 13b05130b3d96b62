"""How a model knows the order of its tokens, as small objects.

Two hooks act inside attention: `rotate` changes queries and keys before they meet, `score` may
add a bias after. Learned and sinusoidal positions act once, on the embedding.
"""

import torch
from torch import Tensor, nn


class Position(nn.Module):
    """No position inside attention; the base of those that have one."""

    def rotate(self, x: Tensor, at: Tensor) -> Tensor:
        """Queries or keys (B, H, T, D) at positions (T,) or (B, T)."""
        return x

    def score(self, q: Tensor, query_at: Tensor, key_at: Tensor) -> tuple[Tensor, Tensor | None]:
        """The query to score with, and a bias (B, H, T, S) for the scores or None."""
        return q, None


class Rotary(Position):
    """Rotary position embedding, half-split layout (Su et al. 2021, RoFormer, section 3.2.2).

    Dimension i turns together with i + D/2, as in Hugging Face's Llama, so weights need no
    permutation on export.
    """

    def __init__(self, head_width: int, context: int, base: float = 10000.0) -> None:
        super().__init__()
        self.head_width, self.context, self.base = head_width, context, base
        self.register_buffer("cos", torch.empty(0), persistent=False)
        self.register_buffer("sin", torch.empty(0), persistent=False)
        self.build()

    def build(self) -> None:
        """Fills the tables, (context, D) each; again after a model was made without memory."""
        half = torch.arange(0, self.head_width, 2, dtype=torch.float64) / self.head_width
        angle = torch.arange(self.context, dtype=torch.float64)[:, None] / self.base**half
        dtype = torch.get_default_dtype()
        self.cos = angle.cos().repeat(1, 2).to(dtype)
        # the minus of the first half lives in the table: one product less at every step
        self.sin = torch.cat((-angle.sin(), angle.sin()), -1).to(dtype)

    def rotate(self, x: Tensor, at: Tensor) -> Tensor:
        if at.dim() == 1 and at.size(0) == self.context:
            cos, sin = self.cos, self.sin
        else:
            at = at.clamp(min=0)
            cos, sin = self.cos[at], self.sin[at]
        if at.dim() == 2:
            cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        first, second = x.chunk(2, -1)
        return x * cos.to(x.dtype) + torch.cat((second, first), -1) * sin.to(x.dtype)


class Learned(nn.Module):
    """A learned vector for each position (GPT-1, GPT-2, BERT)."""

    def __init__(self, context: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(context, width))

    def forward(self, at: Tensor) -> Tensor:
        """Positions (T,) or (B, T) -> vectors (T, W) or (B, T, W)."""
        return self.weight[at.clamp(min=0)]


class Sinusoidal(nn.Module):
    """Fixed sines (even dimensions) and cosines (odd); Vaswani et al. 2017, section 3.5."""

    def __init__(self, context: int, width: int) -> None:
        super().__init__()
        self.context, self.width = context, width
        self.register_buffer("table", torch.empty(0), persistent=False)
        self.build()

    def build(self) -> None:
        """Fills the table (context, W)."""
        even = torch.arange(0, self.width, 2, dtype=torch.float64) / self.width
        angle = torch.arange(self.context, dtype=torch.float64)[:, None] / 10000.0**even
        table = torch.stack((angle.sin(), angle.cos()), -1).flatten(1)[:, : self.width]
        self.table: Tensor = table.to(torch.get_default_dtype())

    def forward(self, at: Tensor) -> Tensor:
        """Positions (T,) or (B, T) -> vectors (T, W) or (B, T, W)."""
        return self.table[at.clamp(min=0)]
