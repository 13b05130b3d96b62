"""How a model knows the order of its tokens, as small objects.

Two hooks act inside attention: `rotate` changes queries and keys before they meet, `score` may
add a bias after (relative positions). Learned and sinusoidal ones act once, on the embedding.
"""

from typing import Any

import torch
from torch import Tensor, nn

Known = dict[Any, Any]
"""What the layers of one forward pass share, by a key of who computed it."""


def without_memory() -> bool:
    """Whether models are built without memory now, only for their shapes.

    To calculate there makes PyTorch load its compiler, which takes a second.
    """
    return torch.get_default_device().type == "meta"


class Position(nn.Module):
    """No position inside attention; the base of those that have one."""

    def rotate(self, x: Tensor, at: Tensor, known: Known | None = None) -> Tensor:
        """Queries or keys (B, H, T, D) at positions (T,) or (B, T).

        Args:
            known: what other layers have computed of the same positions; extended.
        """
        return x

    def score(self, q: Tensor, query_at: Tensor, key_at: Tensor) -> tuple[Tensor, Tensor | None]:
        """The query to score with, and a bias (B, H, T, S) for the scores or None."""
        return q, None


class Rotary(Position):
    """Rotary position embedding, half-split layout (Su et al. 2021, RoFormer, section 3.2.2).

    Dimension i turns together with i + D/2, as in Hugging Face's Llama, so weights need no
    permutation on export.
    """

    def __init__(self, head_dim: int, context: int, base: float = 10000.0) -> None:
        super().__init__()
        self.head_dim, self.context_length, self.base = head_dim, context, base
        self.register_buffer("cos", torch.empty(0), persistent=False)
        self.register_buffer("sin", torch.empty(0), persistent=False)
        self.build()

    def build(self) -> None:
        """Fills the tables, (context, D) each; again after a model was made without memory."""
        if without_memory():
            self.cos = self.sin = torch.empty(self.context_length, self.head_dim)
            return
        half = torch.arange(0, self.head_dim, 2, dtype=torch.float64) / self.head_dim
        angle = torch.arange(self.context_length, dtype=torch.float64)[:, None] / self.base**half
        dtype = torch.get_default_dtype()
        self.cos = angle.cos().repeat(1, 2).to(dtype)
        # the minus of the first half lives in the table: one product less at every step
        self.sin = torch.cat((-angle.sin(), angle.sin()), -1).to(dtype)

    def rotate(self, x: Tensor, at: Tensor, known: Known | None = None) -> Tensor:
        key = ("rotary", self.base, self.head_dim, x.dtype)
        if known is None or torch.compiler.is_compiling():
            cos, sin = self._turns(at, x.dtype)
        else:
            if key not in known:
                known[key] = self._turns(at, x.dtype)
            cos, sin = known[key]
        first, second = x.chunk(2, -1)
        return torch.addcmul(x * cos, torch.cat((second, first), -1), sin)

    def _turns(self, at: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines (T, D) or (B, 1, T, D) of positions."""
        if at.dim() == 1 and at.size(0) == self.context_length:
            cos, sin = self.cos, self.sin
        else:
            at = at.clamp(min=0)
            cos, sin = self.cos[at], self.sin[at]
        if at.dim() == 2:
            cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        return cos.to(dtype), sin.to(dtype)


class Learned(nn.Module):
    """A learned vector for each position (GPT-1, GPT-2, BERT)."""

    def __init__(self, context: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(context, d_model))

    def forward(self, at: Tensor) -> Tensor:
        """Positions (T,) or (B, T) -> vectors (T, W) or (B, T, W)."""
        return self.weight[at.clamp(min=0)]


class Sinusoidal(nn.Module):
    """Fixed sines (even dimensions) and cosines (odd); Vaswani et al. 2017, section 3.5.

    With `halves` all sines come first, then all cosines: the same numbers in another order, which
    a trained model cannot tell apart, and the order Marian has. All are multiplied by `scale`.
    """

    def __init__(
        self, context: int, d_model: int, *, halves: bool = False, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.context_length, self.d_model, self.halves, self.scale = context, d_model, halves, scale
        self.table: Tensor
        self.register_buffer("table", torch.empty(0), persistent=False)
        self.build()

    def build(self) -> None:
        """Fills the table (context, W)."""
        if without_memory():
            self.table = torch.empty(self.context_length, self.d_model)
            return
        even = torch.arange(0, self.d_model, 2, dtype=torch.float64) / self.d_model
        angle = torch.arange(self.context_length, dtype=torch.float64)[:, None] / 10000.0**even
        if self.halves:
            table = torch.cat((angle.sin(), angle.cos()), -1)[:, : self.d_model]
        else:
            table = torch.stack((angle.sin(), angle.cos()), -1).flatten(1)[:, : self.d_model]
        self.table = (table * self.scale).to(torch.get_default_dtype())

    def forward(self, at: Tensor) -> Tensor:
        """Positions (T,) or (B, T) -> vectors (T, W) or (B, T, W)."""
        return self.table[at.clamp(min=0)]


class Distances(nn.Module):
    """Sinusoidal vectors of distances 0, 1, 2 ...: sines first, then cosines (Dai et al. 2019).

    Shared by the layers of a model. Distances beyond `length` are computed when they are asked for.
    """

    def __init__(self, d_model: int, length: int) -> None:
        super().__init__()
        self.d_model, self.length = d_model, length
        self.table: Tensor
        self.register_buffer("table", torch.empty(0), persistent=False)
        self.build()

    def build(self) -> None:
        """Fills the table (length, W)."""
        if without_memory():
            self.table = torch.empty(self.length, self.d_model)
        else:
            self.table = self._vectors(self.length, None)

    def forward(self, count: int) -> Tensor:
        """Vectors (count, W) of the distances 0 .. count - 1."""
        if count <= self.length:
            return self.table[:count]
        return self._vectors(count, self.table.device).to(self.table.dtype)

    def _vectors(self, count: int, device: torch.device | None) -> Tensor:
        exact = torch.float32 if device is not None and device.type == "mps" else torch.float64
        half = torch.arange(0, self.d_model, 2, dtype=exact, device=device) / self.d_model
        angle = torch.arange(count, dtype=exact, device=device)[:, None] / 10000.0**half
        return torch.cat((angle.sin(), angle.cos()), -1).to(torch.get_default_dtype())


class Relative(Position):
    """Positions as distances between query and key (Dai et al. 2019, section 3.3).

    With keys k_j, R_n the vector of distance n and W its own projection, the score of query i is

        ((q_i + u) k_j + (q_i + v) W R_(i-j)) / sqrt(D)

    As no key knows its place, keys can be kept while positions move on.
    """

    def __init__(self, distances: Distances, heads: int, head_dim: int) -> None:
        super().__init__()
        self.distances, self.heads, self.head_dim = distances, heads, head_dim
        self.key = nn.Linear(distances.d_model, heads * head_dim, bias=False)
        # u and v, flat: optimizers tell biases from matrices by their shape
        self.content_bias = nn.Parameter(torch.zeros(heads * head_dim))
        self.distance_bias = nn.Parameter(torch.zeros(heads * head_dim))

    def score(self, q: Tensor, query_at: Tensor, key_at: Tensor) -> tuple[Tensor, Tensor]:
        """(q + u, bias (B, H, T, S)).

        Positions of keys follow each other. The queries are the last T, unless keys have the same
        positions in all rows, and queries have not.
        """
        count, size = key_at.size(-1), q.size(2)
        u, v = (
            bias.view(self.heads, 1, self.head_dim).to(q.dtype)
            for bias in (self.content_bias, self.distance_bias)
        )
        vectors = self.distances(count + 1).flip(0).to(q.dtype)  # S ... 0
        met = self._meet((q + v) * self.head_dim**-0.5, vectors)
        if query_at.dim() > key_at.dim():
            places = (count - query_at.unsqueeze(-1) + key_at).clamp(0, count)
            return q + u, met.gather(-1, places.unsqueeze(1).expand(-1, self.heads, -1, -1))
        return q + u, _shift(met, size, count)

    def _meet(self, q: Tensor, vectors: Tensor) -> Tensor:
        """Queries (B, H, T, D) times projected vectors (N, W): (B, H, T, N)."""
        few, count = q.size(0) * q.size(2), vectors.size(0)
        if few * (count + self.head_dim) < count * self.head_dim:
            # a step of decoding: projecting the query back is less work than all the vectors
            weight = self.key.weight.view(self.heads, self.head_dim, -1).to(q.dtype)
            return (q @ weight) @ vectors.mT
        keys: Tensor = self.key(vectors).to(q.dtype)
        return q @ keys.view(count, self.heads, self.head_dim).permute(1, 2, 0)


def _shift(scores: Tensor, size: int, count: int) -> Tensor:
    """Scores (B, H, T, S + 1) of distances S ... 0 -> (B, H, T, S) of keys 0 ... S - 1.

    Row t begins at distance S - T + t, one place later than row t + 1: reading the same numbers in
    rows one shorter moves each row by one (Dai et al. 2019, appendix B). What lands on keys after
    the query means nothing.
    """
    return scores.flatten(2)[..., size:].view(*scores.shape[:2], size, count)
