"""The one transformer block. An architecture is what it passes in here."""

from torch import Tensor, nn

from .attention import Attention
from .residual import Residual
from .state import NOTHING, LayerState
from .visibility import Frame


class Block(nn.Module):
    """Attention, optionally cross-attention, and a feed-forward layer, each with its residual.

    Args:
        residual: `pre_norm` or `post_norm`: where the norm sits.
        attention, mlp: the sublayers; attention_norm, mlp_norm: their norms.
        cross, cross_norm: attention to an encoded source (encoder-decoder models).
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
        frame: Frame,
        state: LayerState = NOTHING,
        source: Tensor | None = None,
        source_at: Tensor | None = None,
    ) -> Tensor:
        """(B, T, W) -> (B, T, W); `source` (B, S, W) is what an encoder made."""
        x = self.residual(
            x, self.attention_norm, lambda h: self.attention(h, frame, memory=state.own)
        )
        cross = self.cross
        if cross is not None:
            assert source is not None and self.cross_norm is not None
            x = self.residual(
                x, self.cross_norm, lambda h: cross(h, frame, state.cross, source, source_at)
            )
        return self.residual(x, self.mlp_norm, self.mlp)
