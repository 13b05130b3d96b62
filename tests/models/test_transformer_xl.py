"""Transformer-XL against the paper's formula, written as loops, and against transformers' model."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from scriven.errors import SettingError
from scriven.models import transformer_xl
from scriven.models.transformer_xl import Config, Model
from scriven.nn.attention import Attention
from scriven.nn.cache import Cache, KVCache, SegmentMemory
from scriven.nn.embeddings import (
    AttentionMask,
    DistanceEmbedding,
    ForwardContext,
    RelativePositions,
    forward_context,
)

GOLDEN = Path(__file__).parent / "golden" / "transformer_xl.safetensors"
HEADS, HEAD_WIDTH, WIDTH = 2, 6, 8


@pytest.fixture(autouse=True)
def exact() -> object:
    """Tables are made in float64, too."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def attention(length: int = 40) -> Attention:
    made = Attention(
        WIDTH, HEADS, head_dim=HEAD_WIDTH, bias=False, mask=AttentionMask(causal=True),
        position=RelativePositions(DistanceEmbedding(WIDTH, length), HEADS, HEAD_WIDTH),
    )  # fmt: skip
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(0, 0.5)
    return made


def by_loops(layer: Attention, inputs: Tensor, first: int, padding: list[int]) -> Tensor:
    """Section 3.3, one score at a time; the queries are the inputs from `first` on."""
    position = layer.position
    assert isinstance(position, RelativePositions)
    size = HEADS * HEAD_WIDTH
    w_q, w_k, w_v = layer.qkv.weight.split(size)
    u, v = position.content_bias.view(HEADS, -1), position.distance_bias.view(HEADS, -1)
    rows = []
    for row, text in enumerate(inputs):
        for i in range(first, len(text)):
            heads = []
            for h in range(HEADS):
                part = slice(h * HEAD_WIDTH, (h + 1) * HEAD_WIDTH)
                q = w_q[part] @ text[i]
                seen = [j for j in range(i + 1) if j >= padding[row]] or [0]
                scores = []
                for j in seen:
                    angles = [(i - j) / 10000 ** (2 * n / WIDTH) for n in range(WIDTH // 2)]
                    r = torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles])
                    k = w_k[part] @ text[j]
                    k_r = position.key.weight[part] @ r
                    scores.append((q @ k + q @ k_r + u[h] @ k + v[h] @ k_r) / HEAD_WIDTH**0.5)
                weights = torch.stack(scores).exp()
                weights = weights / weights.sum()
                values = torch.stack([w_v[part] @ text[j] for j in seen])
                heads.append(weights @ values)
            rows.append(layer.out.weight @ torch.cat(heads))
    return torch.stack(rows).view(inputs.size(0), -1, WIDTH)


def same(one: Tensor, other: Tensor, *weights: Tensor) -> None:
    """Values, and the gradient of their squares."""
    assert (one - other).abs().max() < 1e-10
    left = torch.autograd.grad(one.square().sum(), weights)
    right = torch.autograd.grad(other.square().sum(), weights)
    for a, b in zip(left, right, strict=True):
        assert (a - b).abs().max() < 1e-10


@pytest.mark.parametrize("length", [40, 3])
def test_one_segment_equals_the_formula(length: int) -> None:
    """Also where distances go beyond the table."""
    layer, x = attention(length), torch.randn(3, 7, WIDTH, requires_grad=True)
    out = layer(x, forward_context(x[..., 0], None, 0))
    same(out, by_loops(layer, x, 0, [0, 0, 0]), x, *layer.parameters())


def test_a_segment_with_memory_equals_the_formula() -> None:
    layer = attention()
    x = torch.randn(2, 9, WIDTH)
    memory = SegmentMemory(5)
    layer(x[:, :5], forward_context(x[:, :5, 0], None, 0), memory)
    out = layer(x[:, 5:], forward_context(x[:, 5:, 0], None, 5), memory)
    same(out, by_loops(layer, x, 5, [0, 0]), *layer.parameters())
    assert memory.source is not None
    assert torch.equal(memory.source, x[:, 4:])


def test_rows_with_padding_equal_the_formula() -> None:
    layer, x = attention(), torch.randn(2, 6, WIDTH)
    positions = torch.stack((torch.arange(6), torch.arange(-2, 4)))
    out, wanted = layer(x, ForwardContext(positions, unpadded=False)), by_loops(layer, x, 0, [0, 2])
    assert (out[0] - wanted[0]).abs().max() < 1e-10
    assert (out[1, 2:] - wanted[1, 2:]).abs().max() < 1e-10
    same(out[1, 2:], wanted[1, 2:], *layer.parameters())


