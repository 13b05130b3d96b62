"""Gradients of a task for a batch, and how far they are from others."""

import torch
from torch import Tensor, nn

from scriven.data.batch import IGNORE_INDEX, Batch
from scriven.tasks.language import Language

BOUND = 1e-5
"""Relative difference of a gradient from that in float64; PyTorch's in float32 are 1e-6 to 2e-6."""


def make_batch(task: Language, rows: int = 3, length: int = 70) -> Batch:
    generator = torch.Generator().manual_seed(1)
    tokens, targets = torch.randint(task.vocab_size, (2, rows, length), generator=generator)
    targets[0, :5] = IGNORE_INDEX
    return Batch(tokens, targets)


def gradients(task: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Of a hundredth of a loss, so that its factor matters too."""
    for weight in task.parameters():
        weight.grad = None
    (loss / 100).backward()  # type: ignore[no-untyped-call]
    return {
        name: weight.grad for name, weight in task.named_parameters() if weight.grad is not None
    }


def error(found: Tensor, true: Tensor) -> float:
    return float((found.detach().double() - true.detach()).norm() / true.detach().norm())
