"""What the rows of a run's batches remember from one step to the next.

Part of a checkpoint, so that a run goes on bit for bit. Knows nothing of what a memory holds.
"""

from dataclasses import replace

import torch
from torch import Tensor

from ..data.batch import Batch
from ..distributed import SINGLE_PROCESS, BatchShard, DistributedContext
from ..models.shared.backbone import Backbone
from ..nn.state import State


class RecurrentState:
    """The states of a model with a memory; for any other, nothing.

    Each micro-batch has its own state, in the process that reads its rows. In a checkpoint they are
    one, so that a run can go on with micro-batches of another size, on another number of processes.
    """

    def __init__(self, backbone: Backbone, share: BatchShard) -> None:
        self.backbone, self.share = backbone, share
        self.next = 0
        """Number of the sample that the rows go on with."""
        self.states: dict[int, State | None] = {}
        self.saved: dict[str, Tensor] = {}
        """From a checkpoint, for as long as no step has used it."""

    def follow(self, sample: int, batch: Batch) -> Batch:
        """The batch, marked as fresh where it is not the one that follows."""
        follows, self.next = sample == self.next, sample + self.share.batch_size
        if not follows or batch.reset_state:
            self.clear()
            return replace(batch, reset_state=True)
        return batch

    def state(self, start: int, rows: int) -> State | None:
        """What `rows` rows of the batch, from row `start` on, remember."""
        if start not in self.states:
            state = self.backbone.carried(rows)
            if state is not None and self.saved:
                part = slice(start, start + rows)
                mine = {
                    name: tensor[part] if tensor.dim() > 1 else tensor
                    for name, tensor in self.saved.items()
                }
                state.restore(mine, self.backbone.embed.token.weight.device)
            self.states[start] = state
        return self.states[start]

    def clear(self) -> None:
        """Forgets everything: a text begins, or numbers went bad."""
        self.states, self.saved = {}, {}

    def tensors(self, dist: DistributedContext = SINGLE_PROCESS) -> dict[str, Tensor]:
        """For a checkpoint: rows of all micro-batches one after the other, of all processes. Empty
        without memory."""
        found: dict[str, Tensor] = dict(self.saved)
        parts = [state.tensors() for state in self.states.values() if state is not None]
        if parts:
            found = {
                name: torch.cat([part[name] for part in parts])
                if tensor.dim() > 1
                else tensor.clone()
                for name, tensor in parts[0].items()
            }
        if not found:
            return {}
        together = {
            name: dist.all_gather(tensor, self.share.batch_size) if tensor.dim() > 1 else tensor
            for name, tensor in found.items()
        }
        return {**together, "next": torch.tensor(self.next)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`."""
        self.clear()
        self.saved = {
            name: tensor[self.share.slice] if tensor.dim() > 1 else tensor
            for name, tensor in tensors.items()
        }
        self.next = int(self.saved.pop("next", torch.tensor(0)))
