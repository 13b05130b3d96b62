"""One GPU: training speed, seconds to a loss of 1.4697 on tiny Shakespeare, and generation speed.

    python bench/gpu.py tinyshakespeare.txt

- Training: tokens per second and model FLOPs utilisation (MFU), relative to the measured rate of a
  bfloat16 matmul; eager and compiled, shapes of 10.6 and 124 M parameters.
- Seconds to 1.4697: `scriven train` with the shortest budget of a ladder that reaches it, whole
  process, without compile.
- Generation: greedy tokens per second of one sequence, step by step and as a CUDA graph.

Without a GPU it says so and exits with 0. `--device cpu --tiny` tries the program.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import decoding
import rows
import torch
from inputs import find_text
from race_to_loss import Ours

from scriven import config, registry
from scriven.data.batch import Batch
from scriven.distributed import SINGLE_PROCESS
from scriven.models.shared.cost import flops_per_token
from scriven.runtime import Runtime, choose_runtime
from scriven.settings import OptimSettings, RuntimeSettings
from scriven.train.build_model import Parallel
from scriven.train.optim.base import Optimizers
from scriven.train.train_step import TrainStep

TARGET = 1.4697
LADDER = [8, 12, 16, 20, 25, 32, 40, 60, 90, 150]
"""Budgets to try, in seconds."""


@dataclass(frozen=True)
class Shape:
    """A llama, and the sequences per step."""

    name: str
    layers: int
    heads: int
    d_model: int
    context_length: int
    vocab_size: int
    rows: int

    def build(self) -> Any:
        """The task, with fresh weights."""
        module = registry.module("scriven.models", "llama")
        fields = ("layers", "heads", "d_model", "context_length", "vocab_size")
        model = config.replace(module.Config(), {f: getattr(self, f) for f in fields}, "model")
        task = registry.module("scriven.tasks", "language").Task(module.Model(model))
        task.init_weights()
        return task


SHAPES = (Shape("10.6M", 6, 6, 384, 256, 65, 256), Shape("124M", 12, 12, 768, 1024, 50304, 32))
TINY = (Shape("tiny", 2, 2, 32, 32, 65, 4),)


def clock(device: torch.device, work: Callable[[], object], repeats: int) -> float:
    """Median seconds of a function, device synchronized."""
    found = []
    for _ in range(repeats):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def matmul_rate(device: torch.device, size: int) -> float:
    """FLOP/s of a square matmul in bfloat16."""
    left, right = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    left @ right
    return 2 * size**3 / clock(device, lambda: left @ right, 20)


def training(shape: Shape, runtime: Runtime, compiled: bool, repeats: int) -> dict[str, Any]:
    """Tokens and FLOPs per second of a training step on random tokens."""
    torch.manual_seed(0)
    task = shape.build().to(runtime.device).train()
    settings = OptimSettings(optimizer="adamw", lr=1e-4)
    compiler = partial(torch.compile, dynamic=False) if compiled else None
    parallel = Parallel(task, SINGLE_PROCESS, runtime, RuntimeSettings(), compiler)
    train_step = TrainStep(parallel, Optimizers(task, settings), runtime, settings.grad_clip)
    tokens = torch.randint(
        shape.vocab_size, (shape.rows, shape.context_length + 1), device=runtime.device
    )
    batch = Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
    for _ in range(3):
        train_step(batch, shape.rows, 1.0)
    seconds = clock(runtime.device, lambda: train_step(batch, shape.rows, 1.0), repeats)
    each = flops_per_token(task)["training"]
    rate = shape.rows * shape.context_length / seconds
    return {"tokens_per_second": round(rate), "flops_per_second": each * rate}


def generation_rate(shape: Shape, runtime: Runtime, tokens: int, way: str) -> float:
    """Greedy tokens per second after a short prompt; the graph is captured before timing."""
    torch.manual_seed(0)
    task = shape.build().to(runtime.device).eval()
    prompt = torch.zeros(1, 8, dtype=torch.int64, device=runtime.device)
    write = decoding.writer(way, task, runtime, prompt, tokens)
    write()
    return tokens / clock(runtime.device, write, 3)


def seconds_to_loss(text: Path, work: Path) -> dict[str, Any] | None:
    """The shortest budget with which the first seed reaches TARGET; None if none does."""
    ours = Ours(text, work, ["--runtime.compile=false"])
    for seconds in LADDER:
        ours.begin(seconds)
        whole = ours.turn()
        if ours.losses[0] <= TARGET:
            return {"budget": seconds, "seconds": round(whole, 1), "loss": ours.losses[0]}
    return None


def main() -> None:
    args = _arguments()
    if args.results is not None:
        rows.RESULTS = args.results
    if args.device == "cuda" and not torch.cuda.is_available():
        print("no GPU: nothing is measured (--device cpu --tiny tries the program)")
        return
    runtime = choose_runtime(RuntimeSettings(device=args.device, dtype="bfloat16"))
    name = torch.cuda.get_device_name() if runtime.device.type == "cuda" else "cpu"
    limit = matmul_rate(runtime.device, 256 if args.tiny else 8192)
    machine_info = {**rows.machine(), "device": name, "product_tflops": round(limit / 1e12, 2)}
    for shape in TINY if args.tiny else SHAPES:
        for compiled in (False, True) if args.compile else (False,):
            found = training(shape, runtime, compiled, args.repeats)
            share = round(found.pop("flops_per_second") / limit, 4)
            rows.write(
                "one GPU, training", machine_info, shape=shape.name, compiled=compiled,
                utilisation=share, **found,
            )  # fmt: skip
        for way in decoding.WAYS[: 3 if runtime.device.type == "cuda" else 2]:
            speed = generation_rate(shape, runtime, min(256, shape.context_length - 8), way)
            rows.write(
                "one GPU, writing", machine_info, shape=shape.name, way=way,
                tokens_per_second=round(speed, 1),
            )  # fmt: skip
    if not args.tiny:
        reached = seconds_to_loss(find_text(args.text), args.work.absolute())
        rows.write(
            "one GPU, seconds to a loss",
            machine_info,
            target=TARGET,
            **(reached or {"budget": None}),
        )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="?", default="tinyshakespeare")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--tiny", action="store_true", help="a tiny shape, to try the program")
    parser.add_argument("--work", type=Path, default=Path("runs") / "gpu")
    parser.add_argument("--results", type=Path, help="instead of bench/results.jsonl")
    return parser.parse_args()


if __name__ == "__main__":
    main()
