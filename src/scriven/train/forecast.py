"""Memory, communication and time of a training, by calculation, before anything is built.

Sums over what a step does, each at a stated rate; no fit and no measurement. Knows nothing of texts
and commands. docs/scaling.md has the formulas and compares them with published trainings.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..models.shared.cost import KEPT
from .job import Job
from .machines import Machine

Parallel = Literal["ddp", "fsdp"]

FULL, HALF = 4, 2
"""Bytes of a number in float32, and of one in bfloat16."""
KEPT_HALF = 2.4
"""Bytes of a number that backward needs where products are in bfloat16: norms keep float32."""
STARTS, STARTS_APART = 92, 40
"""Operations of a step, forward and backward, per layer and beside the layers, started one by
one."""
START = 5e-6
"""Seconds to start one."""
ROUNDS = 5
"""Of Muon's orthogonalisation."""
UPDATE = 20
"""Bytes of each number that Muon makes orthogonal at once."""
MOVED = 28
"""Bytes of a parameter that AdamW reads and writes: weight, gradient and two moments."""
ABOUT = 1.05
"""How much slower a simpler layout may be."""
USABLE = 0.9
"""Share of a device's memory that can be planned with."""

PARTS = {
    "arithmetic": "arithmetic",
    "communication": "communication between devices",
    "starts": "starting small operations one by one",
    "orthogonalisation": "Muon's orthogonalisation",
    "weights": "reading and writing weights and moments",
}


@dataclass(frozen=True)
class Layout:
    """How a job is laid out over devices."""

    parallel: Parallel
    checkpointing: bool

    @property
    def name(self) -> str:
        """For people."""
        return self.parallel + (" with checkpointing" if self.checkpointing else "")

    @property
    def alone(self) -> str:
        """The same on one device."""
        return "checkpointing" if self.checkpointing else "everything kept"


LAYOUTS = tuple(Layout(kind, again) for again in (False, True) for kind in ("ddp", "fsdp"))


@dataclass(frozen=True)
class Forecast:
    """A layout that fits, and what a step takes."""

    layout: Layout
    micro: int
    """Sequences that a device computes at once."""
    memory: dict[str, float]
    """Bytes of a device, by part."""
    seconds: dict[str, float]
    """Of an update, by part."""

    @property
    def step(self) -> float:
        """Seconds of an update. Communication and starts run beside the arithmetic."""
        beside = max(self.seconds[part] for part in ("arithmetic", "communication", "starts"))
        return beside + self.seconds["orthogonalisation"] + self.seconds["weights"]

    @property
    def bottleneck(self) -> str:
        """The part that takes longest."""
        return max(self.seconds, key=self.seconds.__getitem__)


def memory(
    job: Job, layout: Layout, machine: Machine, devices: int, micro: int
) -> dict[str, float]:
    """Bytes of one device, by part, with `micro` sequences at once."""
    shards = devices if layout.parallel == "fsdp" else 1
    copies = 0.0
    if shards > 1:  # two blocks in full at a time with a gradient, and what is not in blocks
        whole = 2 * job.block + (job.parameters - job.layers * job.block)
        copies = (HALF if machine.half else FULL) * whole + FULL * job.block
    elif machine.half:
        copies = HALF * job.parameters
    number = KEPT_HALF if machine.half else FULL
    kept = number * job.kept
    if layout.checkpointing:  # what enters each block, and all of one block
        kept = FULL * job.layers * job.d_model + number * KEPT * job.d_model
    tokens = micro * job.context_length
    return {
        "weights": FULL * job.parameters / shards,
        "copies": copies,
        "gradients": FULL * job.parameters / shards,
        "optimizer": FULL * job.moments / shards,
        "activations": tokens * kept,
        "logits": tokens * 3 * FULL * job.vocab_size,
        "update": UPDATE * job.stacked,
    }


def peak(parts: dict[str, float]) -> float:
    """Bytes at the worst moment: what an update needs comes when activations are gone."""
    passing = parts["activations"] + parts["logits"]
    return sum(parts.values()) - min(passing, parts["update"])


