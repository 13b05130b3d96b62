"""What is trained, in numbers: counted on torch's `meta` device, where weights take no memory.

Knows no machine and no rates.
"""

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .. import registry
from ..models.base import pretraining
from ..models.shared.cost import (
    build_empty,
    flops_per_token,
    kept_per_token,
    layers_of,
    parameters_by_part,
)
from .optim.base import OptimizerModule, param_groups
from .optim.muon import matrices_per_batch


@dataclass(frozen=True)
class Job:
    """A model, its optimizer and its batch."""

    parameters: int
    parts: dict[str, int]
    """Parameters by part."""
    matrices: list[tuple[int, int]]
    """Shapes of what Muon moves, the short side first; empty for other optimizers."""
    stacked: int
    """Numbers that Muon makes orthogonal at once."""
    moments: int
    """Numbers that the optimizer keeps."""
    block: int
    """Parameters of the largest block."""
    layers: int
    d_model: int
    vocab_size: int
    context_length: int
    flops: int
    """Of a training step, per token."""
    between: int
    """Those of them between positions."""
    kept: int
    """Numbers that backward needs of a token, without logits."""
    rows: int = 1
    """Sequences of an update."""

    @property
    def tokens(self) -> int:
        """Of an update."""
        return self.rows * self.context_length


@lru_cache(maxsize=64)
def job_of(architecture: str, model: Any, optimizer: str, fused: bool) -> Job:
    """The numbers of a model; those of an update of one sequence.

    Args:
        architecture: a file name in `models/`, or a path.
        model: its Config.
        optimizer: as in the settings.
        fused: whether attention is one kernel, as on GPUs.
    """
    module = registry.module("scriven.models", architecture)
    task = build_empty(module, model, registry.module("scriven.tasks", pretraining(module)).Task)
    backbone: Any = task.backbone
    parts = parameters_by_part(task)
    parameters = sum(parts.values())
    blocks = [sum(each.numel() for each in block.parameters()) for block in backbone.blocks]
    module_of_optimizer = OptimizerModule(optimizer)
    moved = module_of_optimizer.orthogonalises_matrices
    weights = param_groups(task).matrices.values() if moved else []
    shapes = [
        sorted(weight.shape[-2:]) for weight in weights for _ in range(weight.shape[:-2].numel())
    ]
    by_muon = sum(low * high for low, high in shapes)
    groups = Counter((low, high) for low, high in shapes)
    stacks = [
        min(count, matrices_per_batch(shape)) * math.prod(shape) for shape, count in groups.items()
    ]
    flops = flops_per_token(module, task)
    return Job(
        parameters,
        parts,
        [(low, high) for low, high in shapes],
        max(stacks, default=0),
        by_muon + module_of_optimizer.state_per_param * (parameters - by_muon),
        max(blocks, default=parameters),
        layers_of(model),
        model.d_model,
        model.vocab_size,
        model.context_length,
        flops["training"],
        3 * flops["between"],
        kept_per_token(model, fused),
    )
