"""One process of several that train: does a list of trainings, one after the other.

    torchrun --nproc-per-node 2 worker.py JOBS.json

Each job is the arguments of a `TrainRequest`, `double` for double precision, `until`, a step
before which the first process gets a signal to stop, and `poison`, the rank and step of a gradient
that becomes infinite. What each process reads goes to
RUN-read-RANK.jsonl: the number of the first sample with the tokens of its rows.
"""

import contextlib
import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from scriven.data.batch import Batch
from scriven.train import datasets
from scriven.train.request import TrainRequest
from scriven.train.run import start_or_resume
from scriven.train.stopping import Interrupted
from scriven.train.train_state import TrainState
from scriven.train.trainer import Trainer

RANK = int(os.environ.get("RANK", "0"))


def listen(out: Path, until: int | None) -> None:
    """Writes down what is read."""
    next_batch = Trainer.next_batch

    def heard(trainer: Trainer, state: TrainState) -> Batch:
        made, sample = next_batch(trainer, state), state.samples
        line = {"sample": sample, "rows": made.tokens.tolist()}
        with (out.parent / f"{out.name}-read-{RANK}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        if until and RANK == 0 and sample == (until - 1) * trainer.settings.train.batch_size:
            os.kill(os.getpid(), signal.SIGTERM)  # noted; the update is done first
        return made

    Trainer.next_batch = heard  # type: ignore[method-assign]


def poison(rank: int, step: int) -> None:
    """Makes the gradient of one process at one step infinite."""
    next_batch = Trainer.next_batch

    def spoiled(trainer: Trainer, state: TrainState) -> Batch:
        forward = trainer.parallel.forward

        def spoil(*inputs: Any) -> Any:
            output = forward(*inputs)
            output.loss.register_hook(lambda gradient: gradient * math.inf)
            trainer.parallel.forward = forward
            return output

        if rank == RANK and state.step + 1 == step:
            trainer.parallel.forward = spoil
        return next_batch(trainer, state)

    Trainer.next_batch = spoiled  # type: ignore[method-assign]


def main() -> None:
    datasets.SAMPLE_TOKENS = 24  # of each training's last sample, most of the work of a short one
    usual = Trainer.next_batch
    for job in json.loads(Path(sys.argv[1]).read_text()):
        torch.set_default_dtype(torch.float64 if job.pop("double") else torch.float32)
        Trainer.next_batch = usual  # type: ignore[method-assign]
        listen(Path(job["out"]), job.pop("until", None))
        if spoilt := job.pop("poison", None):
            poison(*spoilt)
        arguments: dict[str, Any] = job
        source = arguments.pop("source")
        with contextlib.suppress(Interrupted):
            start_or_resume(TrainRequest([source], quiet=True, **arguments))


if __name__ == "__main__":
    main()