@pytest.mark.parametrize("rows", [1, 4])
def test_keys_that_are_kept_equal_the_formula(rows: int) -> None:
    """Step by step, by way of either order of the products."""
    layer, x = attention(), torch.randn(rows, 12, WIDTH)
    wanted = by_loops(layer, x, 0, [0] * rows)
    cache = KVCache(rows, 12, HEADS, HEAD_WIDTH, torch.float64, torch.device("cpu"))
    with torch.no_grad():
        parts = [layer(x[:, :7], forward_context(x[:, :7, 0], None, 0), cache)]
        parts += [
            layer(x[:, t : t + 1], forward_context(x[:, :1, 0], None, t), cache)
            for t in range(7, 12)
        ]
    assert (torch.cat(parts, 1) - wanted).abs().max() < 1e-10


@pytest.mark.parametrize("name", ["content_bias", "distance_bias", "key.weight"])
def test_a_planted_error_in_each_term_is_noticed(name: str) -> None:
    layer, x = attention(), torch.randn(1, 5, WIDTH)
    wanted = by_loops(layer, x, 0, [0])
    with torch.no_grad():
        dict(layer.position.named_parameters())[name].view(-1)[0] += 1e-6
    assert (layer(x, forward_context(x[..., 0], None, 0)) - wanted).abs().max() > 1e-10


def test_a_shift_by_one_place_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = attention(), torch.randn(1, 5, WIDTH)
    wanted = by_loops(layer, x, 0, [0])
    real = DistanceEmbedding.forward
    monkeypatch.setattr(DistanceEmbedding, "forward", lambda self, n: real(self, n + 1)[1:])
    assert (layer(x, forward_context(x[..., 0], None, 0)) - wanted).abs().max() > 1e-3


OURS = {
    "dec_attn.qkv_net.weight": "attention.qkv.weight",
    "dec_attn.o_net.weight": "attention.out.weight",
    "dec_attn.r_net.weight": "attention.position.key.weight",
    "dec_attn.r_w_bias": "attention.position.content_bias",
    "dec_attn.r_r_bias": "attention.position.distance_bias",
    "dec_attn.layer_norm.weight": "attention_norm.weight",
    "dec_attn.layer_norm.bias": "attention_norm.bias",
    "pos_ff.CoreNet.0.weight": "mlp.up.weight",
    "pos_ff.CoreNet.0.bias": "mlp.up.bias",
    "pos_ff.CoreNet.3.weight": "mlp.down.weight",
    "pos_ff.CoreNet.3.bias": "mlp.down.bias",
    "pos_ff.layer_norm.weight": "mlp_norm.weight",
    "pos_ff.layer_norm.bias": "mlp_norm.bias",
}


