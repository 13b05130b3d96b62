"""What it costs to train a run longer instead of giving it the whole budget from the start.

For each seed: a run of N steps that is extended to 3 N, and one of 3 N steps; equal steps, text,
shape and data order. Run: python bench/longer.py TEXT [--steps 300] [--seeds 3]
"""

import argparse
import tempfile
from pathlib import Path

import rows

import scriven

SHAPE = {
    "model.layers": 2, "model.heads": 2, "model.d_model": 64, "model.context_length": 64,
    "train.batch_size": 16, "train.eval_interval": 300, "train.sample_seconds": 0,
    "train.patience": 0, "runtime.threads": 1, "runtime.dtype": "float32",
}  # fmt: skip
"""The default, with a quarter of its width and context and half of its tokens per step."""


def main() -> None:
    """Trains and writes one row for each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--schedule", default="wsd")
    arguments = parser.parse_args()
    machine = rows.machine()
    whole = f"{3 * arguments.steps}steps"
    settings = {**SHAPE, "optim.lr_schedule": arguments.schedule}
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            first, straight = (
                scriven.train(
                    arguments.text, budget=budget, seed=seed, out=Path(folder, name), quiet=True,
                    settings=settings,
                ).results
                for name, budget in (("run", f"{arguments.steps}steps"), ("straight", whole))
            )  # fmt: skip
            longer = scriven.train(resume=Path(folder, "run"), budget=whole, quiet=True).results
            rows.write(
                "longer",
                machine,
                schedule=arguments.schedule,
                seed=seed,
                steps=[first["steps"], longer["steps"]],
                loss_first=round(first["val_loss"], 4),
                loss_longer=round(longer["val_loss"], 4),
                loss_straight=round(straight["val_loss"], 4),
                cost=round(longer["val_loss"] - straight["val_loss"], 4),
            )


if __name__ == "__main__":
    main()
