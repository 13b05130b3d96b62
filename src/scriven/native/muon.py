"""Muon's updates of the matrices of one shape, by one call of compiled code (muon.cpp)."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from .library import load_library, num_threads


class MuonMatrix(ctypes.Structure):
    """These structures are those of muon.cpp."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("weight", "momentum", "gradient")]


class MuonGroup(ctypes.Structure):
    """Matrices of one shape, and the settings of an update."""

    _fields_ = [
        ("matrices", ctypes.POINTER(MuonMatrix)),
        *[(name, ctypes.c_int) for name in ("count", "rows", "columns", "threads", "iterations",
                                            "bfloat16")],
        *[(name, ctypes.c_float) for name in ("momentum", "decay", "step")],
        ("coefficients", ctypes.POINTER(ctypes.c_float)),
    ]  # fmt: skip


def muon_step(
    weights: Sequence[Tensor],
    momenta: Sequence[Tensor],
    *,
    momentum: float,
    decay: float,
    step: float,
    coefficients: Sequence[tuple[float, float, float]],
    precision: torch.dtype = torch.float32,
) -> bool:
    """Updates weights by their gradients: weight * decay + step * orthogonalised momentum.

    Args:
        precision: of the factors of products.

    Returns:
        Whether it did: only for float32 weights on a CPU, where there is a compiled library, and in
        bfloat16 where the CPU multiplies pairs of it.
    """
    library = load_library(name="training")
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    tensors = [*weights, *momenta, *gradients]
    plain = all(
        each.dtype == torch.float32 and each.device.type == "cpu" and each.is_contiguous()
        for each in tensors
    )
    known = precision in (torch.float32, torch.bfloat16)
    if library is None or not plain or not known or weights[0].dim() != 2:
        return False
    matrices = (MuonMatrix * len(weights))(
        *[
            MuonMatrix(*[each.data_ptr() for each in parts])
            for parts in zip(weights, momenta, gradients, strict=True)
        ]
    )
    flat = [number for iteration in coefficients for number in iteration]
    group = MuonGroup(
        matrices, len(weights), *weights[0].shape, num_threads(), len(coefficients),
        precision == torch.bfloat16, momentum, decay, step, (ctypes.c_float * len(flat))(*flat),
    )  # fmt: skip
    return not library.muon_step(ctypes.byref(group))
