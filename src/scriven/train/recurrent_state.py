"""Truncated backpropagation through time: the state that each row of a batch hands on to the next.

Part of a checkpoint, so that resuming is bit for bit. Does not know what a state consists of.
"""

from dataclasses import replace

import torch
from torch import Tensor

from ..data.batch import Batch
from ..distributed import SINGLE_PROCESS, DistributedContext
from ..models.base import Architecture
from ..nn.cache import Cache


class TBPTTState:
    """The states of a recurrent model, row by row; always empty for any other model.

    Each micro-batch has a state of its own, in the process that reads its rows. A checkpoint joins
    them, so that a run can resume with another micro-batch size or number of processes.

    Args:
        batch_size: rows of the whole batch.
        rows: the rows of this process.
    """

    def __init__(self, backbone: Architecture, batch_size: int, rows: slice) -> None:
        self.backbone, self.batch_size, self.rows = backbone, batch_size, rows
        self.next_sample = 0
        """Number of the sample that continues the text of the present states."""
        self.states: dict[int, Cache | None] = {}
        """State of each micro-batch, by its first row."""
        self.restored: dict[str, Tensor] = {}
        """States of a checkpoint, until a step has used them."""

    def follow(self, sample: int, batch: Batch) -> Batch:
        """The batch, with `reset_state` set and all states dropped if it does not continue the one
        before."""
        # after a rollback samples are left out, so the states belong to another place in the text
        continues, self.next_sample = sample == self.next_sample, sample + self.batch_size
        if not continues or batch.reset_state:
            self.reset()
            return replace(batch, reset_state=True)
        return batch

    def of_rows(self, first: int, count: int) -> Cache | None:
        """The state of `count` rows of this process's batch, from row `first` on."""
        if first not in self.states:
            state = self.backbone.recurrent_state(count)
            # after resuming, each micro-batch takes its rows of the checkpoint's states
            if state is not None and self.restored:
                part = slice(first, first + count)
                mine = {
                    name: tensor[part] if tensor.dim() > 1 else tensor
                    for name, tensor in self.restored.items()
                }
                state.restore(mine, self.backbone.embed.token.weight.device)
            self.states[first] = state
        return self.states[first]

    def reset(self) -> None:
        """Drops all states: a text begins, or numbers went bad."""
        self.states, self.restored = {}, {}

    def state_dict(self, dist: DistributedContext = SINGLE_PROCESS) -> dict[str, Tensor]:
        """Tensors for a checkpoint, (rows of the whole batch, ...); empty without recurrence.

        Every process has to call this.
        """
        mine: dict[str, Tensor] = dict(self.restored)
        parts = [state.tensors() for state in self.states.values() if state is not None]
        if parts:
            # a tensor without rows, such as a length, is the same in every micro-batch
            mine = {
                name: torch.cat([part[name] for part in parts])
                if tensor.dim() > 1
                else tensor.clone()
                for name, tensor in parts[0].items()
            }
        if not mine:
            return {}
        # (rows of this process, ...) -> (rows of the whole batch, ...)
        gathered = {
            name: dist.all_gather(tensor, self.batch_size) if tensor.dim() > 1 else tensor
            for name, tensor in mine.items()
        }
        return {**gathered, "next": torch.tensor(self.next_sample)}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self.reset()
        self.restored = {
            name: tensor[self.rows] if tensor.dim() > 1 else tensor
            for name, tensor in tensors.items()
        }
        self.next_sample = int(self.restored.pop("next", torch.tensor(0)))
