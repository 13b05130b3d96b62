"""Greedy decoding of one sequence: step by step, or with the step recorded as a CUDA graph.

A CUDA graph launches all its kernels at once, but its shapes may not change, so it uses a static
KV cache of full length whose unwritten positions are masked.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scriven.runtime import Runtime

WAYS = ("growing", "still", "graph")
"""A growing KV cache; a static one of full length; the same as a CUDA graph."""


def writer(
    way: str, task: Any, runtime: Runtime, prompt: Tensor, count: int
) -> Callable[[], list[Tensor]]:
    """A function that generates `count` tokens, each (1, 1), after a prompt (1, T)."""
    if way == "growing":
        return lambda: _growing(task, runtime, prompt, count)
    decoder = StaticDecoder(task, runtime, prompt, count)
    step = decoder.recorded() if way == "graph" else decoder.step

    def write() -> list[Tensor]:
        tokens = [decoder.restart()]
        for _ in range(count - 1):
            step()
            tokens.append(decoder.token.clone())
        return tokens

    return torch.inference_mode()(write)


class StaticDecoder:
    """A decoding step with constant shapes and addresses; the prompt is prefilled at first."""

    @torch.inference_mode()
    def __init__(self, task: Any, runtime: Runtime, prompt: Tensor, count: int) -> None:
        self.task, self.runtime, self.length = task, runtime, prompt.size(1) + count
        with runtime.autocast():  # sets the dtype of the cache as well
            self.state = task.backbone.new_cache(1, self.length)
            self.first = task.logits(task.backbone(prompt, self.state)[:, -1:]).argmax(-1)
        self.begin = torch.full_like(self.first, prompt.size(1))
        self.token, self.at = self.first.clone(), self.begin.clone()
        """(1, 1): the last token, and its position."""

    def restart(self) -> Tensor:
        """Returns to the first token; the mask hides what was generated since."""
        self.token.copy_(self.first)
        self.at.copy_(self.begin)
        return self.first

    @torch.inference_mode()
    def step(self) -> None:
        """Decodes the last token and replaces it with the next."""
        self.state.truncate(self.length - 1)
        with self.runtime.autocast():
            hidden = self.task.backbone(self.token, self.state, self.at)
            self.token.copy_(self.task.logits(hidden).argmax(-1))
        self.at.add_(1)

    @torch.inference_mode()
    def recorded(self) -> Callable[[], None]:
        """The same step as a CUDA graph."""
        side_stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):
            for _ in range(3):  # warmup: libraries choose their kernels before the capture
                self.restart()
                self.step()
        torch.cuda.current_stream().wait_stream(side_stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        return graph.replay


@torch.inference_mode()
def _growing(task: Any, runtime: Runtime, prompt: Tensor, count: int) -> list[Tensor]:
    with runtime.autocast():
        state = task.backbone.new_cache(1, prompt.size(1) + count)
    current, tokens = prompt, list[Tensor]()
    for _ in range(count):
        with runtime.autocast():
            current = task.logits(task.backbone(current, state)[:, -1:]).argmax(-1)
        tokens.append(current)
    return tokens
