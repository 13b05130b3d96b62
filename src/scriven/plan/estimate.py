"""Memory, communication and time of a training, by calculation, before anything is built.

Sums over what a step does, each at a stated rate; no fit and no measurement. Knows nothing of texts
and commands. docs/scaling.md has the formulas and compares them with published trainings.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..train.optim.muon import COEFFICIENTS
from ..train.scaling_laws import ACTIVATIONS_PER_LAYER
from .hardware import Hardware
from .model_stats import ModelStats

Parallel = Literal["ddp", "fsdp"]

# Bytes of a number.
FLOAT32, BFLOAT16 = 4, 2

# Bytes of an activation where matmuls are in bfloat16: norms keep float32.
BFLOAT16_ACTIVATION = 2.4

# Kernels of a step, forward and backward: per layer, and outside the layers.
KERNELS_PER_LAYER, OTHER_KERNELS = 92, 40

# Seconds to launch one.
KERNEL_LAUNCH = 5e-6

# Bytes of temporaries for each element that Muon orthogonalises at once.
MUON_BYTES = 20

# Bytes of a parameter that AdamW reads and writes: weight, gradient and two moments.
ADAMW_TRAFFIC = 28

# How much slower a simpler layout may be.
SIMPLER_TOLERANCE = 1.05

# Fraction of a device's memory that can be planned with.
USABLE_MEMORY = 0.9

PARTS = {
    "compute": "compute",
    "communication": "communication between devices",
    "kernel_launches": "launching small kernels one by one",
    "orthogonalisation": "Muon's orthogonalisation",
    "optimizer_update": "reading and writing weights and moments",
}


@dataclass(frozen=True)
class Layout:
    """How a training is laid out over devices."""

    parallel: Parallel
    checkpointing: bool
    """Activation checkpointing."""

    def name(self, devices: int) -> str:
        """For people; on one device ddp and fsdp are the same."""
        if devices == 1:
            return "checkpointing" if self.checkpointing else "no checkpointing"
        return self.parallel + (" with checkpointing" if self.checkpointing else "")


# from the simplest to the one that needs least memory
LAYOUTS = tuple(Layout(kind, again) for again in (False, True) for kind in ("ddp", "fsdp"))


@dataclass(frozen=True)
class Estimate:
    """A layout that fits, and what a step takes."""

    layout: Layout
    micro_batch_size: int
    """Sequences that a device computes at once."""
    memory: dict[str, float]
    """Bytes of a device, by part."""
    seconds: dict[str, float]
    """Of a step, by part."""

    @property
    def step_seconds(self) -> float:
        """Seconds of a step. Communication and kernel launches overlap with the compute."""
        overlapping = max(
            self.seconds[part] for part in ("compute", "communication", "kernel_launches")
        )
        return overlapping + self.seconds["orthogonalisation"] + self.seconds["optimizer_update"]

    @property
    def bottleneck(self) -> str:
        """The part that takes longest."""
        return max(self.seconds, key=self.seconds.__getitem__)


def memory_by_part(
    stats: ModelStats, layout: Layout, hardware: Hardware, devices: int, micro: int
) -> dict[str, float]:
    """Bytes of one device, by part, with `micro` sequences at once."""
    # fsdp shards parameters, gradients and optimizer state; ddp replicates them
    shards = devices if layout.parallel == "fsdp" else 1
    copies = 0.0
    if shards > 1:  # two gathered blocks at a time, one gradient, and what is not in blocks
        gathered = 2 * stats.largest_block + (stats.parameters - stats.layers * stats.largest_block)
        copies = (BFLOAT16 if hardware.half else FLOAT32) * gathered
        copies += FLOAT32 * stats.largest_block
    elif hardware.half:
        copies = BFLOAT16 * stats.parameters
    number = BFLOAT16_ACTIVATION if hardware.half else FLOAT32
    activations = number * stats.activations
    if layout.checkpointing:  # the input of each block, and everything of one block
        activations = (
            FLOAT32 * stats.layers * stats.d_model + number * ACTIVATIONS_PER_LAYER * stats.d_model
        )
    # activations grow with what is computed at once, everything else does not
    tokens = micro * stats.context_length
    return {
        "weights": FLOAT32 * stats.parameters / shards,
        "copies": copies,
        "gradients": FLOAT32 * stats.parameters / shards,
        "optimizer": FLOAT32 * stats.optimizer_state / shards,
        "activations": tokens * activations,
        "logits": tokens * 3 * FLOAT32 * stats.vocab_size,
        "temporaries": MUON_BYTES * stats.muon_batch_numel,
    }


def peak_memory(parts: dict[str, float]) -> float:
    """Bytes at the worst moment: the optimizer's temporaries come when activations are freed."""
    forward = parts["activations"] + parts["logits"]
    return sum(parts.values()) - min(forward, parts["temporaries"])


