"""Loss by model size and tokens, a scaling law fitted to it, and other learning rates and batches.

    python bench/fits.py

Small models train on the characters of the built-in plays, for less than one epoch. To their losses
we fit

    L(N, D) = E + A / N^a + B / D^b

(Hoffmann et al. 2022, equation 2), with N the parameters in blocks and D the training tokens. For
given exponents it is linear, so all exponents of a grid are tried. With so few sizes it shows how
the loss falls here, and nothing about large models. docs/scaling.md shows the newest rows.
"""

import argparse
import itertools
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rows
from race_to_loss import train

SHAPES = {"100k": (2, 2, 64), "330k": (3, 3, 96), "790k": (4, 4, 128), "2.7M": (6, 6, 192)}
"""Layers, heads, d_model."""
TOKENS = (500_000, 1_000_000, 2_000_000)
AROUND = {
    "matrix_rate": ("--optim.muon_lr", (0.01, 0.02, 0.04), ("100k", "790k")),
    "batch": ("--train.batch_size", (4, 8, 16), ("330k",)),
}
"""By the name in results.jsonl: the flag, its values (the default in the middle), and the sizes."""
EXPONENTS = np.arange(0.1, 1.5, 0.02)


class Point(NamedTuple):
    """One training run."""

    parameters: float
    tokens: float
    loss: float


class Law(NamedTuple):
    """E + A / N^a + B / D^b, and its fit error."""

    floor: float
    size: float
    size_power: float
    data: float
    data_power: float
    error: float
    """Root mean square error, in nats."""

    def best(self, flops: float) -> tuple[float, float]:
        """(parameters, tokens) of the lowest loss for 6 N D FLOPs."""
        ratio = self.size_power * self.size / (self.data_power * self.data)
        whole = self.size_power + self.data_power
        parameters = ratio ** (1 / whole) * (flops / 6) ** (self.data_power / whole)
        return parameters, flops / 6 / parameters


def fit(points: Sequence[Point]) -> Law:
    """The law with the smallest mean square error among the exponents of the grid."""
    n, d, loss = (np.array(column) for column in zip(*points, strict=True))
    laws = []
    for a, b in itertools.product(EXPONENTS, EXPONENTS):
        terms = np.stack((np.ones_like(loss), (n / 1e6) ** -a, (d / 1e6) ** -b), 1)
        (floor, size, data), *_ = np.linalg.lstsq(terms, loss, rcond=None)
        if min(floor, size, data) <= 0:
            continue
        error = math.sqrt(np.mean((terms @ (floor, size, data) - loss) ** 2))
        laws.append(Law(floor, size * 1e6**a, a, data * 1e6**b, b, error))
    return min(laws, key=lambda law: law.error)


def measure(shape: str, tokens: int, seed: int, *flags: str) -> dict[str, Any]:
    """The results of one training run."""
    layers, heads, d_model = SHAPES[shape]
    model = [f"--model.layers={layers}", f"--model.heads={heads}", f"--model.d_model={d_model}"]
    with tempfile.TemporaryDirectory() as folder:
        model += ["--model.context_length=256", "--runtime.compile=false", *flags]
        _, results = train(
            Path("shakespeare"), f"{tokens}tokens", seed, Path(folder) / "run", model
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=TOKENS)
    parser.add_argument(
        "--around",
        type=int,
        default=1_000_000,
        help="tokens for other learning rates and batch sizes",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, help="instead of bench/results.jsonl")
    args = parser.parse_args()
    if args.results is not None:
        rows.RESULTS = args.results
    machine_info, points = rows.machine(), list[Point]()
    for shape, tokens in itertools.product(SHAPES, args.tokens):
        layers, _, d_model = SHAPES[shape]
        results = measure(shape, tokens, args.seed)
        point = Point(12 * layers * d_model**2, results["tokens"], results["val_loss"])
        points.append(point)
        rows.write("loss by size", machine_info, shape=shape, seed=args.seed, **point._asdict())
    rows.write("law of loss", machine_info, points=len(points), **fit(points)._asdict())
    for name, (flag, values, shapes) in AROUND.items():
        for shape, value in itertools.product(shapes, values):
            results = measure(shape, args.around, args.seed, f"{flag}={value}")
            rows.write(
                "loss around a dial", machine_info, shape=shape, dial=name, value=value,
                tokens=results["tokens"], loss=results["val_loss"], seed=args.seed,
            )  # fmt: skip


if __name__ == "__main__":
    main()
