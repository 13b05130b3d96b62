"""The processes that train one model together, and their collective operations.

`torchrun` starts the processes and describes them in the environment. A single process is a group
of one, in which every collective returns its own argument. Knows nothing of models, and needs
torch.distributed only where there are several processes.
"""

import atexit
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

import torch
from torch import Tensor

from .errors import LostError, SettingError

DEFAULT_TIMEOUT = 600.0
"""Seconds that a process waits for the others before it gives up."""


@dataclass(frozen=True)
class DistributedContext:
    """The rank of this process and the collective operations of its group.

    Every process has to call the same collectives in the same order.
    """

    rank: int = 0
    """From 0 to world_size - 1."""
    world_size: int = 1
    local_rank: int = 0
    """Rank among the processes of this computer."""
    local_world_size: int = 1

    @property
    def is_main_process(self) -> bool:
        """Whether this is rank 0, which writes files and messages."""
        return self.rank == 0

    def shard(self, rows: int) -> slice:
        """The contiguous part of `rows` rows that belongs to this process."""
        first, end = self.rank * rows, (self.rank + 1) * rows
        return slice(first // self.world_size, end // self.world_size)

    def batch_shard(self, batch_size: int) -> slice:
        """The rows of each batch that this process reads.

        Raises:
            SettingError: the batch cannot be divided evenly.
        """
        if batch_size % self.world_size:
            nearest = max(1, round(batch_size / self.world_size)) * self.world_size
            raise SettingError(
                f"--train.batch_size={batch_size} is not divisible by {self.world_size} "
                f"processes: use {nearest}"
            )
        size = batch_size // self.world_size
        return slice(self.rank * size, (self.rank + 1) * size)

    def all_reduce(
        self, values: Sequence[float], operation: Literal["SUM", "MAX"] = "SUM"
    ) -> list[float]:
        """The sum or maximum over all processes, element by element."""
        if self.world_size == 1:
            return list(values)
        # float64 counts tokens exactly, up to 2^53
        tensor = torch.tensor(list(values), dtype=torch.float64)
        with distributed_errors():
            torch.distributed.all_reduce(tensor, getattr(torch.distributed.ReduceOp, operation))
        return tensor.tolist()

    def broadcast(self, value: float) -> float:
        """The value of rank 0."""
        if self.world_size == 1:
            return value
        # a sum, which every backend has for tensors of the CPU
        return self.all_reduce([value if self.is_main_process else 0.0])[0]

    def broadcast_str(self, text: str) -> str:
        """The text of rank 0; the argument of the other ranks is ignored."""
        if self.world_size == 1:
            return text
        # 1. the length, so that every rank allocates a buffer of the same size
        content = text.encode() if self.is_main_process else b""
        length = int(self.broadcast(len(content)))
        letters = torch.zeros(length, dtype=torch.uint8)
        # 2. the bytes
        if self.is_main_process:
            letters = torch.frombuffer(bytearray(content), dtype=torch.uint8).clone()
        with distributed_errors():
            torch.distributed.broadcast(letters, 0)
        return bytes(letters.tolist()).decode()

    def all_gather(self, mine: Tensor, rows: int) -> Tensor:
        """Concatenates the shards of all processes: (rows of this process, ...) -> (rows, ...)."""
        if self.world_size == 1:
            return mine
        shards = [replace(self, rank=rank).shard(rows) for rank in range(self.world_size)]
        sizes = [shard.stop - shard.start for shard in shards]
        assert mine.size(0) == sizes[self.rank]
        # sent as bytes, because not every backend supports every dtype
        columns = math.prod(mine.shape[1:])  # -1 would be ambiguous for a shard without rows
        raw = mine.detach().reshape(mine.size(0), columns).view(torch.uint8)
        # all_gather needs equal shapes: shorter shards are padded, and cut again afterwards
        padded = raw.new_zeros(max(sizes), raw.size(1))
        padded[: mine.size(0)] = raw
        received = [torch.empty_like(padded) for _ in sizes]
        with distributed_errors():
            torch.distributed.all_gather(received, padded)
        joined = torch.cat([each[:size] for each, size in zip(received, sizes, strict=True)])
        return joined.view(mine.dtype).view(rows, *mine.shape[1:])

    def barrier(self) -> None:
        """Waits until every process has reached this point."""
        self.all_reduce([0.0])


SINGLE_PROCESS = DistributedContext()


def full_tensor(tensor: Tensor) -> Tensor:
    """The whole of a tensor, of which processes may hold shards (FSDP)."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def shard_like(tensor: Tensor, shard: Tensor) -> Tensor:
    """This process's shard of a full tensor, with the placement of `shard`."""
    if not hasattr(shard, "full_tensor") or tensor.shape != shard.shape:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(shard, DTensor)
    device = shard.to_local().device
    # every process holds the full tensor already, so none is sent (src_data_rank)
    return distribute_tensor(
        tensor.to(device), shard.device_mesh, shard.placements, src_data_rank=None
    )


def is_distributed() -> bool:
    """Whether torchrun started more than one process."""
    return "WORLD_SIZE" in os.environ and _environment_number("WORLD_SIZE") > 1


def is_main_process() -> bool:
    """Whether this process is rank 0 of those that torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def init_distributed(timeout: float = DEFAULT_TIMEOUT) -> DistributedContext:
    """Joins the processes that torchrun started; SINGLE_PROCESS without torchrun.

    May be called more than once.

    Raises:
        SettingError: torchrun's environment variables are incomplete.
        LostError: the other processes did not arrive in time.
    """
    if "WORLD_SIZE" not in os.environ:
        return SINGLE_PROCESS
    world_size = _environment_number("WORLD_SIZE")
    if world_size == 1:
        return SINGLE_PROCESS
    dist = DistributedContext(
        _environment_number("RANK"),
        world_size,
        _environment_number("LOCAL_RANK"),
        _environment_number("LOCAL_WORLD_SIZE", world_size),
    )
    if torch.distributed.is_initialized():
        return dist
    if dist.local_world_size == world_size:
        # a host name that resolves to no local address would make gloo fail
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(dist.local_rank)
    wait = timedelta(seconds=timeout)
    with distributed_errors():
        store, _, _ = next(torch.distributed.rendezvous("env://", timeout=wait))  # type: ignore[attr-defined]
        # after a restart by torchrun the store still holds the addresses of the earlier processes
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        torch.distributed.init_process_group(
            # counts, flags and texts stay on the CPU, gradients on the device they are on
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=torch.distributed.PrefixStore(f"scriven-{attempt}", store),  # type: ignore[attr-defined]
            rank=dist.rank,
            world_size=world_size,
            timeout=wait,
        )
    atexit.register(torch.distributed.destroy_process_group)
    return dist


@contextmanager
def distributed_errors() -> Iterator[None]:
    """Turns the errors of a communication backend into a LostError.

    Raises:
        LostError: another process has died, or does not answer.
    """
    try:
        yield
    except RuntimeError as error:  # backends raise no common class of their own
        known = isinstance(error, torch.distributed.DistError)
        if not known and not re.search(r"gloo|nccl|connection|timed out", str(error), re.I):
            raise
        reason = str(error).strip().splitlines()[0]
        raise LostError(
            f"another process of this training is gone or hangs ({reason[:200]}): start all of "
            "them again with the same command"
        ) from error


def _environment_number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        raise SettingError(
            f"{name}={text!r} in the environment: start several processes with torchrun"
        )
    return int(text)
