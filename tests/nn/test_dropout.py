"""Dropout by random bits: the share, the mean, the gradient, and what it draws."""

import pytest
import torch

from scriven.nn.dropout import dropout


@pytest.mark.parametrize("share", [0.01, 0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_share_and_the_mean_are_kept(share: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(1_000_003, dtype=dtype)
    y = dropout(x, share).double()
    spread = (share * (1 - share) / x.numel()) ** 0.5
    assert abs((y == 0).double().mean() - share) < 5 * spread + 1e-5
    assert abs(y.mean() - 1) < 5 * spread / (1 - share) + (5e-3 if dtype == torch.bfloat16 else 0)
    assert y.unique().numel() == 2


def test_neighbours_are_dropped_independently() -> None:
    """Four elements share a draw; a slip in cutting it would tie them together."""
    torch.manual_seed(0)
    gone = (dropout(torch.ones(400_000), 0.5) == 0).double().view(-1, 4) - 0.5
    together = gone.T @ gone / len(gone) * 4
    assert (together - torch.eye(4)).abs().max() < 0.02


def test_the_gradient_goes_where_the_value_went() -> None:
    x = torch.randn(37, 5, dtype=torch.float64, requires_grad=True)
    y = dropout(x, 0.3)
    y.sum().backward()
    assert torch.equal(x.grad * x, y)


def test_nothing_happens_outside_training() -> None:
    x = torch.randn(9)
    assert dropout(x, 0.5, training=False) is x
    assert dropout(x, 0.0) is x


def test_the_same_seed_draws_the_same() -> None:
    x = torch.randn(1001)
    torch.manual_seed(4)
    first = dropout(x, 0.4)
    torch.manual_seed(4)
    assert torch.equal(first, dropout(x, 0.4))
    assert not torch.equal(first, dropout(x, 0.4))
