"""The one transformer block. An architecture is what it passes in here.

Shapes in comments of nn/: B batch rows, T positions of the queries, S positions of the keys,
C `d_model`, H query heads, K key/value heads, D `head_dim`, F `d_ff`, V vocabulary. Positions are
(T,) where all rows agree, else (B, T); a negative position is padding.
"""

from collections.abc import Callable

from torch import Tensor, nn

from .attention import Attention
from .cache import EMPTY, LayerCache
from .mask import ForwardContext

Sublayer = Callable[[Tensor], Tensor]
Residual = Callable[[Tensor, Sublayer, Sublayer], Tensor]
"""Where the norm sits around a sublayer: (x, norm, sublayer) -> x. A function that is passed to the
block, not a flag in it."""


def pre_norm(x: Tensor, norm: Sublayer, sublayer: Sublayer) -> Tensor:
    """x + sublayer(norm(x)): the residual stream itself is never normalised (GPT-2, Llama)."""
    return x + sublayer(norm(x)).to(x.dtype)  # autocast gives bfloat16, the stream stays float32


def post_norm(x: Tensor, norm: Sublayer, sublayer: Sublayer) -> Tensor:
    """norm(x + sublayer(x)) (Vaswani et al. 2017, section 3.1; GPT-1, BERT)."""
    return norm(x + sublayer(x))


def output_norm(x: Tensor, norm: Sublayer, sublayer: Sublayer) -> Tensor:
    """x + norm(sublayer(x)): what is added to the residual stream is normalised (OLMo 2, 2025,
    section 3.1)."""
    return x + norm(sublayer(x)).to(x.dtype)


class NormPair(nn.Module):
    """The two norms of `sandwich_norm`."""

    def __init__(self, before: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.before, self.after = before, after


def sandwich_norm(x: Tensor, norm: Sublayer, sublayer: Sublayer) -> Tensor:
    """x + after(sublayer(before(x))), with a `NormPair` (Gemma 2, 2024, section 2)."""
    assert isinstance(norm, NormPair)
    return x + norm.after(sublayer(norm.before(x))).to(x.dtype)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention, optionally cross-attention, and a feed-forward layer, each with its residual.

    Args:
        residual: `pre_norm`, `post_norm`, `output_norm` or `sandwich_norm`.
        attention, mlp: the sublayers; attention_norm, mlp_norm: their norms.
        cross, cross_norm: attention to the output of an encoder (encoder-decoder models).
    """

    def __init__(
        self,
        residual: Residual,
        attention: Attention,
        attention_norm: nn.Module,
        mlp: nn.Module,
        mlp_norm: nn.Module,
        cross: Attention | None = None,
        cross_norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.attention, self.attention_norm = attention, attention_norm
        self.cross, self.cross_norm = cross, cross_norm
        self.mlp, self.mlp_norm = mlp, mlp_norm

    def forward(
        self,
        x: Tensor,
        context: ForwardContext,
        cache: LayerCache = EMPTY,
        source: Tensor | None = None,
        source_positions: Tensor | None = None,
    ) -> Tensor:
        """(B, T, C) -> (B, T, C).

        Args:
            x: the residual stream.
            context: positions of the queries.
            cache: of this block; extended by this call.
            source: (B, S, C) output of an encoder, at `source_positions`.
        """
        # 1. self-attention
        x = self.residual(
            x, self.attention_norm, lambda h: self.attention(h, context, cache.self_attn)
        )
        # 2. cross-attention to the encoder's output
        cross = self.cross
        if cross is not None:
            assert source is not None and self.cross_norm is not None
            x = self.residual(
                x,
                self.cross_norm,
                lambda h: cross(h, context, cache.cross, source, source_positions),
            )
        # 3. feed-forward
        return self.residual(x, self.mlp_norm, self.mlp)


class ParallelBlock(Block):
    """Attention and feed-forward layer read the same input: x + attention(norm(x)) + mlp(norm(x)),
    each with its own norm (GPT-NeoX, Black et al. 2022, section 2.1.2)."""

    def forward(
        self,
        x: Tensor,
        context: ForwardContext,
        cache: LayerCache = EMPTY,
        source: Tensor | None = None,
        source_positions: Tensor | None = None,
    ) -> Tensor:
        """(B, T, C) -> (B, T, C), without cross-attention."""
        y = self.attention(self.attention_norm(x), context, cache.self_attn)
        return x + (y + self.mlp(self.mlp_norm(x))).to(x.dtype)  # type: ignore[no-any-return]
