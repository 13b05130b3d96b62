"""Recurrent models against torch's own layers, and what they remember."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scriven.errors import SettingError
from scriven.models.rnn import LAYERS, Config, Model, RecurrentLayer
from scriven.nn.cache import RecurrentState

CELLS = ["rnn", "gru", "lstm"]
LIMITS = [(torch.float64, 1e-12), (torch.float32, 1e-5)]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def randomise(module: nn.Module) -> None:
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0, 0.3)


def by_steps(layer: RecurrentLayer, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The formulas, one token after the other."""
    parts = (x.new_zeros(x.size(0), layer.d_model),) * (2 if layer.kind == "lstm" else 1)
    out = []
    for t in range(x.size(1)):
        parts = layer.step(x[:, t], parts)
        out.append(parts[0])
    return torch.stack(out, 1), parts


def gaps_to_torch(kind: Any, dtype: torch.dtype, spoil: float = 0.0) -> dict[str, float]:
    """Largest differences between the formulas and torch's layer, by name."""
    layer = RecurrentLayer(kind, 5, 7).to(dtype)
    randomise(layer)
    x = torch.randn(3, 9, 5, dtype=dtype, requires_grad=True)
    weights = dict(layer.named_parameters())
    theirs, after = layer.cell(x)
    wanted = torch.autograd.grad(theirs.square().sum(), [x, *weights.values()])
    with torch.no_grad():
        weights["cell.weight_hh_l0"][0, 0] += spoil
    ours, parts = by_steps(layer, x)
    got = torch.autograd.grad(ours.square().sum(), [x, *weights.values()])
    found = {"out": float((ours - theirs).detach().abs().max())}
    for one, other in zip(parts, after if kind == "lstm" else (after,), strict=True):
        found[f"state {len(found)}"] = float((one - other[0]).detach().abs().max())
    for name, one, other in zip(["x", *weights], got, wanted, strict=True):
        found[name] = float((one - other).abs().max()) / max(1.0, float(other.abs().max()))
    return found


@pytest.mark.parametrize(("dtype", "limit"), LIMITS)
@pytest.mark.parametrize("kind", CELLS)
def test_formulas_equal_torchs_layers(kind: str, dtype: torch.dtype, limit: float) -> None:
    found = gaps_to_torch(kind, dtype)
    assert max(found.values()) < limit, found


@pytest.mark.parametrize("kind", CELLS)
def test_a_planted_error_is_noticed(kind: str) -> None:
    assert gaps_to_torch(kind, torch.float64, spoil=1e-8)["out"] > 1e-12


def model(kind: Any, **changes: Any) -> Model:
    made = Model(
        Config(vocab_size=17, context_length=8, cell=kind, layers=2, d_model=12, **changes)
    )
    randomise(made)
    return made.double().eval()


def stacked(made: Model) -> nn.RNNBase:
    """torch's own stack of layers, with the same weights."""
    settings = made.config
    size = settings.embedding or settings.d_model
    theirs = LAYERS[settings.cell](size, settings.d_model, settings.layers, batch_first=True)
    with torch.no_grad():
        for number, layer in enumerate(made.blocks):
            for name, weight in layer.cell.named_parameters():  # type: ignore[union-attr]
                getattr(theirs, name.replace("_l0", f"_l{number}")).copy_(weight)
    return theirs.double()


@pytest.mark.parametrize("changes", [{}, {"embedding": 5, "tie_embeddings": False}])
@pytest.mark.parametrize("kind", CELLS)
def test_the_model_equals_torchs_stack(kind: str, changes: dict[str, Any]) -> None:
    made, tokens = model(kind, **changes), torch.randint(17, (3, 10))
    theirs = stacked(made)
    wanted = theirs(made.embed.token(tokens))[0]
    ours = made(tokens)
    assert (ours - wanted).abs().max() < 1e-12
    ours.square().sum().backward()
    wanted.square().sum().backward()
    for number, layer in enumerate(made.blocks):
        for name, weight in layer.cell.named_parameters():  # type: ignore[union-attr]
            other = getattr(theirs, name.replace("_l0", f"_l{number}"))
            assert (weight.grad - other.grad).abs().max() < 1e-10


@pytest.mark.parametrize("sizes", [[1] * 10, [7, 1, 2], [4, 4, 2]])
@pytest.mark.parametrize("kind", CELLS)
def test_any_pieces_equal_the_whole(kind: str, sizes: list[int]) -> None:
    made, tokens = model(kind), torch.randint(17, (3, 10))
    with torch.no_grad():
        state = made.new_cache(3, 10)
        parts = torch.cat([made(part, state) for part in tokens.split(sizes, 1)], 1)
        assert (parts - made(tokens)).abs().max() < 1e-12
    assert state.length == 10


@pytest.mark.parametrize("kind", CELLS)
def test_padding_on_the_left_changes_nothing(kind: str) -> None:
    """Rows of length 10, 6, 6, 9 and 1, in one call and in two that cut through the padding."""
    made, gaps = model(kind), [0, 4, 4, 1, 9]
    tokens = torch.randint(17, (5, 10))
    positions = torch.arange(10) - torch.tensor(gaps)[:, None]
    with torch.no_grad():
        state = made.new_cache(5, 10)
        pieces = [
            made(tokens[:, a:b], state, positions[:, a:b]) for a, b in ((0, 3), (3, 4), (4, 10))
        ]
        for together in (made(tokens, positions=positions), torch.cat(pieces, 1)):
            for row, gap in enumerate(gaps):
                alone = made(tokens[row : row + 1, gap:])
                assert (together[row, gap:] - alone[0]).abs().max() < 1e-12


def test_a_state_that_keeps_padding_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    made, tokens = model("gru"), torch.randint(17, (2, 6))
    positions = torch.stack((torch.arange(6), torch.arange(-3, 3)))
    alone = made(tokens[1:, 3:])
    monkeypatch.setattr(Tensor, "masked_fill", lambda self, *_: self)
    assert (made(tokens, positions=positions)[1:, 3:] - alone).abs().max() > 1e-3


@pytest.mark.parametrize("kind", CELLS)
def test_what_is_carried_survives_as_tensors(kind: str) -> None:
    made, tokens = model(kind), torch.randint(17, (2, 16))
    state, other = made.recurrent_state(2), made.recurrent_state(2)
    assert state is not None
    assert other is not None
    first = made(tokens[:, :8], state)
    other.restore(state.tensors(), torch.device("cpu"))
    second = made(tokens[:, 8:], state)
    assert torch.equal(second, made(tokens[:, 8:], other))
    assert torch.autograd.grad(second.sum(), first, allow_unused=True)[0] is None
    assert other.length == 16


def test_no_memory_is_no_state_and_there_is_no_limit() -> None:
    made = model("rnn")
    assert made.recurrent_state(2, memory=0) is None
    assert made.max_position is None


def test_the_memory_of_an_lstm_is_its_output_and_its_cell() -> None:
    layer, memory = RecurrentLayer("lstm", 3, 4), RecurrentState()
    out = layer(torch.randn(2, 5, 3), [], memory)
    assert torch.equal(memory.tensors()["output"], out[:, -1].detach())
    assert set(memory.tensors()) == {"output", "cell"}


def test_a_tied_embedding_of_another_size_is_refused() -> None:
    with pytest.raises(SettingError, match="tie_embeddings=false"):
        Config(vocab_size=5, embedding=16, d_model=32)
