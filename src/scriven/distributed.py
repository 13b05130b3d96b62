"""The processes that train one model together: who this one is, and what they tell each other.

`torchrun` starts them and says so in the environment. One process alone is a world as well, in
which every sum is its own figure. Knows nothing of models, and needs torch.distributed only where
there are several processes.
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

PATIENCE = 600.0
"""Seconds that a process waits for the others before it gives up."""


@dataclass(frozen=True)
class World:
    """Where this process stands among those of a run.

    What several of them must know or decide together is a method. All of them have to call it, in
    the same order.
    """

    rank: int = 0
    """From 0 to size - 1."""
    size: int = 1
    local_rank: int = 0
    """Among the processes of this computer."""
    local_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    @property
    def place(self) -> tuple[int, int]:
        """(number, how many) among the processes of this computer."""
        return self.local_rank, self.local_size

    def share(self, rows: int) -> slice:
        """The rows of a batch that are this process's."""
        return slice(self.rank * rows // self.size, (self.rank + 1) * rows // self.size)

    def sum(self, values: Sequence[float]) -> list[float]:
        """Element by element, over all processes."""
        return self._reduce(values, "SUM")

    def largest(self, value: float) -> float:
        """Of all processes."""
        return self._reduce([value], "MAX")[0]

    def of_first(self, value: float) -> float:
        """What the first process says."""
        return self.sum([value if self.first else 0.0])[0]

    def tell(self, text: str) -> str:
        """The text of the first process; what the others hand over is not looked at."""
        if self.size == 1:
            return text
        content = text.encode() if self.first else b""
        length = int(self.of_first(len(content)))
        letters = torch.zeros(length, dtype=torch.uint8)
        if self.first:
            letters = torch.frombuffer(bytearray(content), dtype=torch.uint8).clone()
        with contact():
            torch.distributed.broadcast(letters, 0)
        return bytes(letters.tolist()).decode()

    def joined(self, mine: Tensor, rows: int) -> Tensor:
        """(rows of this process's share, ...) of all processes, one after the other: (rows, ...).

        Where they lie: on the processors or on the devices.
        """
        if self.size == 1:
            return mine
        shares = [replace(self, rank=rank).share(rows) for rank in range(self.size)]
        sizes = [share.stop - share.start for share in shares]
        assert mine.size(0) == sizes[self.rank]
        # bytes, as not every backend carries every type
        columns = math.prod(mine.shape[1:])  # -1 would be anything where there are no rows
        plain = mine.detach().reshape(mine.size(0), columns).view(torch.uint8)
        padded = plain.new_zeros(max(sizes), plain.size(1))
        padded[: mine.size(0)] = plain
        found = [torch.empty_like(padded) for _ in sizes]
        with contact():
            torch.distributed.all_gather(found, padded)
        together = torch.cat([each[:size] for each, size in zip(found, sizes, strict=True)])
        return together.view(mine.dtype).view(rows, *mine.shape[1:])

    def wait(self) -> None:
        """Until all processes are here."""
        self.sum([0.0])

    def _reduce(self, values: Sequence[float], how: str) -> list[float]:
        if self.size == 1:
            return list(values)
        figures = torch.tensor(list(values), dtype=torch.float64)
        kind = getattr(torch.distributed.ReduceOp, how)
        with contact():
            torch.distributed.all_reduce(figures, kind)
        return figures.tolist()


ALONE = World()


def several() -> bool:
    """Whether torchrun started more than one process."""
    return _number("WORLD_SIZE", 1) > 1


def speaks() -> bool:
    """Whether this process is the first of those that torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def join(patience: float = PATIENCE) -> World:
    """The world that torchrun made; ALONE where it made none. Asked again it is the same.

    On one computer the processes speak over the loopback device only.

    Raises:
        SettingError: the environment is torchrun's, but incomplete. LostError: the others did not
            come.
    """
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        return ALONE
    world = World(_number("RANK"), size, _number("LOCAL_RANK"), _number("LOCAL_WORLD_SIZE", size))
    if torch.distributed.is_initialized():
        return world
    if world.local_size == size:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(world.local_rank)
    wait = timedelta(seconds=patience)
    with contact():
        store, _, _ = next(torch.distributed.rendezvous("env://", timeout=wait))  # type: ignore[attr-defined]
        # a restart by torchrun finds the addresses of those before it in the same store
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=torch.distributed.PrefixStore(f"scriven-{attempt}", store),  # type: ignore[attr-defined]
            rank=world.rank,
            world_size=size,
            timeout=wait,
        )
    atexit.register(torch.distributed.destroy_process_group)
    return world


@contextmanager
def contact() -> Iterator[None]:
    """A block that speaks to the other processes.

    Raises:
        LostError: one of them is gone, or answers no more.
    """
    try:
        yield
    except RuntimeError as error:  # what backends raise has no class of its own everywhere
        if not _lost(error):
            raise
        reason = str(error).strip().splitlines()[0]
        raise LostError(
            f"another process of this training is gone or hangs ({reason[:200]}): start all of "
            "them again with the same command"
        ) from error


def _lost(error: RuntimeError) -> bool:
    known = isinstance(error, torch.distributed.DistError)
    return known or re.search(r"gloo|nccl|connection|timed out", str(error), re.I) is not None


def _number(name: str, usual: int | None = None) -> int:
    text = os.environ.get(name, "" if usual is None else str(usual))
    if not text.isdecimal():
        raise SettingError(
            f"{name}={text!r} in the environment: start several processes with torchrun"
        )
    return int(text)
