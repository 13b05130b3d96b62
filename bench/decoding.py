"""Greedy writing of one stream: step by step, or as one recorded step that a GPU plays again.

A recorded step (a CUDA graph) starts all its kernels at once, but may not change shape: so the
cache is always full, and the mask hides what was not yet written.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scriven.runtime import Runtime

WAYS = ("growing", "still", "graph")
"""A cache that grows; one that is full from the beginning; the same as a CUDA graph."""


def writer(
    way: str, task: Any, runtime: Runtime, prompt: Tensor, count: int
) -> Callable[[], list[Tensor]]:
    """What writes `count` tokens after a prompt (1, T), each (1, 1), whenever it is called."""
    if way == "growing":
        return lambda: _growing(task, runtime, prompt, count)
    made = Still(task, runtime, prompt, count)
    step = made.recorded() if way == "graph" else made.step

    def write() -> list[Tensor]:
        found = [made.restart()]
        for _ in range(count - 1):
            step()
            found.append(made.token.clone())
        return found

    return torch.inference_mode()(write)


class Still:
    """A step whose shapes and places in memory stay the same; begins with the prompt read."""

    @torch.inference_mode()
    def __init__(self, task: Any, runtime: Runtime, prompt: Tensor, count: int) -> None:
        self.task, self.runtime, self.room = task, runtime, prompt.size(1) + count
        with runtime.autocast():  # which also tells the precision of the cache
            self.state = task.backbone.new_cache(1, self.room)
            self.first = task.logits(task.backbone(prompt, self.state)[:, -1:]).argmax(-1)
        self.begin = torch.full_like(self.first, prompt.size(1))
        self.token, self.at = self.first.clone(), self.begin.clone()
        """(1, 1): the last token, and its position."""

    def restart(self) -> Tensor:
        """Back to the first token, which it tells; what was written since is hidden by the mask."""
        self.token.copy_(self.first)
        self.at.copy_(self.begin)
        return self.first

    @torch.inference_mode()
    def step(self) -> None:
        """Reads the last token and puts the next in its place."""
        self.state.truncate(self.room - 1)
        with self.runtime.autocast():
            hidden = self.task.backbone(self.token, self.state, self.at)
            self.token.copy_(self.task.logits(hidden).argmax(-1))
        self.at.add_(1)

    @torch.inference_mode()
    def recorded(self) -> Callable[[], None]:
        """The same step as a CUDA graph; only on such a GPU."""
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):  # libraries choose their kernels before the recording
                self.restart()
                self.step()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        return graph.replay


@torch.inference_mode()
def _growing(task: Any, runtime: Runtime, prompt: Tensor, count: int) -> list[Tensor]:
    with runtime.autocast():
        state = task.backbone.new_cache(1, prompt.size(1) + count)
    now, found = prompt, list[Tensor]()
    for _ in range(count):
        with runtime.autocast():
            now = task.logits(task.backbone(now, state)[:, -1:]).argmax(-1)
        found.append(now)
    return found
