"""One model on one or several processes: activation checkpointing, torch.compile, DDP and FSDP2.

A model knows nothing of this; all that is relied on is that every stack of its blocks is a module
list named `blocks`. Gradients of a batch that is divided among processes add up to those of the
whole batch: the loss is a sum divided by the targets of all processes (`train_step.py`).
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..distributed import SINGLE_PROCESS, DistributedContext, full_tensor, shard_like
from ..runtime import Runtime, available_memory
from ..settings import RuntimeSettings
from ..tasks.base import BaseTask, Output

Mode = Literal["ddp", "fsdp"]
Forward = Callable[..., Output]

BYTES_PER_PARAMETER = 16
"""A weight, its gradient and two moments of the optimizer, each in float32."""


class Parallel:
    """A task as it is trained, by this process alone or by several.

    Args:
        task: with the same weights in every process; sharded in place by FSDP.
        compiled: makes the forward pass faster, such as `compile_with_fallback`.
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
        # 1. activation checkpointing, before blocks are wrapped
        if settings.activation_checkpointing:
            checkpoint_activations(task)
        # 2. several processes: replicate (DDP) or shard (FSDP)
        if dist.world_size > 1:
            assert runtime is not None
            self.mode = choose_mode(task, dist, settings.parallel, _device_memory(runtime, dist))
        if self.mode == "fsdp" and runtime:
            self._shard(runtime, compiled is not None)
            compiled = None  # every block is compiled on its own already
        elif self.mode == "ddp" and runtime:
            device_ids = [runtime.device.index] if runtime.device.type == "cuda" else None
            self.wrapped = nn.parallel.DistributedDataParallel(
                task,
                device_ids=device_ids,
                forward_sync_buffers=False,
                gradient_as_bucket_view=True,
            )
        # 3. torch.compile after wrapping: it splits the graph at DDP's gradient buckets
        self.forward: Forward = compiled(self.wrapped) if compiled else self.wrapped

    def _shard(self, runtime: Runtime, compiled: bool) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        mesh = init_device_mesh(runtime.device.type, (self.dist.world_size,))
        policy = MixedPrecisionPolicy()
        if runtime.dtype != torch.float32:  # weights are gathered in the precision of the matmuls
            policy = MixedPrecisionPolicy(runtime.dtype, torch.float32, cast_forward_inputs=False)
        # block by block: one block's weights are gathered at a time
        for block in blocks(self.task):
            if compiled:
                block.compile(dynamic=False)
            fully_shard(block, mesh=mesh, mp_policy=policy)
        fully_shard(self.task, mesh=mesh)

    def full_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each tensor gathered from its shards; every process has to call this."""
        if self.mode != "fsdp":
            return dict(tensors)
        return {name: full_tensor(tensor) for name, tensor in tensors.items()}

    def load(self, weights: Mapping[str, Tensor], strict: bool = True) -> None:
        """Puts full weights into the task, of which this process may hold a shard.

        Args:
            strict: whether they have to be all weights of the task.
        """
        mine = self.task.state_dict()
        self.task.load_state_dict(
            # (full shape) -> (shard's shape), the same tensor where nothing is sharded
            {name: shard_like(tensor, mine[name]) for name, tensor in weights.items()},
            strict=strict,
        )


def blocks(task: nn.Module) -> Iterator[nn.Module]:
    """The blocks of every stack."""
    for module in task.modules():
        stack = getattr(module, "blocks", None)
        if isinstance(stack, nn.ModuleList):
            yield from stack


def choose_mode(
    task: nn.Module, dist: DistributedContext, mode: Mode | None, memory: int | None
) -> Mode:
    """DDP, unless the user set another mode, or weights, gradients and optimizer state fill more
    than half of the memory of each process's device (bytes, if known). Frozen weights beside
    adapters are replicated."""
    if mode is not None:
        return mode
    if not all(weight.requires_grad for weight in task.parameters()):
        return "ddp"
    needed = BYTES_PER_PARAMETER * sum(weight.numel() for weight in task.parameters())
    return "fsdp" if memory is not None and needed > memory / 2 else "ddp"


def checkpoint_activations(task: nn.Module) -> None:
    """Recomputes the activations of every block in the backward pass (Chen et al. 2016)."""
    for block in blocks(task):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def compile_with_fallback(task: Any, warn: Callable[[str], None]) -> Forward:
    """The task through torch.compile; eager, after one warning, if compilation fails."""
    compiled = torch.compile(task, dynamic=False)
    forward_pass: list[Forward] = [compiled]

    def forward(*args: Any) -> Output:
        if forward_pass[0] is task:
            return task(*args)
        try:
            return compiled(*args)  # type: ignore[no-any-return,no-untyped-call]
        except Exception as error:  # a compiler can raise anything; eager mode always works
            reason = str(error).strip().splitlines()
            warn(f"torch.compile failed ({reason[0] if reason else error!r}): going on without")
            forward_pass[0] = task
            return task(*args)  # type: ignore[no-any-return]

    return forward


def _device_memory(runtime: Runtime, dist: DistributedContext) -> int | None:
    if runtime.device.type == "cuda":
        return int(torch.cuda.get_device_properties(runtime.device).total_memory)
    memory = available_memory()
    return None if memory is None else int(dist.broadcast(memory)) // dist.local_world_size
