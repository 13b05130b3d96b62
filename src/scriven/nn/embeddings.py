"""Embeddings of tokens and positions, and the attention masks that follow from positions.

Learned and sinusoidal positions act once, on the token embedding. Others act inside attention:
`rotate` changes queries and keys before they meet (rotary), `bias` adds to the attention scores
(relative positions).

Tables are not computed on the `meta` device, where a model is built for its shapes alone:
arithmetic there makes PyTorch load its compiler, which takes a second.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .dropout import dropout as apply_dropout
from .rope_scaling import RopeScaling, scale_periods

MAX_TABLE_LENGTH = 16_384
"""Positions up to which sines are computed in advance; for a longer context at every call."""
Memo = dict[Any, Any]
"""What the layers of one forward pass share (`ForwardContext.memo`)."""


class Embedding(nn.Module):
    """Token embedding, plus position embedding when a position module is given.

    Args:
        scale: factor of the token embedding (Vaswani et al. 2017, section 3.4: sqrt(C)).
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
        # zeros, as `init_weights` draws the values: to draw here as well is arithmetic on `meta`
        self.token = nn.Embedding(vocab_size, d_model, _weight=torch.zeros(vocab_size, d_model))
        self.position, self.norm = position, norm
        self.dropout, self.scale = dropout, scale

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """tokens (B, T) at positions (T,) or (B, T) -> (B, T, C)"""
        x: Tensor = self.token(tokens)
        if self.scale != 1:  # so that token vectors are not drowned by positions
            x = x * self.scale
        if self.position is not None:
            x = x + self.position(positions)  # (T, C) or (B, T, C)
        if self.norm is not None:
            x = self.norm(x)
        return apply_dropout(x, self.dropout) if self.training and self.dropout else x


