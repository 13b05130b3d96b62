"""Low-rank adapters (LoRA, Hu et al. 2021, section 4.1): W x becomes W x + (alpha / r) B A x.

W is frozen; A (r, in) and B (out, r) are trained. B starts at zero, so an adapted model is at first
the base model. Weights keep their names: beside `qkv.weight` there are then `qkv.lora.a` and
`qkv.lora.b`. A fused matrix may have an adapter for each of its parts, as other libraries store
those parts apart. Knows no architecture and no file format.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..errors import SettingError

TARGETS = ("qkv", "out", "gate_up", "up", "down", "cell")
"""Layers that are adapted by default: all matrices of attention, feed-forward and recurrence."""


class LoraAdapter(nn.Module):
    """A and B of one matrix (out, in), or of each of the parts it is split into along its rows.

    `a` is (P r, in): the A of P parts below each other; `b` is (out, r): their B below each other.
    """

    def __init__(
        self,
        weight: Tensor,
        rank: int,
        alpha: float,
        dropout: float = 0.0,
        parts: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        out, inputs = weight.shape
        self.parts = list(parts or [out])
        assert sum(self.parts) == out
        self.rank, self.alpha, self.dropout = rank, alpha, dropout
        # float32 or better beside weights in half precision: an optimizer's steps are small
        dtype = torch.promote_types(weight.dtype, torch.float32)
        self.a = nn.Parameter(weight.new_empty(len(self.parts) * rank, inputs, dtype=dtype))
        self.b = nn.Parameter(weight.new_zeros(out, rank, dtype=dtype))
        nn.init.kaiming_uniform_(self.a, a=5**0.5)  # as nn.Linear: up to 1 / sqrt(in)

    @property
    def scale(self) -> float:
        """alpha / r: the rank then changes what can be learned more than how fast."""
        return self.alpha / self.rank

    def forward(self, x: Tensor, y: Tensor, start: int = 0, end: int | None = None) -> Tensor:
        """y + (alpha / r) B A x.

        Args:
            x: (..., in), the input of the layer.
            y: (..., end - start), rows start .. end of W times x.
        """
        if self.dropout and self.training:
            x = F.dropout(x, self.dropout)
        inner = F.linear(x, self.a).flatten(0, -2)  # (rows, P r)
        b = self.block_diagonal_b()[start:end]  # (end - start, P r)
        # addmm: one pass over y, which is much wider than the rest
        return torch.addmm(y.flatten(0, -2), inner, b.mT, alpha=self.scale).view_as(y)

    def delta_weight(self) -> Tensor:
        """(alpha / r) B A, (out, in): what merging adds to W."""
        return self.block_diagonal_b() @ self.a * self.scale  # (out, P r) (P r, in)

    def block_diagonal_b(self) -> Tensor:
        """B as one matrix (out, P r): block-diagonal, so that each part meets its own A alone."""
        if len(self.parts) == 1:
            return self.b
        b: Tensor = torch.block_diag(  # type: ignore[no-untyped-call]
            *torch.split(self.b, self.parts)
        )
        return b


class LoraLinear(nn.Linear):
    """A linear layer, with the same weights, and an adapter beside it."""

    def __init__(self, base: nn.Linear, lora: LoraAdapter) -> None:
        nn.Module.__init__(self)  # not nn.Linear's, which would make weights
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.lora = lora
        self.train(base.training)

    def forward(self, x: Tensor, before: Any = None) -> Tensor:
        """(..., in) -> (..., out)

        Args:
            before: an activation that is applied first, and computed again in the backward pass
                instead of kept: an autograd function of one input, with its `value` and
                `derivative` as functions of their own.
        """
        lora, weight = self.lora, self.weight
        # training with frozen weights: both products in one operation, which keeps less
        if torch.is_grad_enabled() and not (weight.requires_grad or lora.dropout):
            if torch.is_autocast_enabled(x.device.type):
                weight = weight.to(torch.get_autocast_dtype(x.device.type))
            b = lora.block_diagonal_b()
            y: Tensor = _AdaptedLinear.apply(  # type: ignore[no-untyped-call]
                x, weight, self.bias, lora.a, b, lora.scale, before
            )
            # shaped out here: some models of transformers add to the output in place, which a view
            # that was made inside the function does not allow
            return y.view(*x.shape[:-1], -1)
        x = x if before is None else before.apply(x)
        adapted: Tensor = lora(x, super().forward(x))
        return adapted


class _AdaptedLinear(torch.autograd.Function):
    """x W^T + scale (x A^T) B^T with its derivative, in the dtype of W; W is frozen.

    x (..., in), W (out, in), A (R, in), B (out, R). Only x and x A^T are kept, in the dtype of W;
    of an activation before it the input instead of x.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float,
        before: Any,
    ) -> Tensor:  # fmt: skip
        kept = x.flatten(0, -2).to(w.dtype)  # (N, in)
        rows = kept if before is None else before.value(kept)
        dtype, a, b = a.dtype, a.to(w.dtype), (b * scale).to(w.dtype)
        inner = rows @ a.mT  # (N, R)
        y = F.linear(rows, w, None if bias is None else bias.to(w.dtype))
        y.addmm_(inner, b.mT)
        ctx.save_for_backward(kept, inner, w, a, b)
        ctx.scale, ctx.shape, ctx.dtype, ctx.before = scale, x.shape, dtype, before
        return y  # (N, out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        kept, inner, w, a, b = ctx.saved_tensors
        rows = kept if ctx.before is None else ctx.before.value(kept)
        grad = grad.to(w.dtype)  # (N, out)
        d_inner = grad @ b  # (N, R)
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = (grad @ w).addmm_(d_inner, a)  # (N, in)
            d_x = d_x if ctx.before is None else ctx.before.derivative(kept, d_x)
            d_x = d_x.view(ctx.shape)
        d_a, d_b = d_inner.mT @ rows, grad.mT @ inner  # (R, in), (out, R)
        return d_x, None, None, d_a.to(ctx.dtype), d_b.to(ctx.dtype) * ctx.scale, None, None


