"""The scaling law: recovered from losses that follow it, and its compute-optimal split."""

import itertools

import pytest
from fits import Law, Point, fit

KNOWN = Law(1.2, 40.0, 0.4, 300.0, 0.5, 0.0)


def losses(law: Law) -> list[Point]:
    grid = itertools.product((1e5, 3e5, 8e5, 3e6), (5e5, 1e6, 2e6))
    return [
        Point(n, d, law.floor + law.size / n**law.size_power + law.data / d**law.data_power)
        for n, d in grid
    ]


def test_a_known_law_is_recovered() -> None:
    found = fit(losses(KNOWN))
    assert found == pytest.approx(KNOWN, rel=1e-3, abs=1e-6)


def test_another_law_is_distinguished() -> None:
    assert fit(losses(KNOWN._replace(data_power=0.6))) != pytest.approx(KNOWN, rel=0.05)


def test_the_compute_optimal_split_has_the_lowest_loss() -> None:
    flops = 6 * 1e6 * 2e7

    def loss(n: float) -> float:
        d = flops / 6 / n
        return KNOWN.size / n**KNOWN.size_power + KNOWN.data / d**KNOWN.data_power

    n, d = KNOWN.best(flops)
    assert 6 * n * d == pytest.approx(flops)
    assert loss(n) < min(loss(0.9 * n), loss(1.1 * n))
