"""What is trained, in numbers: counted on torch's `meta` device, where weights take no memory.

Knows no machine and no rates.
"""

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .. import registry
from ..models.shared.backbone import pretraining
from ..models.shared.cost import (
    build_empty,
    flops_per_token,
    kept_per_token,
    layers_of,
    parameters_by_part,
)
from .muon import at_once
from .optim import roles


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
    moved = roles(task)[0].values() if optimizer == "muon" else []
    shapes = [sorted((weight.shape[0], weight.shape[1:].numel())) for weight in moved]
    by_muon = sum(low * high for low, high in shapes)
    groups = Counter((low, high) for low, high in shapes)
    stacks = [min(count, at_once(shape)) * math.prod(shape) for shape, count in groups.items()]
    each = 1 if optimizer == "sgd" else 2
    flops = flops_per_token(module, task)
    return Job(
        parameters,
        parts,
        [(low, high) for low, high in shapes],
        max(stacks, default=0),
        by_muon + each * (parameters - by_muon),
        max(blocks, default=parameters),
        layers_of(model),
        model.d_model,
        model.vocab_size,
        model.context_length,
        flops["training"],
        3 * flops["between"],
        kept_per_token(model, fused),
    )
