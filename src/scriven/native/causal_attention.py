"""Causal attention by compiled code (causal_attention.cpp), in the place of PyTorch's fused kernel,
for models that PyTorch trains: large ones beside adapters, GPT-NeoX, ...

The derivatives are those of PyTorch but for the last digits. Results depend on nothing else than
the numbers themselves: a row and a query head are computed by one thread. Inputs in bfloat16 are
multiplied as pairs where the CPU can do that (AVX512_BF16 or AMX), and otherwise in float32.
"""

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..data.batch import Batch
from ..nn.attention import Attention, scaled_dot_product_attention
from ..nn.cache import Cache
from ..tasks.base import BaseTask, Output
from .library import load_library
from .weights import UnsupportedError

LANES = 16
"""The dimension of a head has to be a multiple of it: numbers of the widest vectors."""


class AttentionBatch(ctypes.Structure):
    """This structure is that of causal_attention.cpp."""

    _fields_ = [
        *[(name, ctypes.c_void_p) for name in ("qkv", "y", "logsum", "d_y", "d_q", "d_k",
                                               "d_v")],
        *[(name, ctypes.c_int) for name in ("rows", "length", "heads", "kv_heads", "head_dim",
                                            "threads", "bfloat16")],
        ("scale", ctypes.c_float),
    ]  # fmt: skip


class NativeAttention:
    """A task whose causal attention is computed by compiled code while it is trained."""

    def __init__(
        self, task: BaseTask, dtype: torch.dtype = torch.float32, *, wait: bool = False
    ) -> None:
        """
        Args:
            dtype: of queries, keys and values.
            wait: until the library is compiled, where it has never been on this machine.

        Raises:
            UnsupportedError: no layer can use it, or there is no library.
        """
        self.task, self.dtype = task, dtype
        self.layers: list[Any] = [layer for layer in task.modules() if _is_supported(layer)]
        if not self.layers or load_library(wait, "training") is None:
            raise UnsupportedError("causal attention")

    def trials(self) -> tuple[Callable[[Batch], Output], Callable[[Batch], Output]]:
        """Attention alone, of random numbers, by compiled code and by PyTorch: to be timed."""
        layer = self.layers[0]

        def trial(kernel: Callable[..., Tensor], batch: Batch) -> Output:
            (rows, length), drawn = batch.tokens.shape, torch.Generator()  # not the run's own
            q, k, v = (
                torch.randn(rows, heads, length, layer.head_dim, generator=drawn)
                .to(self.dtype)
                .requires_grad_()
                for heads in (layer.heads, layer.kv_heads, layer.kv_heads)
            )
            return Output(kernel(q, k, v).sum(), torch.tensor(1), torch.tensor(1))

        torch_kernel = partial(scaled_dot_product_attention, causal=True)
        return partial(trial, causal_attention), partial(trial, torch_kernel)

    def __call__(self, batch: Batch, state: Cache | None = None) -> Output:
        """As the task."""
        for layer in self.layers:
            layer.causal_kernel = causal_attention
        try:
            output: Output = self.task(batch, state)
            return output
        finally:
            for layer in self.layers:
                layer.causal_kernel = None


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """softmax(q k^T * scale) v where query i attends to keys 0..i.

    Args:
        q: (B, H, T, D). k, v: (B, K, T, D) where K divides H. All float32, or all bfloat16.
        scale: 1 / sqrt(D) by default.

    Returns:
        (B, H, T, D)
    """
    scale = q.size(-1) ** -0.5 if scale is None else scale
    y: Tensor = _CausalAttention.apply(q, k, v, scale)  # type: ignore[no-untyped-call]
    return y


class _CausalAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        qkv = torch.cat([each.transpose(1, 2) for each in (q, k, v)], 2)  # (B, T, H + 2 K, D)
        (rows, heads, length, size), kv_heads = q.shape, k.size(1)
        y = torch.empty(rows, length, heads, size)
        logsum = torch.empty(rows, heads, length)
        rounds = q.dtype == torch.bfloat16
        ctx.shape = rows, length, heads, kv_heads, size, torch.get_num_threads(), rounds, scale
        _run([qkv.float(), y, logsum], ctx.shape)
        y = y.to(q.dtype)
        ctx.save_for_backward(qkv, y, logsum)
        return y.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:
        qkv, y, logsum = ctx.saved_tensors
        rows, length, heads, kv_heads, size = ctx.shape[:5]
        d_q, d_k, d_v = (torch.empty(rows, length, heads, size) for _ in range(3))
        d_y = d_y.transpose(1, 2).contiguous().float()
        _run([qkv.float(), y.float(), logsum, d_y, d_q, d_k, d_v], ctx.shape)
        if kv_heads != heads:  # summed over the query heads that share a key/value head
            d_k, d_v = (
                each.view(rows, length, kv_heads, heads // kv_heads, size).sum(3)
                for each in (d_k, d_v)
            )
        return *(each.to(qkv.dtype).transpose(1, 2) for each in (d_q, d_k, d_v)), None


def _run(arrays: list[Tensor], shape: tuple[Any, ...]) -> None:
    library = load_library(name="training")
    assert library is not None
    addresses = [each.data_ptr() for each in arrays] + [None] * (7 - len(arrays))
    if library.causal_attention(ctypes.byref(AttentionBatch(*addresses, *shape))):
        raise MemoryError("not enough memory for attention")


def _is_supported(layer: nn.Module) -> bool:
    return (
        isinstance(layer, Attention)
        and layer.mask.causal
        and layer.mask.window is None
        and layer.softcap is None
        and not layer.attention_dropout
        and layer.head_dim % LANES == 0
        and layer.qkv.weight.dtype in (torch.float32, torch.bfloat16)
    )
