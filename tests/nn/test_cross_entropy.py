"""Cross entropy in pieces against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from scriven.nn import cross_entropy
from scriven.nn.cross_entropy import chunked_cross_entropy

N, C, V = 37, 8, 11


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "LOGITS", 16 * V)  # pieces of 16, 16 and 5 positions


def case(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, targets of which some are ignored, and an output matrix."""
    torch.manual_seed(0)
    targets = torch.randint(V, (N,))
    targets[[0, 15, 16, 36]] = -100
    return torch.randn(N, C, dtype=dtype, requires_grad=True), targets, torch.randn(V, C).to(dtype)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_count_and_gradient_are_those_of_pytorch(smoothing: float) -> None:
    hidden, targets, weight = case()
    loss, correct = chunked_cross_entropy(hidden, targets, lambda h: h @ weight.mT, V, smoothing)
    (found,) = torch.autograd.grad(2 * loss, hidden)
    logits = hidden @ weight.mT
    whole = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    (expected,) = torch.autograd.grad(2 * whole, hidden)
    torch.testing.assert_close(loss, whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert int(correct) == int((logits.argmax(-1) == targets).sum())


def test_a_function_between_matrix_and_loss_is_differentiated_too() -> None:
    hidden, targets, weight = case()

    def capped(h: Tensor) -> Tensor:
        return 3 * torch.tanh(h @ weight.mT / 3)

    loss, _ = chunked_cross_entropy(hidden, targets, capped, V)
    (found,) = torch.autograd.grad(loss, hidden)
    (expected,) = torch.autograd.grad(
        F.cross_entropy(capped(hidden), targets, reduction="sum"), hidden
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_without_gradients_the_loss_is_the_same() -> None:
    hidden, targets, weight = case(torch.float32)
    with torch.inference_mode():
        loss, correct = chunked_cross_entropy(hidden, targets, lambda h: h @ weight.mT, V)
    logits = hidden.detach() @ weight.mT
    torch.testing.assert_close(loss, F.cross_entropy(logits, targets, reduction="sum"))
    assert int(correct) == int((logits.argmax(-1) == targets).sum())


def test_no_piece_is_larger_than_asked() -> None:
    hidden, targets, weight = case()
    sizes = []

    def logits(h: Tensor) -> Tensor:
        sizes.append(len(h))
        return h @ weight.mT

    chunked_cross_entropy(hidden, targets, logits, V)
    assert sizes == [16, 16, 5]
