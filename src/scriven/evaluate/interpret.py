"""Looking inside a model while it reads a text: attention weights, and the logit lens.

The logit lens (nostalgebraist 2020) applies the last norm and the output matrix to the hidden state
after each block: what the model would say if it ended there.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..nn import attention as attention_module
from ..nn.attention import Attention
from ..tasks.base import BaseTask

_RECORDING = threading.Lock()


@dataclass(frozen=True)
class Reading:
    """What one pass over a text showed."""

    attention: list[Tensor]
    """For each layer with attention its weights (H, T, T); row t is what position t reads."""
    hidden: list[Tensor]
    """(T, C) after the embedding and after each block."""
    lens: list[Tensor]
    """(T, V) log-probabilities of the next token after the embedding and after each block; the last
    are the model's own."""


@torch.inference_mode()
def read_text(task: BaseTask, ids: list[int]) -> Reading:
    """Reads one text, with everything that happens inside.

    Args:
        ids: at least one token, and no more than the context.

    Raises:
        InputError: a text of another length, or a model whose layers cannot be seen: one with an
            encoder, or another library's.
    """
    backbone: Any = task.backbone
    if task.backbone.kind != "decoder" or not hasattr(backbone, "blocks"):
        raise InputError(f"a model of kind {task.backbone.kind} shows nothing of its inside")
    if not 1 <= len(ids) <= task.max_context:
        raise InputError(
            f"the text has {len(ids)} tokens: from 1 to the context of {task.max_context}"
        )
    tokens = torch.tensor([ids], device=next(task.parameters()).device)
    states: list[Tensor] = []

    def remember(_: object, inputs: tuple[Any, ...], output: Any) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    hooks = [backbone.embed.register_forward_hook(remember)]
    hooks += [block.register_forward_hook(remember) for block in backbone.blocks]
    try:
        with _recorded_attention() as weights:
            backbone(tokens, None, None)
    finally:
        for hook in hooks:
            hook.remove()
    lens = [task.logits(backbone.norm(state))[0].float().log_softmax(-1) for state in states]
    return Reading([each[0] for each in weights], [state[0] for state in states], lens)


@contextmanager
def _recorded_attention() -> Iterator[list[Tensor]]:
    """Collects the weights (B, H, T, S) of every attention layer within a block.

    A kernel gives softmax(Q K^T) V: with the identity matrix for V these are the weights
    themselves, whatever masks, biases and caps the layer has.
    """
    found: list[Tensor] = []
    original = attention_module.scaled_dot_product_attention

    def record(q: Tensor, k: Tensor, v: Tensor, **settings: Any) -> Tensor:
        one = torch.eye(k.size(2), dtype=v.dtype, device=v.device)
        identity = one.expand(v.size(0), v.size(1), -1, -1)
        found.append(original(q, k, identity, **settings).float())
        return original(q, k, v, **settings)

    with _RECORDING:  # one reader at a time
        attention_module.scaled_dot_product_attention = record
        try:
            yield found
        finally:
            attention_module.scaled_dot_product_attention = original


def has_attention(task: BaseTask) -> bool:
    """Whether there are attention weights to look at."""
    return any(isinstance(each, Attention) for each in task.backbone.modules())
