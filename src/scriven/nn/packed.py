"""Linear layers with weights laid out for writing: read once for each token, and never changed.

A single token is bound by reading weights. In bfloat16 they are half as many bytes, which oneDNN
reads in the order a processor's matrix unit wants: there eight rows cost what one does. In int8
they are a quarter. Knows no architecture.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..errors import SettingError

Product = Callable[[Tensor], Tensor]

FEW, SMALL = 4, 4_000_000
"""Rows of inputs, and weights of a matrix, up to which int8 weights meet unrounded inputs."""


class Packed(nn.Module):
    """A linear layer in bfloat16.

    Args:
        weight: (out, in), kept for slices of it; bias: (out,).
        after: what oneDNN calls the activation that follows, and its form; none by default.
    """

    dtype = torch.bfloat16
    """Of what it gives."""
    fuses = True
    """Whether an activation can follow within the product."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None = None, after: tuple[str, str] = ("none", "")
    ) -> None:
        super().__init__()
        self.after = after
        self.weight, self.bias = weight.detach(), bias if bias is None else bias.detach()
        self._slices: dict[tuple[int, int | None], Product] = {}
        self._product = self._lay_out(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)"""
        return self._product(x)

    def rows(self, x: Tensor, start: int, end: int | None) -> Tensor:
        """The product with some rows of the matrix alone: (..., in) -> (..., end - start)."""
        key = start, end
        if key not in self._slices:
            bias = None if self.bias is None else self.bias[start:end]
            self._slices[key] = self._lay_out(self.weight[start:end], bias)
        return self._slices[key](x)

    def _lay_out(self, weight: Tensor, bias: Tensor | None) -> Product:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16(), 1)
        small = None if bias is None else bias.bfloat16()
        product = torch.ops.mkldnn._linear_pointwise.default
        name, form = self.after

        def multiply(x: Tensor) -> Tensor:
            found: Tensor = product(x.bfloat16(), packed, small, name, [], form)
            return found

        return multiply


class Quantized(Packed):
    """The same in int8, each row of the matrix with a scale of its own.

    A few inputs meet a small matrix as they are; otherwise they are rounded to int8 as they come,
    each row of them with its own scale.
    """

    fuses = False

    def _lay_out(self, weight: Tensor, bias: Tensor | None) -> Product:
        exact = weight.float()
        scale = exact.abs().amax(1).clamp(min=1e-12) / 127
        small = (exact / scale[:, None]).round().to(torch.int8)
        short, none = scale.bfloat16(), torch.zeros(len(scale), dtype=torch.int32)
        added = None if bias is None else bias.bfloat16()
        packed = torch.ops.onednn.qlinear_prepack(small, None)
        whole = torch.ops.onednn.qlinear_pointwise.default
        by_weights = torch.ops.aten._weight_int8pack_mm.default
        few = FEW if weight.numel() <= SMALL else 0

        def multiply(x: Tensor) -> Tensor:
            flat = x.view(-1, x.size(-1))
            if flat.size(0) <= few:
                found: Tensor = by_weights(flat.bfloat16(), small, short)
            else:
                size = flat.abs().amax(-1, keepdim=True).float().div_(127).clamp_(min=1e-12)
                rounded = (flat / size).round_().to(torch.int8)
                kind = torch.float32
                found = whole(
                    rounded, 1.0, 0, packed, scale, none, None, 1.0, 0, kind, "none", [], ""
                )
                found = found.mul_(size).bfloat16()
            if added is not None:
                found = found + added
            return found.view(*x.shape[:-1], -1)

        return multiply


LAYOUTS: dict[str, type[Packed]] = {"bfloat16": Packed, "int8": Quantized}
"""By what a person calls them."""


def check_layout(name: str) -> type[Packed]:
    """The layer of a precision.

    Raises:
        SettingError: this PyTorch or this processor lacks it.
    """
    layer = LAYOUTS[name]
    try:
        layer(torch.ones(16, 16))(torch.ones(1, 16))
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        raise SettingError(
            f"--dtype={name}: this PyTorch has no such product for this processor: leave it away"
        ) from error
    return layer