def bytes_sent(
    stats: ModelStats, layout: Layout, hardware: Hardware, devices: int, micro: int
) -> float:
    """Bytes that one device sends per step, without Muon's.

    ddp: one ring all-reduce of all gradients. fsdp: for each micro-batch an all-gather of the
    weights in forward and another in backward, and a reduce-scatter of the gradients.
    """
    # each device sends all but its own part once round the ring
    ring = (devices - 1) / devices
    if layout.parallel == "ddp":
        return 2 * ring * FLOAT32 * stats.parameters
    number = BFLOAT16 if hardware.half else FLOAT32
    micro_batches = math.ceil(_local_batch(stats, devices) / micro)
    return ring * micro_batches * (2 * number + FLOAT32) * stats.parameters


def seconds_by_part(
    stats: ModelStats,
    layout: Layout,
    hardware: Hardware,
    devices: int,
    micro: int,
    utilisation: float,
) -> dict[str, float]:
    """Seconds of one step, by part.

    Args:
        utilisation: fraction of the peak that matmuls reach.
    """
    # the device with most sequences sets the pace
    rows = _local_batch(stats, devices)
    flops_per_second = hardware.peak * utilisation
    # a second forward pass: one third of forward and backward together
    recompute = 4 / 3 if layout.checkpointing else 1.0
    # the slowest link counts
    one_node = devices <= hardware.per_node
    link = hardware.link if one_node else min(hardware.link, hardware.network)
    sent = bytes_sent(stats, layout, hardware, devices, micro) if devices > 1 else 0.0
    shards = devices if layout.parallel == "fsdp" else 1
    micro_batches = math.ceil(rows / micro)
    kernels = KERNELS_PER_LAYER * stats.layers + OTHER_KERNELS
    return {
        "compute": recompute * stats.flops * rows * stats.context_length / flops_per_second,
        "communication": sent / link,
        "kernel_launches": KERNEL_LAUNCH * micro_batches * kernels,
        "orthogonalisation": _muon_seconds(stats, devices, shards, flops_per_second, link),
        "optimizer_update": ADAMW_TRAFFIC * stats.parameters / shards / hardware.bandwidth,
    }


def _muon_seconds(
    stats: ModelStats, devices: int, shards: int, flops_per_second: float, link: float
) -> float:
    """Seconds of Muon's part of a step.

    A Newton-Schulz iteration is three matmuls: (r, c) with its transpose, (r, r) with itself, and
    (r, r) with (r, c). Sharded matrices are gathered first. Those of one shape are divided among
    the devices, and the results are gathered in bfloat16.
    """
    flops = sent = 0.0
    for (short, long), count in Counter(stats.matrices).items():
        each = len(COEFFICIENTS) * (4 * short * short * long + 2 * short**3)
        flops += math.ceil(count / devices) * each
        numbers = short * long * count
        sent += FLOAT32 * numbers * (shards - 1) / shards
        sent += BFLOAT16 * numbers * (devices - 1) / devices
    return flops / flops_per_second + sent / link


def estimate(
    stats: ModelStats, hardware: Hardware, devices: int, utilisation: float
) -> Estimate | None:
    """The simplest layout that fits and is about as fast as any; None where nothing fits."""
    # 1. each layout with the largest micro-batch that fits; ddp alone on one device
    fitting = [
        Estimate(
            layout,
            micro,
            memory_by_part(stats, layout, hardware, devices, micro),
            seconds_by_part(stats, layout, hardware, devices, micro, utilisation),
        )
        for layout in LAYOUTS[:: 2 if devices == 1 else 1]
        if (micro := _largest_micro_batch(stats, layout, hardware, devices))
    ]
    # 2. the first that is about as fast as the fastest
    fastest = min((each.step_seconds for each in fitting), default=0.0)
    return next((e for e in fitting if e.step_seconds <= SIMPLER_TOLERANCE * fastest), None)


def min_devices(stats: ModelStats, hardware: Hardware) -> int | None:
    """Devices, as a power of two, on which some layout fits; None: on no number of them."""
    fitting = (
        devices
        for devices in _powers_of_two(1 << 20)
        if any(_largest_micro_batch(stats, layout, hardware, devices) for layout in LAYOUTS)
    )
    return next(fitting, None)


def _largest_micro_batch(
    stats: ModelStats, layout: Layout, hardware: Hardware, devices: int
) -> int:
    """Sequences that a device can compute at once, a power of two; 0: not even one."""
    usable = USABLE_MEMORY * hardware.memory
    fitting = [
        micro
        for micro in _powers_of_two(_local_batch(stats, devices))
        if peak_memory(memory_by_part(stats, layout, hardware, devices, micro)) <= usable
    ]
    return max(fitting, default=0)


def _local_batch(stats: ModelStats, devices: int) -> int:
    """Sequences per step on the device that has most."""
    return math.ceil(stats.batch_size / devices)


def _powers_of_two(most: int) -> Iterator[int]:
    power = 1
    while power <= most:
        yield power
        power *= 2
