"""Linear layers with weights laid out for writing: read once for each token, and never changed.

A single token is bound by reading weights. In bfloat16 they are half as many bytes, which oneDNN
reads in the order a processor's matrix unit wants: there eight rows cost what one does. In int8
they are a quarter. Knows no architecture.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from ..errors import SettingError

Product = Callable[[Tensor], Tensor]

FEW = 8_000_000
"""Multiplications up to which int8 weights meet unrounded inputs, which is then the faster way."""
ZERO = 128
"""The byte that stands for zero."""
LACKING = (RuntimeError, AttributeError)
"""What PyTorch raises for a product that it has not, or not for this processor."""


class PackedLinear(nn.Module):
    """A linear layer in bfloat16, which is also the type of what it gives.

    Args:
        weight: (out, in), kept for slices of it; bias: (out,).
        after: what oneDNN calls the activation that follows, and its form; none by default.
    """

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


class Int8Linear(PackedLinear):
    """The same in int8, each row of the matrix with a scale of its own.

    A few inputs meet a small matrix as they are. Otherwise they are rounded to eight bits as they
    come, each row of them with its own scale, and moved to what is above zero: a processor without
    a matrix unit multiplies bytes without a sign by bytes with one, and PyTorch is a thousand times
    slower at any others. Where eight bits would overflow, no input is rounded.
    """

    fuses = False

    def _lay_out(self, weight: Tensor, bias: Tensor | None) -> Product:
        exact = weight.float()
        scale = exact.abs().amax(1).clamp(min=1e-12) / 127
        small = (exact / scale[:, None]).round().to(torch.int8)
        short, added = scale.bfloat16(), None if bias is None else bias.bfloat16()
        by_weights = torch.ops.aten._weight_int8pack_mm.default
        by_bytes = _by_bytes(small, scale) if _bytes_are_exact() else None
        few = FEW // weight.numel()

        def multiply(x: Tensor) -> Tensor:
            flat = x.view(-1, x.size(-1))
            if by_bytes is None or flat.size(0) <= few:
                found: Tensor = by_weights(flat.bfloat16(), small, short)
            else:
                size = flat.abs().amax(-1, keepdim=True).float().div_(127).clamp_(min=1e-12)
                moved = (flat / size).round_().add_(ZERO).to(torch.uint8)
                found = by_bytes(moved).mul_(size).bfloat16()
            if added is not None:
                found = found + added
            return found.view(*x.shape[:-1], -1)

        return multiply


def _by_bytes(weight: Tensor, scale: Tensor) -> Product:
    """The product of inputs (rows, in) of bytes around ZERO with weights (out, in) of int8.

    Args:
        scale: (out,), what each row of the matrix is multiplied with.
    """
    packed = torch.ops.onednn.qlinear_prepack(weight, None)
    product = torch.ops.onednn.qlinear_pointwise.default
    none, kind = torch.zeros(len(scale), dtype=torch.int32), torch.float32

    def multiply(x: Tensor) -> Tensor:
        found: Tensor = product(
            x, 1.0, ZERO, packed, scale, none, None, 1.0, 0, kind, "none", [], ""
        )
        return found

    return multiply


@cache
def _bytes_are_exact() -> bool:
    """Whether the greatest bytes there are give their product.

    Processors without dot products of bytes add pairs of them in sixteen bits, which overflow.
    """
    rows, size = 4, 64
    try:
        product = _by_bytes(torch.full((size, size), 127, dtype=torch.int8), torch.ones(size))
        found = product(torch.full((rows, size), 255, dtype=torch.uint8))
    except LACKING:  # whole inputs do then, which any processor can multiply
        return False
    return bool((found == 127 * 127 * size).all())


PRECISIONS: dict[str, type[PackedLinear]] = {"bfloat16": PackedLinear, "int8": Int8Linear}
"""By what a person calls them."""


def check_precision(name: str) -> type[PackedLinear]:
    """The layer of a precision.

    Raises:
        SettingError: this PyTorch or this processor lacks it.
    """
    layer = PRECISIONS[name]
    try:
        layer(torch.ones(16, 16))(torch.ones(1, 16))
    except LACKING as error:
        raise SettingError(
            f"--dtype={name}: this PyTorch has no such product for this processor: leave it away"
        ) from error
    return layer
