"""Cross entropy over a large vocabulary in pieces, so that few logits exist at a time.

For a frozen output layer only: the forward pass computes the gradient of the hidden states as well,
so that logits are neither kept nor computed twice (Hsu et al. 2024, arXiv 2410.10989, section 3.2).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LOGITS = 1 << 23
"""Logits of one piece: as float32 they fit into the cache of a CPU."""


def chunked_cross_entropy(
    hidden: Tensor,
    targets: Tensor,
    logits: Callable[[Tensor], Tensor],
    vocab_size: int,
    smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Cross entropy summed over the targets, and how many of them are the likeliest token.

    Args:
        hidden: (N, C). targets: (N,); a negative one is ignored.
        logits: of some positions, (n, C) -> (n, V), by weights without gradients.
        smoothing: label smoothing.
    """
    size = max(16, LOGITS // vocab_size)
    if not torch.is_grad_enabled():
        hidden = hidden.detach()  # nothing is differentiated
    sums: tuple[Tensor, Tensor] = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, targets, logits, size, smoothing
    )
    return sums


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        targets: Tensor,
        logits: Callable[[Tensor], Tensor],
        size: int,
        smoothing: float,
    ) -> tuple[Tensor, Tensor]:
        is_training = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if is_training else None
        loss = torch.zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32))
        loss, correct = loss.to(hidden.device), torch.zeros((), dtype=torch.int64).to(hidden.device)
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            leaf = hidden[part].detach().requires_grad_(is_training)
            with torch.enable_grad():
                scores = logits(leaf)  # (n, V)
            counted = targets[part] >= 0
            places = targets[part].clamp(min=0).unsqueeze(1)  # (n, 1)
            # -(1 - s) log p(target) - s mean(log p)
            log_p = scores.detach().log_softmax(-1)
            correct += ((log_p.argmax(-1) == places[:, 0]) & counted).sum()
            nll = -(1 - smoothing) * log_p.gather(1, places)[:, 0]
            if smoothing:
                nll -= smoothing * log_p.mean(-1)
            loss += nll.mul_(counted).sum()
            if gradient is not None:  # p - (1 - s) one-hot(target) - s / V
                d_scores = log_p.exp_()
                d_scores.scatter_add_(
                    1, places, d_scores.new_full((), smoothing - 1).expand_as(places)
                )
                if smoothing:
                    d_scores -= smoothing / d_scores.size(-1)
                if not counted.all():
                    d_scores.mul_(counted.unsqueeze(1))
                gradient[part] = torch.autograd.grad(scores, leaf, d_scores)[0]
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor, d_correct: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * d_loss, None, None, None, None
