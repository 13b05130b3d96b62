"""How fast this machine trains: steps of the default model on random tokens, timed.

What suits a wall-clock budget on a CPU depends on the FLOPs that fit into it (scaling_laws.py), and
machines differ by more than a factor of ten.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import suppress

import torch

from ..data.batch import Batch
from ..distributed import SINGLE_PROCESS
from ..models import llama
from ..models.shared.cost import flops_per_token
from ..native.training import NativeTraining
from ..native.weights import UnsupportedError
from ..runtime import Runtime
from ..settings import OptimSettings, RuntimeSettings, TokenizerSettings
from ..tasks.language import Language
from ..tokenizers import byte
from .build_model import Parallel
from .optim.base import Optimizers
from .scaling_laws import CPU_TOKENS, GPU_TOKENS, SIZES
from .train_step import TrainStep

CONTEXT_LENGTH = 256
LEAST_SECONDS, LEAST_STEPS = 0.2, 3
"""What a measurement of FLOP/s takes."""


def random_model(size: str, runtime: Runtime) -> Language:
    """A byte-level Llama of a `--size`, with random weights."""
    tokenizer = byte.train([], TokenizerSettings(kind="byte"))
    model = llama.Config(
        vocab_size=tokenizer.vocab_size, context_length=CONTEXT_LENGTH, **vars(SIZES[size])
    )
    task = Language(llama.Model(model), special=tokenizer.special_token_ids)
    task.init_weights()
    return task.to(runtime.device)


def random_steps(
    task: Language, runtime: Runtime, native: bool, wait: bool = False
) -> tuple[Callable[[], object], int]:
    """(a training step on random tokens, how many tokens it has).

    Args:
        native: by compiled code, if it knows this machine; else by PyTorch.
        wait: until that code is compiled, where it has never been.
    """
    settings = OptimSettings()
    optimizers = Optimizers(task, settings)
    parallel = Parallel(task, SINGLE_PROCESS, runtime, RuntimeSettings(), None)
    if native and runtime.device.type == "cpu":
        with suppress(UnsupportedError):
            parallel.forward = NativeTraining(task, runtime.dtype, wait=wait)
            optimizers.use_native()
    train_step = TrainStep(parallel, optimizers, runtime, settings.grad_clip)
    # inputs (B, T), and the targets one position later (B, T)
    tokens = CPU_TOKENS if runtime.device.type == "cpu" else GPU_TOKENS
    rows = tokens // CONTEXT_LENGTH
    ids = torch.randint(task.vocab_size, (rows, CONTEXT_LENGTH + 1), device=runtime.device)
    batch = Batch(ids[:, :-1], ids[:, 1:])
    return lambda: train_step(batch, rows, 1.0), tokens


def training_flops(runtime: Runtime, native: bool = True) -> float:
    """FLOP/s of training the default model on this machine, the median of some steps; takes about
    half a second.

    Args:
        native: by compiled code, if it is there, as `--runtime.native` allows.
    """
    with torch.random.fork_rng(devices=[]):
        task = random_model("small", runtime)
        step, tokens = random_steps(task, runtime, native)
        step()  # the first one allocates
        seconds: list[float] = []
        while len(seconds) < LEAST_STEPS or sum(seconds) < LEAST_SECONDS:
            began = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - began)
    return flops_per_token(task)["training"] * tokens / statistics.median(seconds)