def ours(kept: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    """The tensors `start.*` of the golden file under our names."""
    found = {"embed.token.weight": kept[f"{start}.word_emb.emb_layers.0.weight"]}
    for name, tensor in kept.items():
        if name.startswith(f"{start}.layers."):
            _, _, layer, rest = name.split(".", 3)
            flat = tensor.flatten() if rest.endswith("_bias") else tensor
            found[f"blocks.{layer}.{OURS[rest]}"] = flat
    return found


def differences(dtype: torch.dtype, spoil: str | None = None) -> dict[str, float]:
    """Largest differences to the golden file, by name."""
    kept = load_file(GOLDEN)
    settings = Config(
        vocab_size=23,
        context_length=7,
        memory=9,
        layers=3,
        heads=2,
        d_model=16,
        head_dim=6,
        d_ff=20,
    )
    model = Model(settings).to(dtype)
    model.load_state_dict(ours(kept, "weight"))
    if spoil is not None:
        with torch.no_grad():
            dict(model.named_parameters())[spoil].view(-1)[0] += 1e-6
    state, total = model.recurrent_state(2), torch.zeros((), dtype=dtype)
    assert state is not None
    found: dict[str, float] = {}
    for number in range(3):
        tokens, targets = kept[f"{number}.tokens"], kept[f"{number}.targets"]
        inputs: list[Tensor] = []
        hooks = [
            block.register_forward_pre_hook(lambda _, given, kept=inputs: kept.append(given[0]))
            for block in model.blocks
        ]
        hidden = model(tokens, state)
        for hook in hooks:
            hook.remove()
        every = torch.stack([*inputs, hidden])
        found[f"{number}.hidden"] = gap(every, kept[f"{number}.hidden"])
        memory = torch.stack([layer.self_attn.source for layer in state.layers])  # type: ignore[union-attr]
        found[f"{number}.memory"] = gap(memory, kept[f"{number}.memory"])
        scores = hidden @ model.embed.token.weight.T
        total = total + F.cross_entropy(scores.flatten(0, 1), targets.flatten(), reduction="sum")
    total.backward()
    found["loss"] = gap(total, kept["loss"])
    for name, wanted in ours(kept, "gradient").items():
        grad = dict(model.named_parameters())[name].grad
        assert grad is not None
        found[name] = gap(grad, wanted)
    return found


def gap(one: Tensor, other: Tensor) -> float:
    """Largest difference; of gradients and sums larger than one, in proportion."""
    assert one.shape == other.shape
    return float((one.detach().double() - other).abs().max()) / max(1.0, float(other.abs().max()))


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_three_segments_equal_transformers(dtype: torch.dtype, limit: float) -> None:
    found = differences(dtype)
    assert max(found.values()) < limit, found
    assert len(found) == 3 * 2 + 1 + 1 + 3 * len(OURS)


@pytest.mark.parametrize(
    "name", ["embed.token.weight", "blocks.1.attention.position.key.weight", "blocks.2.mlp.up.bias"]
)
def test_a_planted_error_is_noticed(name: str) -> None:
    assert max(differences(torch.float64, spoil=name).values()) > 1e-9


def model(**changes: object) -> Model:
    made = Model(Config(vocab_size=19, context_length=8, layers=3, heads=2, d_model=16, **changes))  # type: ignore[arg-type]
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(0, 0.3)
    return made.eval()


def segments(made: Model, tokens: Tensor, state: Cache | None, size: int) -> Tensor:
    return torch.cat([made(part, state) for part in tokens.split(size, 1)], 1)


@pytest.mark.parametrize("size", [1, 5, 8])
def test_segment_by_segment_equals_the_whole_when_the_memory_holds_it(size: int) -> None:
    made, tokens = model(), torch.randint(19, (3, 24))
    with torch.no_grad():
        whole = made(tokens)
        enough = 23 // size * size
        parts = segments(made, tokens, made.recurrent_state(3, memory=enough), size)
        assert (parts - whole).abs().max() < 1e-12
        short = segments(made, tokens, made.recurrent_state(3, memory=enough - 1), size)
        assert (short - whole)[:, enough:].abs().max() > 1e-6


def test_without_memory_each_segment_stands_alone() -> None:
    made, tokens = model(), torch.randint(19, (2, 16))
    with torch.no_grad():
        parts = segments(made, tokens, made.recurrent_state(2, memory=0), 8)
        assert (parts[:, 8:] - made(tokens[:, 8:])).abs().max() < 1e-12


def test_the_memory_is_as_long_as_asked_for() -> None:
    made, tokens = model(memory=6, evaluation_memory=11), torch.randint(19, (2, 16))
    for training, asked, wanted in ((True, None, 6), (False, None, 11), (False, 3, 3)):
        made.train(training)
        state = made.recurrent_state(2, asked)
        assert state is not None
        segments(made, tokens, state, 8)
        assert [layer.self_attn.source.size(1) for layer in state.layers] == [wanted] * 3  # type: ignore[union-attr]
    assert made.max_position == 8 + 11


def test_what_is_carried_survives_as_tensors() -> None:
    made, tokens = model(), torch.randint(19, (2, 16))
    state, other = made.recurrent_state(2), made.recurrent_state(2)
    assert state is not None
    assert other is not None
    with torch.no_grad():
        made(tokens[:, :8], state)
        other.restore(state.tensors(), torch.device("cpu"))
        assert torch.equal(made(tokens[:, 8:], state), made(tokens[:, 8:], other))
        assert other.length == 16


def test_the_gradient_stops_at_the_memory() -> None:
    made, tokens = model(), torch.randint(19, (1, 16))
    state = made.recurrent_state(1)
    first = made(tokens[:, :8], state)
    second = made(tokens[:, 8:], state)
    assert torch.autograd.grad(second.sum(), first, allow_unused=True)[0] is None


@pytest.mark.parametrize(
    "change", [{"d_model": 15, "heads": 3}, {"memory": -1}, {"evaluation_memory": -2}]
)
def test_impossible_shapes_are_refused_by_name(change: dict[str, int]) -> None:
    with pytest.raises(SettingError, match=next(iter(change))):
        Config(vocab_size=5, **change)


def test_there_is_no_twin_elsewhere() -> None:
    assert transformer_xl.Model.to_hf_config(Config(vocab_size=5)) is None
