"""Low-rank adapters (LoRA, Hu et al. 2021, section 4.1): W x becomes W x + (alpha / r) B A x.

W stays as it is; A (r, in) and B (out, r) are learned. B starts at zero, so an adapted model is at
first the model it was made of. Weights keep their names: beside `qkv.weight` there are then
`qkv.lora.a` and `qkv.lora.b`. A joint matrix may have an adapter for each of its parts, as other
libraries store those parts apart. Knows no architecture and no file format.
"""

from collections.abc import Collection, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SettingError

TARGETS = ("qkv", "out", "gate_up", "up", "down", "cell")
"""Names of the layers that are adapted: all matrices of attention, feed-forward and recurrence."""


class LoraAdapter(nn.Module):
    """A and B of one matrix (out, in), or of each of the parts it is cut into along its rows.

    `a` is (P r, in): the parts' A below each other; `b` is (out, r): their B below each other.
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
        self.a = nn.Parameter(weight.new_empty(len(self.parts) * rank, inputs))
        self.b = nn.Parameter(weight.new_zeros(out, rank))
        nn.init.kaiming_uniform_(self.a, a=5**0.5)  # up to 1 / sqrt(in), as nn.Linear begins

    @property
    def scale(self) -> float:
        """alpha / r: so the rank changes what can be learned more than how fast."""
        return self.alpha / self.rank

    def forward(self, x: Tensor, y: Tensor, start: int = 0, end: int | None = None) -> Tensor:
        """Adds its share to a product: inputs (..., in), y (..., end - start) -> as y.

        Args:
            x: what was multiplied.
            y: rows start .. end of the matrix times x.
        """
        if self.dropout and self.training:
            x = F.dropout(x, self.dropout)
        inner, b = F.linear(x, self.a).flatten(0, -2), self._b()[start:end]
        # one pass over y, which is much wider than the rest
        return torch.addmm(y.flatten(0, -2), inner, b.mT, alpha=self.scale).view_as(y)

    def full(self) -> Tensor:
        """(alpha / r) B A, (out, in)."""
        return self._b() @ self.a * self.scale

    def _b(self) -> Tensor:
        """B as one matrix (out, P r) that meets the A of all parts: zeros where they differ."""
        if len(self.parts) == 1:
            return self.b
        found: Tensor = torch.block_diag(  # type: ignore[no-untyped-call]
            *torch.split(self.b, self.parts)
        )
        return found


class LoraLinear(nn.Linear):
    """A linear layer, its own weights and all, with an adapter beside it."""

    def __init__(self, base: nn.Linear, lora: LoraAdapter) -> None:
        nn.Module.__init__(self)  # nn.Linear's would make weights
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.lora = lora
        self.train(base.training)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)"""
        y: Tensor = self.lora(x, super().forward(x))
        return y


def add_lora(
    module: nn.Module,
    rank: int,
    alpha: float | None = None,
    *,
    dropout: float = 0.0,
    targets: Collection[str] = TARGETS,
    parts: Mapping[str, Sequence[int]] | None = None,
) -> None:
    """Freezes every weight of `module` and puts adapters beside the matrices of its layers.

    Args:
        module: a task or a backbone; its linear layers are replaced by `Lora`s that hold the same
            weights under the same names.
        rank: r; 0 leaves the module exactly as it was, and nothing frozen.
        alpha: the adapters' weight is alpha / r; None: 2 r.
        dropout: share of an adapter's inputs dropped while training; recurrent layers have none.
        targets: layers by the last part of their name (`qkv`), or by all of it.
        parts: name of a matrix (`backbone.blocks.0.attention.qkv.weight`) -> rows of its parts.

    Raises:
        SettingError: a number that is impossible, or a module without any such layer.
    """
    alpha = 2.0 * rank if alpha is None else alpha
    if rank == 0:
        return
    layers = {
        name: layer
        for name, layer in module.named_modules()
        if (name in targets or name.rpartition(".")[2] in targets)
        and isinstance(layer, (nn.Linear, nn.RNNBase))
    }
    _check(layers, rank, alpha, dropout)
    module.requires_grad_(False)
    for name, layer in layers.items():
        if isinstance(layer, nn.RNNBase):
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
    found: dict[str, LoraAdapter] = {}
    for name, layer in module.named_modules():
        path = f"{name}." if name else ""
        lora = getattr(layer, "lora", None)
        if isinstance(lora, LoraAdapter):
            found[f"{path}weight"] = lora
        elif isinstance(lora, nn.ModuleDict):
            found |= {f"{path}{each}": one for each, one in lora.items()}  # type: ignore[misc]
    return found


@torch.no_grad()
def merged_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """The state dict of `merge(module)`; the module itself stays adapted, and can be trained on."""
    found = {name: each for name, each in module.state_dict().items() if ".lora." not in name}
    for name, lora in lora_adapters(module).items():
        found[name] = found[name] + lora.full()
    return found


@torch.no_grad()
def merge_lora(module: nn.Module) -> None:
    """Adds every adapter to its matrix and takes it away: a plain model that computes the same.

    No weight of it is frozen. A module without adapters stays as it is.
    """
    found = lora_adapters(module)
    for name, lora in found.items():
        module.get_parameter(name).add_(lora.full())
    if found:
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
    most = max(min(weight.shape) for each in layers.values() for weight in _matrices(each))
    if not 1 <= rank <= most:
        raise SettingError(
            f"--lora={rank}: from 0 (none) up to {most}, the full rank of this model's matrices"
        )
    if not 0 < alpha < float("inf"):
        raise SettingError(f"the adapters' alpha is {alpha}: a number above 0 is needed")
    if not 0 <= dropout < 1:
        raise SettingError(f"the adapters' dropout is {dropout}: from 0 up to (not including) 1")


def _matrices(layer: nn.Module) -> list[Tensor]:
    return [weight for weight in layer.parameters() if weight.dim() == 2]
