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

    def all_reduce_sum(self, values: Sequence[float]) -> list[float]:
        """The sum over all processes, element by element."""
        if self.world_size == 1:
            return list(values)
        return self._all_reduce(values, "SUM")

    def all_reduce_max(self, value: float) -> float:
        """The largest value over all processes."""
        if self.world_size == 1:
            return value
        return self._all_reduce([value], "MAX")[0]

    def broadcast(self, value: float) -> float:
        """The value of rank 0."""
        if self.world_size == 1:
            return value
        return self.all_reduce_sum([value if self.is_main_process else 0.0])[0]

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
        """Concatenates the shards of all processes along the rows.

        Args:
            mine: (rows of this process's shard, ...), on any device.
            rows: number of rows over all processes.

        Returns:
            (rows, ...), on the device of `mine`.
        """
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
        self.all_reduce_sum([0.0])

    def _all_reduce(self, values: Sequence[float], operation: str) -> list[float]:
        # float64 counts tokens exactly, up to 2^53
        tensor = torch.tensor(list(values), dtype=torch.float64)
        reduce_op = getattr(torch.distributed.ReduceOp, operation)
        with distributed_errors():
            torch.distributed.all_reduce(tensor, reduce_op)
        return tensor.tolist()


SINGLE_PROCESS = DistributedContext()


def is_distributed() -> bool:
    """Whether torchrun started more than one process."""
    return "WORLD_SIZE" in os.environ and _environment_number("WORLD_SIZE") > 1


def is_main_process() -> bool:
    """Whether this process is rank 0 of those that torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def init_distributed(timeout: float = DEFAULT_TIMEOUT) -> DistributedContext:
    """Joins the processes that torchrun started; SINGLE_PROCESS without torchrun.

    May be called more than once. Processes of one computer communicate over the loopback device
    only.

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
        if not _is_communication_error(error):
            raise
        reason = str(error).strip().splitlines()[0]
        raise LostError(
            f"another process of this training is gone or hangs ({reason[:200]}): start all of "
            "them again with the same command"
        ) from error


def _is_communication_error(error: RuntimeError) -> bool:
    known = isinstance(error, torch.distributed.DistError)
    return known or re.search(r"gloo|nccl|connection|timed out", str(error), re.I) is not None


def _environment_number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        raise SettingError(
            f"{name}={text!r} in the environment: start several processes with torchrun"
        )
    return int(text)
