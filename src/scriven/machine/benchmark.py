"""Measures this machine: matrix multiplication, memory bandwidth, training and generation.

The models have random weights and tokens, so nothing is downloaded.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..generate.engine import Engine
from ..generate.inference_model import prepare_for_inference
from ..generate.sampling import SamplingParams
from ..models.shared.cost import flops_per_token
from ..native.library import load_library
from ..nn.quantized import PackedLinear
from ..plan.hardware import matmul_rate
from ..runtime import Runtime, choose_runtime
from ..settings import RuntimeSettings, TokenizerSettings
from ..tokenizers import byte
from ..train.throughput import random_model, random_steps

MODEL_SIZES = ("small", "base")
"""Values of --size."""
GENERATED_TOKENS = 100
GENERATION_BATCH_SIZE = 32
SECONDS_PER_FIGURE = 3.0
"""Time after which a figure is measured no more."""


@dataclass(frozen=True)
class Speed:
    """Throughput of one model size."""

    size: str
    parameters: int
    training_tokens_per_second: float
    """2,048 tokens in each step, 32,768 on a GPU."""
    training_mfu: float
    """Model FLOPs utilisation: the fraction of the measured rate of matrix multiplication."""
    generation_tokens_per_second: float
    """Of one sampled text, with speculative decoding."""
    generation_bandwidth_utilisation: float
    """Fraction of the measured read bandwidth, if each token reads every weight once."""
    batched_generation_tokens_per_second: float
    """Of 32 texts at once."""


def benchmark() -> dict[str, Any]:
    """Matrix multiplication, memory, training and generation; takes about half a minute."""
    runtime = choose_runtime(RuntimeSettings())
    device, dtype = runtime.device, str(runtime.dtype).removeprefix("torch.")
    gflops = {
        name: matmul_rate(getattr(torch, name), device=device)
        for name in dict.fromkeys(("float32", dtype))
    }
    read = bandwidth(1024)["read"] if device.type == "cpu" else 0.0
    speeds = [_speed(size, runtime, gflops[dtype], read) for size in MODEL_SIZES]
    return {
        **runtime.describe(),
        "matmul_gflops": gflops,
        "memory_gb_per_second": read,
        "generation_batch_size": GENERATION_BATCH_SIZE,
        "sizes": [vars(each) for each in speeds],
    }


def bandwidth(megabytes: int, repeats: int = 5) -> dict[str, float]:
    """GB/s of reading an array (its sum) and of copying it, both directions counted; the best of
    some. Arrays beyond the caches tell what memory gives, small ones what the caches do."""
    source = torch.ones(megabytes * (1 << 18))
    target = torch.empty_like(source)
    size, rounds = source.nbytes / 1e9, max(1, 64 // megabytes)
    best = {"read": 0.0, "copy": 0.0}
    # one more than counted, since the first touches the memory for the first time
    for _ in range(repeats + 1):
        for name, times in (("read", 1), ("copy", 2)):
            began = time.perf_counter()
            for _ in range(rounds):
                source.sum() if name == "read" else target.copy_(source)
            rate = times * size * rounds / (time.perf_counter() - began)
            best[name] = max(best[name], round(rate, 1))
    return best


def _speed(size: str, runtime: Runtime, gflops: float, read: float) -> Speed:
    # 1. a model with random weights
    torch.manual_seed(0)
    task = random_model(size, runtime)
    # 2. training: PyTorch or compiled code, whichever is faster, as in a training
    step, tokens = random_steps(task, runtime, native=False)
    step_seconds = _seconds(step)
    if runtime.device.type == "cpu":
        step, _ = random_steps(task, runtime, native=True, wait=True)
        step_seconds = min(step_seconds, _seconds(step))
        load_library(wait=True)  # of the decoder
    # 3. generation, of one text and of many
    task.eval()
    tokenizer = byte.train([], TokenizerSettings(kind="byte"))
    engine = Engine(prepare_for_inference(task, runtime), tokenizer, runtime)
    sampling = SamplingParams(temperature=1.0)

    def generate(prompts: list[str]) -> float:
        return _seconds(
            lambda: engine.generate(prompts, sampling, GENERATED_TOKENS, ignore_eos=True)
        )

    one, many = generate(["It was"]), generate(["It was"] * GENERATION_BATCH_SIZE)
    # 4. rates, and the fractions of what this machine can do
    parameters = sum(weight.numel() for weight in task.parameters())
    flops = flops_per_token(task)["training"] * tokens
    packed = any(isinstance(each, PackedLinear) for each in engine.task.modules())
    # packed weights are bfloat16, the others float32
    weight_bytes = parameters * (2 if packed else 4) * GENERATED_TOKENS
    return Speed(
        size=size,
        parameters=parameters,
        training_tokens_per_second=round(tokens / step_seconds, 1),
        training_mfu=round(flops / step_seconds / 1e9 / gflops, 3),
        generation_tokens_per_second=round(GENERATED_TOKENS / one, 1),
        generation_bandwidth_utilisation=round(weight_bytes / one / 1e9 / read, 3) if read else 0.0,
        batched_generation_tokens_per_second=round(
            GENERATION_BATCH_SIZE * GENERATED_TOKENS / many, 1
        ),
    )


def _seconds(work: Callable[[], object]) -> float:
    """Median seconds of several calls, after one that warms up."""
    work()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < SECONDS_PER_FIGURE and len(times) < 30):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]