def add_lora(
    module: nn.Module,
    rank: int,
    alpha: float | None = None,
    *,
    dropout: float = 0.0,
    targets: Collection[str] = TARGETS,
    parts: Mapping[str, Sequence[int]] | None = None,
) -> None:
    """Freezes every weight of `module` and adds adapters to the matrices of its layers.

    Args:
        module: a task or a backbone; its linear layers become `LoraLinear`s that hold the
            same weights under the same names.
        rank: r; with 0 nothing is added and nothing frozen.
        alpha: the adapters' weight is alpha / r; None: 2 r.
        dropout: fraction of an adapter's inputs dropped while training; not in recurrent layers.
        targets: layers by the last part of their name (`qkv`), or by their whole name.
        parts: name of a matrix (`backbone.blocks.0.attention.qkv.weight`) -> rows of its parts.

    Raises:
        SettingError: a number that is impossible, or a module without any such layer.
    """
    alpha = 2.0 * rank if alpha is None else alpha
    if rank == 0:
        return
    # 1. the layers
    layers = {
        name: layer
        for name, layer in module.named_modules()
        if (name in targets or name.rpartition(".")[2] in targets)
        and isinstance(layer, (nn.Linear, nn.RNNBase))
    }
    _check(layers, rank, alpha, dropout)
    # 2. freeze everything, then add the adapters, which are new parameters
    module.requires_grad_(False)
    for name, layer in layers.items():
        if isinstance(layer, nn.RNNBase):
            # torch's layer keeps its weights; one adapter for each of its matrices
            layer.lora = nn.ModuleDict(
                {
                    each: LoraAdapter(weight, rank, alpha)
                    for each, weight in layer.named_parameters()
                    if weight.dim() == 2
                }
            )
        elif isinstance(layer, nn.Linear):
            cuts = (parts or {}).get(f"{name}.weight")
            _replace(
                module,
                name,
                LoraLinear(layer, LoraAdapter(layer.weight, rank, alpha, dropout, cuts)),
            )


def lora_adapters(module: nn.Module) -> dict[str, LoraAdapter]:
    """Every adapter, by the name of the matrix it belongs to."""
    adapters: dict[str, LoraAdapter] = {}
    for name, layer in module.named_modules():
        path = f"{name}." if name else ""
        lora = getattr(layer, "lora", None)
        if isinstance(lora, LoraAdapter):
            adapters[f"{path}weight"] = lora
        elif isinstance(lora, nn.ModuleDict):
            adapters |= {f"{path}{each}": one for each, one in lora.items()}  # type: ignore[misc]
    return adapters


@torch.no_grad()
def merged_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """The state dict after `merge_lora`; the module itself stays adapted, and can be trained on."""
    weights = {name: each for name, each in module.state_dict().items() if ".lora." not in name}
    for name, lora in lora_adapters(module).items():
        weights[name] = weights[name] + lora.delta_weight()
    return weights


@torch.no_grad()
def merge_lora(module: nn.Module) -> None:
    """Adds every adapter to its matrix and removes it: a plain model that computes the same.

    All its weights can be trained. A module without adapters stays as it is.
    """
    adapters = lora_adapters(module)
    for name, lora in adapters.items():
        module.get_parameter(name).add_(lora.delta_weight())
    if adapters:
        module.requires_grad_(True)
    for name, layer in list(module.named_modules()):
        if isinstance(layer, LoraLinear):
            plain = nn.Linear(layer.in_features, layer.out_features, device="meta")
            plain.weight, plain.bias = layer.weight, layer.bias
            _replace(module, name, plain.train(layer.training))
        elif isinstance(layer, nn.RNNBase) and "lora" in layer._modules:
            del layer.lora


def _replace(module: nn.Module, name: str, layer: nn.Module) -> None:
    path, _, last = name.rpartition(".")
    setattr(module.get_submodule(path), last, layer)


def _check(layers: Mapping[str, nn.Module], rank: int, alpha: float, dropout: float) -> None:
    if not layers:
        raise SettingError("this model has no layer that --lora could adapt: train all of it")
    matrices = [w for layer in layers.values() for w in layer.parameters() if w.dim() == 2]
    max_rank = max(min(weight.shape) for weight in matrices)
    if not 1 <= rank <= max_rank:
        raise SettingError(
            f"--lora={rank}: from 0 (none) up to {max_rank}, the full rank of this model's matrices"
        )
    if not 0 < alpha < float("inf"):
        raise SettingError(f"the adapters' alpha is {alpha}: a number above 0 is needed")
    if not 0 <= dropout < 1:
        raise SettingError(f"the adapters' dropout is {dropout}: from 0 up to (not including) 1")
