"""A LoRA step beside transformers + PEFT: seconds, CPU seconds and peak memory, each variant in a
process of its own, in turns.

    python bench/adapt.py model.gguf
    python bench/adapt.py FOLDER --rank 8 --tokens 1024 --steps 3 --rounds 3

The model is a GGUF file, or a folder in the Hugging Face layout. Both train the same layers on the
same random token ids, with AdamW and gradient clipping; scriven in the precision that it chooses
for this machine. On a busy machine only the CPU seconds of one thread (--threads 1) mean anything.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rows

from scriven import process

process.configure_threads_and_malloc()

VARIANTS = (
    "scriven", "peft-f32-sdpa", "peft-f32-eager", "peft-bf16-sdpa", "peft-bf16-eager",
    "peft-amp-sdpa", "peft-amp-eager",
)  # fmt: skip
LR = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--rows", type=int, default=2, help="of so many tokens together")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--variants", nargs="*", default=VARIANTS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, help="instead of bench/results.jsonl")
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args)))
        return
    if args.results is not None:
        rows.RESULTS = args.results
    found: dict[str, list[dict[str, float]]] = {name: [] for name in args.variants}
    for _ in range(args.rounds):
        for name in args.variants:
            line = [sys.executable, __file__, *sys.argv[1:], "--child", name]
            child = subprocess.run(line, capture_output=True, text=True, check=True)
            found[name].append(json.loads(child.stdout.splitlines()[-1]))
            print(name, found[name][-1], file=sys.stderr, flush=True)
    figures = {
        name: {
            key: round(statistics.median(each[key] for each in measured), 3) for key in measured[0]
        }
        for name, measured in found.items()
    }
    peers = {name: each for name, each in figures.items() if name != "scriven"}
    ours, best = (
        figures["scriven"],
        {key: min(each[key] for each in peers.values()) for key in peers[next(iter(peers))]},
    )
    rows.write(
        "lora step", rows.machine(), model=args.model.name, rank=args.rank, tokens=args.tokens,
        rows=args.rows, steps=args.steps, rounds=args.rounds, used_threads=args.threads,
        figures=figures, ratio={key: round(best[key] / ours[key], 3) for key in ours},
    )  # fmt: skip


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Medians of the steps after the first, and the peak of the whole process."""
    import torch

    torch.set_num_threads(args.threads)
    step = scriven_step(args) if args.child == "scriven" else peft_step(args)
    torch.manual_seed(0)
    wall, cpu = [], []
    for _ in range(args.steps + 1):
        ids = torch.randint(1000, (args.rows, args.tokens // args.rows + 1))
        began = time.perf_counter(), time.process_time()
        step(ids)
        wall.append(time.perf_counter() - began[0])
        cpu.append(time.process_time() - began[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": statistics.median(wall[1:]),
        "cpu_seconds": statistics.median(cpu[1:]),
        "peak_mb": peak,
    }


def scriven_step(args: argparse.Namespace) -> Callable[[Any], object]:
    """As `scriven train --from` takes a step."""

    from scriven import registry
    from scriven.data.batch import Batch
    from scriven.import_.base import open_base
    from scriven.runs.peft import add_adapters
    from scriven.runtime import choose_runtime
    from scriven.settings import OptimSettings, RuntimeSettings
    from scriven.tasks.language import Language
    from scriven.train.build_model import Parallel, store_frozen_as
    from scriven.train.optim.base import Optimizers
    from scriven.train.train_step import TrainStep

    runtime = choose_runtime(RuntimeSettings(device="cpu", threads=args.threads))
    base = open_base(str(args.model), dtype=lambda parameters: runtime.dtype)
    task = Language(base.task.backbone)
    task.head = base.task.head
    module = registry.module("scriven.models", base.architecture)
    add_adapters(task, module, task.backbone.config, args.rank)
    store_frozen_as(task, runtime.dtype)
    optimizers = Optimizers(task.train(), OptimSettings(optimizer="adamw", lr=LR))
    step = TrainStep(Parallel(task), optimizers, runtime, 1.0)
    return lambda ids: step(Batch(ids[:, :-1], ids[:, 1:]), args.rows, 1.0)


def peft_step(args: argparse.Namespace) -> Callable[[Any], object]:
    """transformers and PEFT: all in float32 or bfloat16, or weights in float32 under autocast."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    _, precision, attention = args.child.split("-")
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    place, named = args.model, {}
    if place.is_file():
        place, named = place.parent, {"gguf_file": place.name}
    model = AutoModelForCausalLM.from_pretrained(
        place, dtype=dtype, attn_implementation=attention, **named
    )
    lora = LoraConfig(
        r=args.rank, lora_alpha=2 * args.rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = get_peft_model(model, lora).train()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LR)

    def step(ids: Any) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision != "f32"):
            loss = model(input_ids=ids[:, :-1], labels=ids[:, :-1]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    main()
