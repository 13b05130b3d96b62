"""Where the norm sits around a sublayer: a function handed to the block, not a flag in it."""

from collections.abc import Callable

from torch import Tensor

Sublayer = Callable[[Tensor], Tensor]
Residual = Callable[[Tensor, Sublayer, Sublayer], Tensor]


def pre_norm(x: Tensor, norm: Sublayer, sublayer: Sublayer) -> Tensor:
    """Norm first, residual untouched (GPT-2, Llama)."""
    return x + sublayer(norm(x)).to(x.dtype)


def post_norm(x: Tensor, norm: Sublayer, sublayer: Sublayer) -> Tensor:
    """Norm after the sum (Vaswani et al. 2017, section 3.1; GPT-1)."""
    return norm(x + sublayer(x))
