"""Positions against their formulas."""

import cmath
import math

import torch

from scriven.nn.embeddings import (
    DistanceEmbedding,
    LearnedPositions,
    RotaryEmbedding,
    SinusoidalPositions,
)


def test_rotary_turns_pairs_by_angles_that_grow_with_position() -> None:
    rotary = RotaryEmbedding(8, context_length=16, base=100.0).double()
    x = torch.randn(1, 1, 16, 8).double()
    rotary.cos, rotary.sin = (t.double() for t in tables(rotary))
    got = rotary.rotate(x, torch.arange(16))
    for t in range(16):
        for i in range(4):
            turned = complex(x[0, 0, t, i], x[0, 0, t, i + 4]) * cmath.exp(
                1j * t * 100.0 ** (-2 * i / 8)
            )
            assert abs(complex(got[0, 0, t, i], got[0, 0, t, i + 4]) - turned) < 1e-12


def tables(rotary: RotaryEmbedding) -> tuple[torch.Tensor, torch.Tensor]:
    """The tables in float64, by the formula."""
    half = [rotary.base ** (-2 * i / rotary.head_dim) for i in range(rotary.head_dim // 2)]
    angle = torch.tensor([[t * f for f in half] for t in range(rotary.context_length)]).double()
    exact = torch.tensor(
        [[t * f for f in half] for t in range(rotary.context_length)], dtype=torch.float64
    )
    assert torch.allclose(angle, exact, atol=1e-5)
    return exact.cos().repeat(1, 2), torch.cat((-exact.sin(), exact.sin()), -1)


def test_rotary_scores_depend_on_the_distance_only() -> None:
    rotary = RotaryEmbedding(8, context_length=64)
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(q_at: int, k_at: int) -> float:
        turned = rotary.rotate(q, torch.tensor([q_at])) * rotary.rotate(k, torch.tensor([k_at]))
        return float(turned.sum())

    assert math.isclose(score(7, 3), score(44, 40), abs_tol=1e-4)
    assert not math.isclose(score(7, 3), score(7, 4), abs_tol=1e-3)


def test_rotary_rows_with_their_own_positions_equal_rows_alone() -> None:
    rotary = RotaryEmbedding(8, context_length=16)
    x = torch.randn(2, 3, 5, 8)
    positions = torch.stack((torch.arange(5), torch.arange(3, 8)))
    both = rotary.rotate(x, positions)
    for row in range(2):
        assert torch.equal(both[row : row + 1], rotary.rotate(x[row : row + 1], positions[row]))


def test_sinusoids_equal_the_paper() -> None:
    table = SinusoidalPositions(32, 10)(torch.arange(32))
    for t in (0, 1, 7, 31):
        for i in range(10):
            angle = t / 10000 ** (2 * (i // 2) / 10)
            wanted = math.sin(angle) if i % 2 == 0 else math.cos(angle)
            assert abs(float(table[t, i]) - wanted) < 1e-6


def test_learned_positions_are_looked_up_and_padding_is_harmless() -> None:
    learned = LearnedPositions(4, 3)
    torch.nn.init.normal_(learned.weight)
    assert torch.equal(learned(torch.tensor([2, 0])), learned.weight[[2, 0]])
    assert learned(torch.tensor([-3, 1])).isfinite().all()


def test_distances_equal_the_paper_within_and_beyond_the_table() -> None:
    distances = DistanceEmbedding(6, length=4)
    for count in (3, 4, 9):
        vectors = distances(count)
        assert vectors.shape == (count, 6)
        for n in range(count):
            angles = [n / 10000 ** (2 * i / 6) for i in range(3)]
            wanted = [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
            assert torch.allclose(vectors[n], torch.tensor(wanted), atol=1e-6)
    assert torch.equal(distances(9)[:4], distances(4))
