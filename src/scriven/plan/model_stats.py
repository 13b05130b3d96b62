"""What is trained, in numbers, counted on torch's `meta` device, where weights take no memory."""

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .. import registry
from ..models.shared.cost import build_empty, flops_per_token, parameters_by_part
from ..train.optim.base import OptimizerModule, param_groups
from ..train.optim.muon import matrices_per_batch
from ..train.scaling_laws import activations_per_token


@dataclass(frozen=True)
class ModelStats:
    """A model, its optimizer and its batch."""

    parameters: int
    parameters_by_part: dict[str, int]
    matrices: list[tuple[int, int]]
    """Shapes of what Muon updates, the short side first; empty for other optimizers."""
    muon_batch_numel: int
    """Elements that Muon orthogonalises at once."""
    optimizer_state: int
    """Numbers that the optimizer keeps."""
    largest_block: int
    """Parameters of the largest block."""
    layers: int
    d_model: int
    vocab_size: int
    context_length: int
    flops: int
    """FLOPs of a training step, per token."""
    attention_flops: int
    """Those of them between positions."""
    activations: int
    """Numbers that the backward pass needs of a token, without logits."""
    batch_size: int = 1
    """Sequences per step."""

    @property
    def batch_tokens(self) -> int:
        """Tokens per step."""
        return self.batch_size * self.context_length


@lru_cache(maxsize=64)
def model_stats(architecture: str, model: Any, optimizer: str, fused: bool) -> ModelStats:
    """The numbers of a model, at a batch of one sequence.

    Args:
        architecture: a file name in `models/`, or a path.
        fused: whether attention is one kernel, as on GPUs.
    """
    # 1. the model with the head of its pre-training task
    module = registry.module("scriven.models", architecture)
    task_class = registry.module("scriven.tasks", module.Model.task_of(model)).Task
    task = build_empty(module, model, task_class)
    by_part = parameters_by_part(task)
    parameters = sum(by_part.values())
    # an fsdp device gathers one block at a time
    backbone: Any = task.backbone
    blocks = [sum(each.numel() for each in block.parameters()) for block in backbone.blocks]
    # 2. the state of the optimizer, and what Muon orthogonalises at once
    matrices = _orthogonalised(task, optimizer)
    # one momentum for each element that Muon updates
    by_muon = sum(short * long for short, long in matrices)
    rest = OptimizerModule(optimizer).state_per_param * (parameters - by_muon)
    batches = [
        min(count, matrices_per_batch(shape)) * math.prod(shape)
        for shape, count in Counter(matrices).items()
    ]
    # 3. FLOPs; those of attention are three times the forward: backward costs two
    flops = flops_per_token(task)
    return ModelStats(
        parameters=parameters,
        parameters_by_part=by_part,
        matrices=matrices,
        muon_batch_numel=max(batches, default=0),
        optimizer_state=by_muon + rest,
        largest_block=max(blocks, default=parameters),
        layers=model.total_layers,
        d_model=model.d_model,
        vocab_size=model.vocab_size,
        context_length=model.context_length,
        flops=flops["training"],
        attention_flops=3 * flops["between"],
        activations=activations_per_token(model, fused),
    )


def _orthogonalised(task: Any, optimizer: str) -> list[tuple[int, int]]:
    """Shapes of the matrices that go through Newton-Schulz, the short side first."""
    if not OptimizerModule(optimizer).orthogonalises_matrices:
        return []
    matrices = []
    for weight in param_groups(task).matrices.values():
        short, long = sorted(weight.shape[-2:])
        matrices += [(short, long)] * weight.shape[:-2].numel()  # a stack of matrices, or one
    return matrices