def traffic(job: Job, layout: Layout, machine: Machine, devices: int, micro: int) -> float:
    """Bytes that one device sends for one update, but for what Muon needs.

    ddp: one sum of all gradients, in a ring. fsdp: weights are gathered for forward and again for
    backward, and gradients are summed and scattered, for each micro-batch.
    """
    ring = (devices - 1) / devices
    if layout.parallel == "ddp":
        return 2 * ring * FULL * job.parameters
    number = HALF if machine.half else FULL
    length_bucketed_batches = math.ceil(_rows(job, devices) / micro)
    return ring * length_bucketed_batches * (2 * number + FULL) * job.parameters


def seconds(
    job: Job, layout: Layout, machine: Machine, devices: int, micro: int, utilisation: float
) -> dict[str, float]:
    """Seconds of one update, by part.

    Args:
        utilisation: share of the peak that products reach.
    """
    rows = _rows(job, devices)
    rate = machine.peak * utilisation
    again = 4 / 3 if layout.checkpointing else 1.0
    way = machine.link if devices <= machine.per_node else min(machine.link, machine.network)
    sent = traffic(job, layout, machine, devices, micro) if devices > 1 else 0.0
    shards = devices if layout.parallel == "fsdp" else 1
    length_bucketed_batches = math.ceil(rows / micro)
    return {
        "arithmetic": again * job.flops * rows * job.context_length / rate,
        "communication": sent / way,
        "starts": START * length_bucketed_batches * (STARTS * job.layers + STARTS_APART),
        "orthogonalisation": _orthogonal(job, devices, shards, rate, way),
        "weights": MOVED * job.parameters / shards / machine.bandwidth,
    }


def _orthogonal(job: Job, devices: int, shards: int, rate: float, way: float) -> float:
    """Seconds of Muon's part of an update.

    A round is three products: r x c with its transpose, r x r with itself, and r x r with r x c.
    Matrices that are cut are gathered first. Those of one shape are divided among devices, and the
    outcome goes round in bfloat16.
    """
    work = sent = 0.0
    for (low, high), count in Counter(job.matrices).items():
        work += math.ceil(count / devices) * ROUNDS * (4 * low * low * high + 2 * low**3)
        numbers = low * high * count
        sent += FULL * numbers * (shards - 1) / shards
        sent += HALF * numbers * (devices - 1) / devices
    return work / rate + sent / way


def forecast(job: Job, machine: Machine, devices: int, utilisation: float) -> Forecast | None:
    """The simplest layout that fits and is about as fast as any; None where nothing fits."""
    found = [
        Forecast(
            layout,
            micro,
            memory(job, layout, machine, devices, micro),
            seconds(job, layout, machine, devices, micro, utilisation),
        )
        for layout in LAYOUTS[:: 2 if devices == 1 else 1]
        if (micro := _most(job, layout, machine, devices))
    ]
    fastest = min((each.step for each in found), default=0.0)
    return next((each for each in found if each.step <= ABOUT * fastest), None)


def fewest(job: Job, machine: Machine) -> int | None:
    """Devices, as a power of two, on which the job fits somehow; None: on no number of them."""
    fitting = (
        n for n in _doubling(1, 1 << 20) if any(_most(job, each, machine, n) for each in LAYOUTS)
    )
    return next(fitting, None)


def fits(job: Job, layout: Layout, machine: Machine, devices: int, micro: int) -> bool:
    """Whether a device has memory for it."""
    return peak(memory(job, layout, machine, devices, micro)) <= USABLE * machine.memory


def _most(job: Job, layout: Layout, machine: Machine, devices: int) -> int:
    """Sequences that a device can compute at once, as a power of two; 0: not even one."""
    fitting = [
        micro
        for micro in _doubling(1, _rows(job, devices))
        if fits(job, layout, machine, devices, micro)
    ]
    return max(fitting, default=0)


def _rows(job: Job, devices: int) -> int:
    """Sequences of an update on the device that has most."""
    return math.ceil(job.rows / devices)


def _doubling(first: int, most: int) -> Iterator[int]:
    while first <= most:
        yield first
        first *= 2
