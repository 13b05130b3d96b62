"""Linear layers for inference, whose weights are read once per token and never change.

Decoding a single token is bound by reading weights. In bfloat16 they are half as many bytes, which
oneDNN prepacks in the order AMX wants: there eight rows cost what one does. In int8 they are a
quarter, in int4 an eighth. Knows no architecture.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SettingError

Matmul = Callable[[Tensor], Tensor]

MAX_WEIGHT_ONLY_WORK = 8_000_000
"""Multiply-adds up to which only weights are quantised, which is then the faster way."""
GROUP = 32
"""Inputs whose int4 weights share a scale."""
ZERO_POINT = 128
"""The uint8 that stands for zero."""
UNSUPPORTED = (RuntimeError, AttributeError)
"""What PyTorch raises for an operator that it does not have, or not for this CPU."""


class PackedLinear(nn.Module):
    """A linear layer in bfloat16, prepacked by oneDNN; its output is bfloat16, too.

    Args:
        weight: (out, in), kept for slices of it; bias: (out,).
        activation: oneDNN's name of the activation that follows, and its form; none by default.
    """

    fuses = True
    """Whether an activation can be fused into the matmul."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        activation: tuple[str, str] = ("none", ""),
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weight, self.bias = weight.detach(), bias if bias is None else bias.detach()
        self._slices: dict[tuple[int, int | None], Matmul] = {}
        self._matmul = self._pack(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)"""
        return self._matmul(x)

    def rows(self, x: Tensor, start: int, end: int | None) -> Tensor:
        """The matmul with some rows of the matrix alone: (..., in) -> (..., end - start)."""
        key = start, end
        if key not in self._slices:
            bias = None if self.bias is None else self.bias[start:end]
            self._slices[key] = self._pack(self.weight[start:end], bias)
        return self._slices[key](x)

    def _pack(self, weight: Tensor, bias: Tensor | None) -> Matmul:
        # laid out once, for a batch of one row
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16(), 1)
        bias = None if bias is None else bias.bfloat16()
        operator = torch.ops.mkldnn._linear_pointwise.default
        name, form = self.activation

        def matmul(x: Tensor) -> Tensor:
            y: Tensor = operator(x.bfloat16(), packed, bias, name, [], form)
            return y

        return matmul


class Int8Linear(PackedLinear):
    """The same in int8, each row of the matrix with its own scale.

    A few inputs meet a small matrix in bfloat16. Otherwise they are quantised dynamically, each
    row with its own scale, and shifted to uint8: VNNI multiplies uint8 by int8, and PyTorch is a
    thousand times slower at any other pair. On a CPU where sums of bytes would overflow, inputs
    are never quantised.
    """

    fuses = False

    def _pack(self, weight: Tensor, bias: Tensor | None) -> Matmul:
        # 1. symmetric int8 weights, one scale per output row
        exact = weight.float()
        scale = exact.abs().amax(1).clamp(min=1e-12) / 127  # (out,)
        quantized = (exact / scale[:, None]).round().to(torch.int8)
        scale_bf16, bias_bf16 = scale.bfloat16(), None if bias is None else bias.bfloat16()
        # 2. two kernels: bfloat16 x int8, and uint8 x int8 where that is exact
        weight_only = torch.ops.aten._weight_int8pack_mm.default
        dynamic = _uint8_matmul(quantized, scale) if _uint8_is_exact() else None
        max_rows = MAX_WEIGHT_ONLY_WORK // weight.numel()

        def matmul(x: Tensor) -> Tensor:
            flat = x.view(-1, x.size(-1))  # (rows, in)
            if dynamic is None or flat.size(0) <= max_rows:
                y: Tensor = weight_only(flat.bfloat16(), quantized, scale_bf16)
            else:
                # dynamic quantisation: x is about size * (shifted - 128)
                size = flat.abs().amax(-1, keepdim=True).float().div_(127).clamp_(min=1e-12)
                shifted = (flat / size).round_().add_(ZERO_POINT).to(torch.uint8)
                y = dynamic(shifted).mul_(size).bfloat16()
            if bias_bf16 is not None:
                y = y + bias_bf16
            return y.view(*x.shape[:-1], -1)

        return matmul


class Int4Linear(PackedLinear):
    """The same in int4, each GROUP inputs of a row with their own scale, as llama.cpp's q4_0.

    PyTorch multiplies the rounded weights in float32; it is the compiled decoder that reads the
    four bits (`native/linear.h`).
    """

    fuses = False

    def _pack(self, weight: Tensor, bias: Tensor | None) -> Matmul:
        padded = F.pad(weight.float(), (0, -weight.size(1) % GROUP))
        groups = padded.view(len(weight), -1, GROUP)
        # the weight of a group that is largest in size becomes -8 exactly
        largest = groups.gather(2, groups.abs().argmax(2, keepdim=True))
        scale = largest / -8  # (out, groups, 1)
        scale = scale.masked_fill(scale == 0, 1.0)
        values = (groups / scale).round().clamp(max=7)
        rounded = (values * scale).flatten(1)[:, : weight.size(1)]
        bias = None if bias is None else bias.float()
        return lambda x: F.linear(x.float(), rounded, bias).bfloat16()


def _uint8_matmul(weight: Tensor, scale: Tensor) -> Matmul:
    """The matmul of uint8 inputs (rows, in) around ZERO_POINT with int8 weights (out, in).

    Args:
        weight: quantised.
        scale: (out,), what each row of the matrix is multiplied with.
    """
    # the scales of inputs, 1.0 here, are applied by the caller, as each row has its own
    packed = torch.ops.onednn.qlinear_prepack(weight, None)
    operator = torch.ops.onednn.qlinear_pointwise.default
    zero_points, out = torch.zeros(len(scale), dtype=torch.int32), torch.float32

    def matmul(x: Tensor) -> Tensor:
        y: Tensor = operator(
            x, 1.0, ZERO_POINT, packed, scale, zero_points, None, 1.0, 0, out, "none", [], ""
        )
        return y

    return matmul


@cache
def _uint8_is_exact() -> bool:
    """Whether the largest bytes give their exact product.

    CPUs without VNNI add pairs of products in sixteen bits, which overflow.
    """
    rows, size = 4, 64
    try:
        matmul = _uint8_matmul(torch.full((size, size), 127, dtype=torch.int8), torch.ones(size))
        y = matmul(torch.full((rows, size), 255, dtype=torch.uint8))
    except UNSUPPORTED:  # weight-only quantisation remains, which any CPU can do
        return False
    return bool((y == 127 * 127 * size).all())


PRECISIONS: dict[str, type[PackedLinear]] = {
    "bfloat16": PackedLinear, "int8": Int8Linear, "int4": Int4Linear,
}  # fmt: skip
"""By their name in `--dtype`."""
INTEGERS = ("int8", "int4")
"""Those that only the engine's copy of the weights has, on a CPU: all else stays in floats."""


def check_precision(name: str) -> type[PackedLinear]:
    """The layer of a precision.

    Raises:
        SettingError: this PyTorch or this CPU does not support it.
    """
    layer = PRECISIONS[name]
    try:
        layer(torch.ones(16, 16))(torch.ones(1, 16))
    except UNSUPPORTED as error:
        raise SettingError(
            f"--dtype={name}: this PyTorch has no such matmul for this CPU: leave it away"
        ) from error
    return layer