class PositionEncoding(nn.Module):
    """No positions inside attention; the base of those that have some."""

    adds_bias: ClassVar[bool] = False
    """Whether attention calls `bias`."""

    def rotate(self, x: Tensor, positions: Tensor, memo: Memo | None = None) -> Tensor:
        """Queries or keys x (B, H, T, D) at positions (T,) or (B, T); the memo holds what other
        layers have computed from the same positions, and is extended."""
        return x

    def bias(
        self, q: Tensor, query_positions: Tensor, key_positions: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The query to score with, and a bias (B, H, T, S) of the scores or None."""
        raise NotImplementedError


class RotaryEmbedding(PositionEncoding):
    """Rotary position embedding, half-split layout (RoFormer, Su et al. 2021, section 3.2.2).

    Dimension i rotates together with i + R/2, as in Hugging Face's Llama, so weights need no
    permutation on export. Layers with the same rotation share one module, and its tables.

    Args:
        head_dim: D.
        context_length: positions of the tables.
        base: of the periods (`rope_theta`).
        rotated: R, the first dimensions of a head that are rotated; all by default.
        scaling: for texts longer than the model was trained on.
    """

    def __init__(
        self,
        head_dim: int,
        context_length: int,
        base: float = 10000.0,
        rotated: int | None = None,
        scaling: RopeScaling | None = None,
    ) -> None:
        super().__init__()
        self.head_dim, self.context_length, self.base = head_dim, context_length, base
        self.rotated = rotated or head_dim
        self.has_tables = context_length <= MAX_TABLE_LENGTH
        self.cos: Tensor
        self.sin: Tensor
        cos = sin = torch.empty(context_length if self.has_tables else 0, self.rotated)
        # a model on the meta device is measured and never run, and its heads may be of any size
        size = 0 if cos.is_meta else self.rotated
        self.periods, self.factor = [base ** (2 * i / size) for i in range(size // 2)], 1.0
        if scaling is not None:
            self.periods, self.factor = scale_periods(self.periods, size, base, scaling)
        if self.has_tables and not cos.is_meta:
            cos, sin = self._tables(torch.arange(context_length), cos.dtype)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def rotate(self, x: Tensor, positions: Tensor, memo: Memo | None = None) -> Tensor:
        # 1. cosines and sines of the positions, (T, R) or (B, 1, T, R): once per forward pass, as
        # all layers have the same positions
        key = (self, x.dtype)
        if memo is not None and key in memo and not torch.compiler.is_compiling():
            cos, sin = memo[key]
        else:
            if not self.has_tables:
                cos, sin = self._tables(positions.clamp(min=0), self.cos.dtype)
            # a training row of full length has 0, 1, 2 ...: the tables themselves
            elif positions.dim() == 1 and positions.size(0) == self.context_length:
                cos, sin = self.cos, self.sin
            else:
                places = positions.clamp(min=0)  # those of padding are masked anyway
                cos, sin = self.cos[places], self.sin[places]
            if positions.dim() == 2:
                cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)  # the same for all heads
            cos, sin = cos.to(x.dtype), sin.to(x.dtype)
            if memo is not None and not torch.compiler.is_compiling():
                memo[key] = cos, sin
        # 2. (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin)
        kept = None
        if self.rotated < self.head_dim:
            x, kept = x[..., : self.rotated], x[..., self.rotated :]
        first, second = x.chunk(2, -1)  # (B, H, T, R / 2) each
        x = torch.addcmul(x * cos, torch.cat((second, first), -1), sin)
        return x if kept is None else torch.cat((x, kept), -1)

    def _tables(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        # float64, as the rounding error of an angle grows with the position; Apple's GPUs have none
        exact = torch.float32 if positions.device.type == "mps" else torch.float64
        periods = torch.tensor(self.periods, dtype=exact, device=positions.device)  # (R / 2,)
        angle = positions.unsqueeze(-1) / periods
        cos, sin = angle.cos() * self.factor, angle.sin() * self.factor
        # the minus of the first half is in the table: one multiplication less at every step
        return torch.cat((cos, cos), -1).to(dtype), torch.cat((-sin, sin), -1).to(dtype)


class LearnedPositions(nn.Module):
    """A learned vector for each position (GPT-1, GPT-2, BERT)."""

    def __init__(self, context_length: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(context_length, d_model))

    def forward(self, positions: Tensor) -> Tensor:
        """Positions (T,) or (B, T) -> vectors (T, C) or (B, T, C)."""
        return self.weight[positions.clamp(min=0)]


class SinusoidalPositions(nn.Module):
    """PE(m, 2i) = sin(m / 10000^(2i/C)), PE(m, 2i+1) = cos(...) (Vaswani et al. 2017, section 3.5).

    With `halves` all sines come first, then all cosines: the same numbers in another order, which
    a trained model cannot tell apart, and the order Marian has. All are multiplied by `scale`.
    """

    def __init__(
        self, context_length: int, d_model: int, *, halves: bool = False, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.table: Tensor
        table = torch.empty(context_length, d_model)
        if not table.is_meta:
            even = torch.arange(0, d_model, 2, dtype=torch.float64) / d_model
            angle = torch.arange(context_length, dtype=torch.float64)[:, None] / 10000.0**even
            sines = (angle.sin(), angle.cos())
            both = torch.cat(sines, -1) if halves else torch.stack(sines, -1).flatten(1)
            # (context_length, C); an odd C loses the last cosine
            table = (both[:, :d_model] * scale).to(table.dtype)
        self.register_buffer("table", table, persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """Positions (T,) or (B, T) -> vectors (T, C) or (B, T, C)."""
        return self.table[positions.clamp(min=0)]


class DistanceEmbedding(nn.Module):
    """Sinusoidal vectors R_n of distances 0, 1, 2 ...: sines first, then cosines (Dai et al. 2019).

    Shared by the layers of a model. Distances beyond `length` are computed on demand.
    """

    def __init__(self, d_model: int, length: int) -> None:
        super().__init__()
        self.d_model, self.length = d_model, length
        self.table: Tensor
        table = torch.empty(length, d_model)
        table = table if table.is_meta else self._vectors(length, None)
        self.register_buffer("table", table, persistent=False)

    def forward(self, count: int) -> Tensor:
        """Vectors (count, C) of the distances 0 .. count - 1."""
        if count <= self.length:
            return self.table[:count]
        return self._vectors(count, self.table.device).to(self.table.dtype)

    def _vectors(self, count: int, device: torch.device | None) -> Tensor:
        # Apple's GPUs have no float64
        exact = torch.float32 if device is not None and device.type == "mps" else torch.float64
        half = torch.arange(0, self.d_model, 2, dtype=exact, device=device) / self.d_model
        angle = torch.arange(count, dtype=exact, device=device)[:, None] / 10000.0**half
        return torch.cat((angle.sin(), angle.cos()), -1).to(torch.get_default_dtype())


class RelativePositions(PositionEncoding):
    """Positions as distances between query and key (Transformer-XL, Dai et al. 2019, section 3.3).

    With keys k_j, R_n the vector of distance n and W its projection, the score of query i is

        ((q_i + u) k_j + (q_i + v) W R_(i-j)) / sqrt(D)

    Keys do not depend on their position, so they can be kept while positions move on.
    """

    adds_bias = True

    def __init__(self, distances: DistanceEmbedding, heads: int, head_dim: int) -> None:
        super().__init__()
        self.distances, self.heads, self.head_dim = distances, heads, head_dim
        self.key = nn.Linear(distances.d_model, heads * head_dim, bias=False)
        # u and v, flat: optimizers tell biases from matrices by their shape
        self.content_bias = nn.Parameter(torch.zeros(heads * head_dim))
        self.distance_bias = nn.Parameter(torch.zeros(heads * head_dim))

    def bias(
        self, q: Tensor, query_positions: Tensor, key_positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(q + u, bias (B, H, T, S)).

        Positions of keys follow each other. The queries are the last T, unless keys have the same
        positions in all rows, and queries have not.
        """
        count, size = key_positions.size(-1), q.size(2)  # S, T
        u, v = (
            bias.view(self.heads, 1, self.head_dim).to(q.dtype)
            for bias in (self.content_bias, self.distance_bias)
        )
        vectors = self.distances(count + 1).flip(0).to(q.dtype)  # (S + 1, C): distances S ... 0
        scores = self._distance_scores((q + v) * self.head_dim**-0.5, vectors)  # (B, H, T, S + 1)
        # from distances to keys
        if query_positions.dim() > key_positions.dim():  # ragged rows: (B, T) against (S,)
            index = (count - query_positions.unsqueeze(-1) + key_positions).clamp(0, count)
            return q + u, scores.gather(-1, index.unsqueeze(1).expand(-1, self.heads, -1, -1))
        # row t begins at distance S - T + t, one place later than row t + 1: reading the same
        # numbers in rows one shorter moves each row by one (appendix B). What lands on keys after
        # the query is masked.
        shifted = scores.flatten(2)[..., size:].view(*scores.shape[:2], size, count)
        return q + u, shifted  # (B, H, T, S) of keys 0 ... S - 1

    def _distance_scores(self, q: Tensor, vectors: Tensor) -> Tensor:
        """Queries (B, H, T, D) times projected vectors (N, C): (B, H, T, N)."""
        queries, count = q.size(0) * q.size(2), vectors.size(0)
        if queries * (count + self.head_dim) < count * self.head_dim:
            # single-token decoding: projecting the query back is less work than all the vectors
            weight = self.key.weight.view(self.heads, self.head_dim, -1).to(q.dtype)
            return (q @ weight) @ vectors.mT  # (B, H, T, C) in between
        keys: Tensor = self.key(vectors).to(q.dtype)  # (N, H D)
        return q @ keys.view(count, self.heads, self.head_dim).permute(1, 2, 0)


@dataclass(frozen=True)
class AttentionMask:
    """Which keys a query of one attention layer may attend to."""

    causal: bool = True
    window: int | None = None
    """Sliding window: only the last `window` positions, the query's own included."""

    def allowed(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """Positions (T,) or (B, T) and (S,) or (B, S) -> bool (T, S) or (B, 1, T, S)."""
        q, k = query_positions.unsqueeze(-1), key_positions.unsqueeze(-2)  # (.., T, 1), (.., 1, S)
        allowed = k >= 0  # padding has negative positions
        if self.causal:
            allowed = allowed & (k <= q)
        if self.window is not None:
            allowed = allowed & (q - k < self.window)
        if allowed.dim() == 2:
            return allowed.expand(query_positions.size(-1), key_positions.size(-1))
        return allowed.unsqueeze(1)  # (B, 1, T, S): one mask for all heads


@dataclass
class ForwardContext:
    """Positions of the queries in one forward pass, and what its layers can share."""

    positions: Tensor
    """(T,) or (B, T)."""
    unpadded: bool
    """Whether rows have no padding and positions follow each other, so that kernels may build the
    causal mask themselves."""
    memo: dict[Any, Any] = field(default_factory=dict)
    """Masks and rotations that one layer computed from the positions, for the other layers."""

    def additive_mask(
        self, mask: AttentionMask, key_positions: Tensor, dtype: torch.dtype
    ) -> Tensor | None:
        """The mask for keys at `key_positions`, to be added to scores; None where all are allowed.

        All layers of a forward pass have the same positions, so each mask is computed once.
        """
        # 1. single-token decoding and full attention without padding need no mask
        one_query = self.positions.size(-1) == 1
        if self.unpadded and mask.window is None and (one_query or not mask.causal):
            return None
        if torch.compiler.is_exporting():  # lengths are symbols then, and cannot be dictionary keys
            return additive_mask(mask.allowed(self.positions, key_positions), dtype)
        # 2. once for all layers with the same rule and as many keys
        key = (mask, key_positions.size(-1), dtype)
        if key not in self.memo:
            self.memo[key] = additive_mask(mask.allowed(self.positions, key_positions), dtype)
        shared: Tensor = self.memo[key]
        return shared


def additive_mask(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """bool -> `dtype`: 0 where allowed, a very negative number elsewhere."""
    # the lowest finite number, not -inf: a row without any allowed key must not become NaN
    lowest = torch.finfo(dtype).min / 2
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(
        ~allowed, lowest
    )


def forward_context(tokens: Tensor, positions: Tensor | None, start: int) -> ForwardContext:
    """The context of tokens (B, T) that follow `start` cached ones, unless positions are given."""
    if positions is not None:
        return ForwardContext(positions, unpadded=False)
    positions = torch.arange(start, start + tokens.size(1), device=tokens.device)  # (T,)
    return ForwardContext(positions, unpadded=True)
