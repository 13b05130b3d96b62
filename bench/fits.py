"""Loss by size and by tokens, and the law through it; then rates and batches around the usual ones.

    python bench/fits.py

Small models read the built-in plays, each letter once at most. Through their losses goes

    L(N, D) = E + A / N^a + B / D^b

(Hoffmann et al. 2022, equation 2), N the parameters in blocks and D the tokens read. For given
exponents it is linear, so all exponents of a grid are tried. At so few sizes it says how loss falls
here, and nothing of large models. docs/scaling.md shows the newest rows.
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
"""Layers, heads, width."""
TOKENS = (500_000, 1_000_000, 2_000_000)
AROUND = {
    "matrix_rate": ("--optim.muon_lr", (0.01, 0.02, 0.04), ("100k", "790k")),
    "batch": ("--train.batch_size", (4, 8, 16), ("330k",)),
}
"""A dial, values of it (the usual one in the middle), and at which sizes."""
EXPONENTS = np.arange(0.1, 1.5, 0.02)


class Point(NamedTuple):
    """One training."""

    parameters: float
    tokens: float
    loss: float


class Law(NamedTuple):
    """E + A / N^a + B / D^b, and how far from it the points are."""

    floor: float
    size: float
    size_power: float
    data: float
    data_power: float
    error: float
    """Root of the mean square, in nats."""

    def best(self, flops: float) -> tuple[float, float]:
        """(parameters, tokens) that lose least for 6 N D operations."""
        ratio = self.size_power * self.size / (self.data_power * self.data)
        whole = self.size_power + self.data_power
        parameters = ratio ** (1 / whole) * (flops / 6) ** (self.data_power / whole)
        return parameters, flops / 6 / parameters


def fit(points: Sequence[Point]) -> Law:
    """The law with the smallest mean square among exponents of the grid."""
    n, d, loss = (np.array(column) for column in zip(*points, strict=True))
    found = []
    for a, b in itertools.product(EXPONENTS, EXPONENTS):
        terms = np.stack((np.ones_like(loss), (n / 1e6) ** -a, (d / 1e6) ** -b), 1)
        (floor, size, data), *_ = np.linalg.lstsq(terms, loss, rcond=None)
        if min(floor, size, data) <= 0:
            continue
        error = math.sqrt(np.mean((terms @ (floor, size, data) - loss) ** 2))
        found.append(Law(floor, size * 1e6**a, a, data * 1e6**b, b, error))
    return min(found, key=lambda law: law.error)


def measure(shape: str, tokens: int, seed: int, *dials: str) -> dict[str, Any]:
    """The results of one training."""
    layers, heads, width = SHAPES[shape]
    model = [f"--model.layers={layers}", f"--model.heads={heads}", f"--model.d_model={width}"]
    with tempfile.TemporaryDirectory() as folder:
        model += ["--model.context_length=256", "--runtime.compile=false", *dials]
        _, told = train(Path("shakespeare"), f"{tokens}tokens", seed, Path(folder) / "run", model)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=TOKENS)
    parser.add_argument("--around", type=int, default=1_000_000, help="tokens of rates and batches")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, help="instead of bench/results.jsonl")
    asked = parser.parse_args()
    if asked.results is not None:
        rows.RESULTS = asked.results
    here, points = rows.machine(), list[Point]()
    for shape, tokens in itertools.product(SHAPES, asked.tokens):
        layers, _, width = SHAPES[shape]
        told = measure(shape, tokens, asked.seed)
        point = Point(12 * layers * width**2, told["tokens"], told["val_loss"])
        points.append(point)
        rows.write("loss by size", here, shape=shape, seed=asked.seed, **point._asdict())
    rows.write("law of loss", here, points=len(points), **fit(points)._asdict())
    for name, (flag, values, shapes) in AROUND.items():
        for shape, value in itertools.product(shapes, values):
            told = measure(shape, asked.around, asked.seed, f"{flag}={value}")
            rows.write(
                "loss around a dial", here, shape=shape, dial=name, value=value,
                tokens=told["tokens"], loss=told["val_loss"], seed=asked.seed,
            )  # fmt: skip


if __name__ == "__main__":
    main()
