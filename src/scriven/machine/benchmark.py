"""Measures this machine: matrix multiplication, memory bandwidth, training and generation.

The models have random weights and tokens, so nothing is downloaded.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..data.batch import Batch
from ..distributed import SINGLE_PROCESS
from ..generate.engine import Engine
from ..generate.inference_model import prepare_for_inference
from ..generate.sampling import SamplingParams
from ..models import llama
from ..models.shared.cost import flops_per_token
from ..nn.quantized import PackedLinear
from ..runtime import Runtime, choose_runtime
from ..settings import OptimSettings, RuntimeSettings, TokenizerSettings
from ..tasks.language import Language
from ..tokenizers import byte
from ..train.optim.base import Optimizers
from ..train.parallel import Parallel
from ..train.scaling_laws import CPU_TOKENS, GPU_TOKENS, SIZES
from ..train.train_step import TrainStep

SHAPES = ("small", "base")
"""Of the sizes that --size knows."""
CONTEXT = 256
WRITTEN = 100
"""Tokens of a text that is timed."""
TOGETHER = 32
PATIENCE = 3.0
"""Seconds that each figure may take."""


@dataclass(frozen=True)
class Speed:
    """Throughput of one model size."""

    size: str
    parameters: int
    training: float
    """Tokens per second, 2,048 in each update (32,768 on a GPU)."""
    training_share: float
    """Fraction of the measured rate of matrix multiplication."""
    writing: float
    """Tokens per second of one sampled text, with speculative decoding."""
    writing_share: float
    """Fraction of the measured read bandwidth, if each token reads every weight once."""
    writing_together: float
    """Tokens per second of 32 texts at once."""


def benchmark() -> dict[str, Any]:
    """Matrix multiplication, memory, training and generation; takes about half a minute."""
    runtime = choose_runtime(RuntimeSettings())
    device, dtype = runtime.device, str(runtime.dtype).removeprefix("torch.")
    products = {
        name: matmul_rate(getattr(torch, name), device=device)
        for name in dict.fromkeys(("float32", dtype))
    }
    read = bandwidth(1024)["read"] if device.type == "cpu" else 0.0
    speeds = [_speed(size, runtime, products[dtype], read) for size in SHAPES]
    return {
        **runtime.describe(),
        "gflops": products,
        "memory_gb_per_second": read,
        "texts": TOGETHER,
        "sizes": [vars(each) for each in speeds],
    }


def matmul_rate(
    dtype: torch.dtype, seconds: float = 0.5, device: torch.device | None = None
) -> float:
    """GFLOP/s of a square matrix multiplication."""
    # large enough to keep all cores busy; a GPU needs more
    size = 1024 if device is None or device.type == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    # warms up: the first multiplication loads kernels and allocates
    (left @ right).sum().item()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        last = left @ right
        count += 1
        if size > 1024:
            last[0, 0].item()  # waits until the GPU is done
    return round(2 * size**3 * count / (time.perf_counter() - began) / 1e9, 1)


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
    torch.manual_seed(0)
    tokenizer = byte.train([], TokenizerSettings(kind="byte"))
    shape = llama.Config(
        vocab_size=tokenizer.vocab_size, context_length=CONTEXT, **vars(SIZES[size])
    )
    task = Language(llama.Model(shape), special=tokenizer.special_token_ids)
    task.init_weights()
    task = task.to(runtime.device)
    parameters = sum(weight.numel() for weight in task.parameters())
    tokens = CPU_TOKENS if runtime.device.type == "cpu" else GPU_TOKENS
    settings = OptimSettings()
    optimizers = Optimizers(task, settings)
    parallel = Parallel(task, SINGLE_PROCESS, runtime, RuntimeSettings(), None)
    updater = TrainStep(parallel, optimizers, runtime, settings.grad_clip)
    rows = tokens // CONTEXT
    draws = torch.randint(shape.vocab_size, (rows, CONTEXT + 1), device=runtime.device)
    # inputs (B, T) and the targets one position later (B, T)
    batch = Batch(draws[:, :-1], draws[:, 1:])
    update = _seconds(lambda: updater(batch, rows, 1.0))
    task.eval()
    engine = Engine(prepare_for_inference(task, runtime), tokenizer, runtime)
    drawn = SamplingParams(temperature=1.0)

    def write(texts: int) -> Callable[[], object]:
        prompts = ["It was"] * texts
        return lambda: engine.generate(prompts, drawn, WRITTEN, ignore_eos=True)

    one, many = _seconds(write(1)), _seconds(write(TOGETHER))
    packed = any(isinstance(each, PackedLinear) for each in engine.task.modules())
    # bytes of a weight: bfloat16 or float32
    width = 2 if packed else 4
    flops = flops_per_token(task)["training"]
    return Speed(
        size=size,
        parameters=parameters,
        training=round(tokens / update, 1),
        training_share=round(flops * tokens / update / 1e9 / gflops, 3),
        writing=round(WRITTEN / one, 1),
        writing_share=round(parameters * width * WRITTEN / one / 1e9 / read, 3) if read else 0.0,
        writing_together=round(TOGETHER * WRITTEN / many, 1),
    )


def _seconds(work: Callable[[], object]) -> float:
    """Median seconds of several calls, after one that warms up."""
    work()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < PATIENCE and len(times) < 30):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]
