"""Scriven as one of the programs: its own training step and its own engine."""

import time
from functools import partial
from typing import Any

import torch
from shared import recipe, weights
from shared.batches import Batches
from shared.child import serve

from scriven import __version__, config, load, process, registry
from scriven.data.batch import Batch
from scriven.distributed import SINGLE_PROCESS
from scriven.generate.prompt_lookup import PromptLookup
from scriven.generate.sampling import SamplingParams
from scriven.models.shared.cost import flops_per_token
from scriven.native.library import load_library
from scriven.runs.folder import find_run
from scriven.runs.load import load_run
from scriven.runtime import choose_runtime
from scriven.settings import OptimSettings, RuntimeSettings
from scriven.train.build_model import Parallel
from scriven.train.native_step import compiled_task
from scriven.train.optim.base import Optimizers
from scriven.train.train_step import TrainStep

process.configure_threads_and_malloc()


class RandomBatches:
    """Random tokens, for timing only."""

    def __init__(self, rows: int, shape: dict[str, int]) -> None:
        self.size, self.vocab_size = (rows, shape["context_length"]), shape["vocab_size"]

    def batch(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        made = torch.randint(self.vocab_size, (2, *self.size))
        return made[0], made[1]


class Scriven:
    """A run folder, for training or generation."""

    batches: Batches | RandomBatches

    def prepare(
        self,
        folder: str,
        data: str | None = None,
        micro: int = 0,
        dropout: float = 0.0,
        compile: bool = False,
        native: bool = False,
        dtype: str | None = None,
        seed: int = 0,
        optimizer: str = "adamw",
        **others: Any,
    ) -> dict[str, Any]:
        torch.manual_seed(seed)
        if data is None:
            load_library(wait=True)  # compiled before timing
            self.model = load(folder, device="cpu", dtype=dtype)
            assert self.model.engine, "weights are packed before timing"
            task, used = self.model.task, dtype
        else:
            self.runtime = choose_runtime(RuntimeSettings(dtype=dtype, device="cpu"))  # type: ignore[arg-type]
            self._prepare_training(folder, data, micro, dropout, compile, native, optimizer)
            task, used = self.task, str(self.runtime.dtype).removeprefix("torch.")
        return {
            "parameters": weights.count(task),
            "versions": {"scriven": __version__, "torch": torch.__version__},
            "dtype": used,
        }

    def prepare_fresh(
        self, arch: str, shape: dict[str, int], rows: int, dtype: str | None = None,
        optimizer: str = "adamw",
    ) -> dict[str, Any]:  # fmt: skip
        """A model of this shape with random weights, to be trained on random tokens.

        Returns:
            parameters, dtype, and flops: of one step.
        """
        torch.manual_seed(0)
        self.runtime = choose_runtime(RuntimeSettings(dtype=dtype, device="cpu"))  # type: ignore[arg-type]
        module = registry.module("scriven.models", arch)
        model = config.replace(module.Config(), shape, "model")
        self.task = registry.module("scriven.tasks", "language").Task(module.Model(model))
        self.task.init_weights()
        self._make_train_step(compile=False, native=False, optimizer=optimizer)
        self.batches, self.number, self.micro = RandomBatches(rows, shape), 0, rows
        each = flops_per_token(self.task)["training"]
        return {
            "parameters": weights.count(self.task),
            "dtype": str(self.runtime.dtype).removeprefix("torch."),
            "flops": each * rows * shape["context_length"],
        }

    def _prepare_training(
        self,
        folder: str,
        data: str,
        micro: int,
        dropout: float,
        compile: bool,
        native: bool,
        optimizer: str,
    ) -> None:
        loaded = load_run(find_run(folder))
        module = registry.module("scriven.models", loaded.architecture)
        fields = {**loaded.metadata["model"], "dropout": dropout}
        shape = config.replace(module.Config(), fields, "model")
        kind = registry.module("scriven.tasks", loaded.metadata["task"])
        task = kind.Task(module.Model(shape), special=loaded.tokenizer.special_token_ids)
        task.load_state_dict(loaded.task.state_dict())
        self.task = task
        self._make_train_step(compile, native, optimizer)
        self.batches, self.number, self.micro = Batches(data), 0, micro

    def _make_train_step(self, compile: bool, native: bool, optimizer: str) -> None:
        """`native`: with code compiled for this machine, as far as the model allows."""
        settings = OptimSettings(
            optimizer=optimizer,
            lr=recipe.RATE,
            beta1=recipe.BETAS[0],
            beta2=recipe.BETAS[1],
            weight_decay=recipe.DECAY,
            grad_clip=recipe.CLIP,
        )
        optimizers = Optimizers(self.task, settings)
        compiled = partial(torch.compile, dynamic=False) if compile else None
        parallel = Parallel(self.task, SINGLE_PROCESS, self.runtime, RuntimeSettings(), compiled)
        if native:
            self.task.train()
            parallel.forward = compiled_task(self.task, self.runtime.dtype, wait=True)
            optimizers.use_native()
        self.train_step = TrainStep(parallel, optimizers, self.runtime, recipe.CLIP)

    def step(self, count: int) -> dict[str, Any]:
        self.task.train()
        losses = []
        began = time.perf_counter()
        for _ in range(count):
            update = self.train_step(Batch(*self.batches.batch(self.number)), self.micro, 1.0)
            assert update.applied, "a step was skipped"
            self.number += 1
            losses.append(update.loss)
        return {"seconds": time.perf_counter() - began, "losses": losses}

    @torch.no_grad()
    def loss(self) -> dict[str, Any]:
        self.task.eval()
        parts = [Batch(*window) for window in self.batches.windows()]
        return {"losses": [float(self.task(part).loss) / part.num_targets() for part in parts]}

    def generate(
        self, prompts: list[list[int]], tokens: int, temperature: float = 0.0
    ) -> dict[str, Any]:
        """Drawn texts without speculative decoding, as the others have none."""
        if temperature:
            PromptLookup.propose = lambda draft, most: []  # type: ignore[method-assign]
        began = time.perf_counter()
        made = self.model.engine.generate(
            prompts, SamplingParams(temperature=temperature), tokens, ignore_eos=True
        )
        return {"seconds": time.perf_counter() - began, "texts": [each.text for each in made]}


if __name__ == "__main__":
    serve(Scriven())
