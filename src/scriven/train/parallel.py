"""One model on several processes, from outside: activations computed again, compiled, then shared
out by PyTorch's DDP or FSDP2. A model knows nothing of it; what is relied on is that every stack of
its blocks is a list named `blocks`.

Gradients of a batch that is cut among processes add up to those of the whole batch: each loss is a
sum divided by what counts in all of it (training/update.py), and both wrappers take the mean over
processes, so a loss is multiplied by their number first.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..distributed import SINGLE_PROCESS, DistributedContext
from ..runtime import Runtime, memory_available
from ..settings import RuntimeSettings
from ..tasks.base import BaseTask, Output

Mode = Literal["ddp", "fsdp"]
Forward = Callable[..., Output]

BYTES = 16
"""Of a weight in training: itself, its gradient and two numbers of the optimizer, in float32."""


def blocks(task: nn.Module) -> Iterator[nn.Module]:
    """The blocks of every stack."""
    for module in task.modules():
        stack = getattr(module, "blocks", None)
        if isinstance(stack, nn.ModuleList):
            yield from stack


def choose_mode(
    task: nn.Module, dist: DistributedContext, wanted: Mode | None, memory: int | None
) -> Mode:
    """How weights lie on the processes: all of them on each, unless that takes half its memory.

    Args:
        memory: bytes of each process's device, where known.
    """
    if wanted is not None:
        return wanted
    needed = BYTES * sum(weight.numel() for weight in task.parameters())
    return "fsdp" if memory is not None and needed > memory / 2 else "ddp"


def recompute(task: nn.Module) -> None:
    """Lets every block forget its activations (Chen et al. 2016)."""
    for block in blocks(task):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


class Parallel:
    """A task as it is trained: by this process alone, or by several.

    Args:
        task: with the same weights in every process. Made into shards in place (fsdp).
        compiled: what makes a forward pass faster, applied before it is shared out.
    """

    def __init__(
        self,
        task: BaseTask,
        dist: DistributedContext = SINGLE_PROCESS,
        runtime: Runtime | None = None,
        settings: RuntimeSettings | None = None,
        compiled: Callable[[nn.Module], Forward] | None = None,
    ) -> None:
        self.dist, self.task = dist, task
        self.mode: Mode | None = None
        self.wrapped: Any = task
        settings = settings or RuntimeSettings()
        if settings.activation_checkpointing:
            recompute(task)
        if dist.world_size > 1:
            assert runtime is not None
            self.mode = choose_mode(task, dist, settings.parallel, _memory(runtime, dist))
        if self.mode == "fsdp" and runtime:
            self._shard(runtime, compiled is not None)
            compiled = None  # block by block, already
        elif self.mode == "ddp" and runtime:
            at = [runtime.device.index] if runtime.device.type == "cuda" else None
            self.wrapped = nn.parallel.DistributedDataParallel(
                task, device_ids=at, forward_sync_buffers=False, gradient_as_bucket_view=True
            )
        self.forward: Forward = compiled(self.wrapped) if compiled else self.wrapped

    def _shard(self, runtime: Runtime, compiled: bool) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        mesh = init_device_mesh(runtime.device.type, (self.dist.world_size,))
        policy = MixedPrecisionPolicy()
        if runtime.dtype != torch.float32:  # a block's weights travel in the precision of products
            policy = MixedPrecisionPolicy(runtime.dtype, torch.float32, cast_forward_inputs=False)
        for block in blocks(self.task):
            if compiled:
                block.compile(dynamic=False)
            fully_shard(block, mesh=mesh, mp_policy=policy)
        fully_shard(self.task, mesh=mesh)

    def part(self, last: bool) -> AbstractContextManager[None]:
        """Around one micro-batch: only after the last one gradients go round."""
        if self.mode == "ddp" and not last:
            return self.wrapped.no_sync()  # type: ignore[no-any-return]
        return nullcontext()

    def gathered(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The whole of each tensor, of which processes may hold a part; all of them must ask."""
        return {name: whole(tensor) for name, tensor in tensors.items()}

    def finite(self) -> bool:
        """Whether every weight that this process holds is a finite number."""
        mine = (getattr(weight, "_local_tensor", weight) for weight in self.task.parameters())
        return all(bool(weight.isfinite().all()) for weight in mine)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Puts whole weights into the task, of which this process may hold a part."""
        mine = self.task.state_dict()
        self.task.load_state_dict(
            {name: like(tensor, mine[name]) for name, tensor in weights.items()}
        )


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, of which processes may hold a part."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def like(tensor: Tensor, part: Tensor) -> Tensor:
    """This process's part of a whole tensor, as `part` lies on the processes."""
    if not hasattr(part, "full_tensor") or tensor.shape != part.shape:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(part, DTensor)
    device = part.to_local().device
    return distribute_tensor(
        tensor.to(device), part.device_mesh, part.placements, src_data_rank=None
    )


def _memory(runtime: Runtime, dist: DistributedContext) -> int | None:
    if runtime.device.type == "cuda":
        return int(torch.cuda.get_device_properties(runtime.device).total_memory)
    memory = memory_available()
    return None if memory is None else int(dist.broadcast(memory)) // dist.local_world_size
