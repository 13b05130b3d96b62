"""FLOPs by formula equal those that torch counts while a model runs; caches equal the real ones."""

from types import ModuleType
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scriven import config, registry
from scriven.data.batch import Batch
from scriven.inspect import inspect
from scriven.models.shared import cost
from scriven.nn import attention
from scriven.nn.attention import naive_attention
from scriven.nn.embeddings import AttentionMask
from scriven.tasks.base import BaseTask
from scriven.train import scaling_laws

B, T, V, W, LAYERS = 2, 24, 41, 32, 3
SHAPE: dict[str, object] = {"vocab_size": V, "context_length": T, "layers": LAYERS, "d_model": W}
PLAIN = ("gpt1", "gpt2", "gpt3", "llama", "roberta", "transformer")
"""Architectures whose FLOPs are those of their weights and of attention, and nothing else."""

ATTENTION = dict.fromkeys(PLAIN, LAYERS) | {"transformer": 3 * LAYERS}
"""Attention layers: an encoder-decoder's three for each of its layers."""


def made(name: str, **changes: object) -> tuple[ModuleType, BaseTask]:
    module = registry.module("scriven.models", name)
    model = config.replace(module.Config(), {**SHAPE, **changes}, "model")
    task: BaseTask = registry.module("scriven.tasks", module.Model.pretraining_task).Task(
        module.Model(model), special={"eos": 0, "pad": 1, "mask": 2}
    )
    task.init_weights()
    return module, task


def counted(task: BaseTask, state: Any = None) -> tuple[int, int]:
    """FLOPs of one forward pass of (B, T) as torch counts them: with weights, and between."""
    tokens = torch.randint(3, V, (B, T))
    source = torch.randint(3, V, (B, T)) if pretraining_of(task) == "seq2seq" else None
    batch = Batch(tokens, tokens, source=source)
    with pytest.MonkeyPatch.context() as patch, FlopCounterMode(display=False) as counter:
        patch.setattr(
            attention, "scaled_dot_product_attention", naive_attention
        )  # fused kernels are not counted
        task(batch, state)
    found = {str(op): flops for op, flops in counter.get_flop_counts()["Global"].items()}
    between = sum(flops for op, flops in found.items() if "bmm" in op)
    return sum(found.values()) - between, between


def pretraining_of(task: BaseTask) -> str:
    return type(task).__module__.rpartition(".")[2]


def formula(module: ModuleType, task: BaseTask) -> tuple[int, int]:
    """The same by `cost`, for (B, T)."""
    forward = cost.flops_per_token(task)["forward"]
    between = cost.flops_per_token(task)["between"]
    return (forward - between) * B * T, between * B * T


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_products_with_weights_are_those_that_torch_counts(name: str, tie_embeddings: bool) -> None:
    module, task = made(name, tie_embeddings=tie_embeddings)
    assert formula(module, task)[0] == counted(task)[0]


@pytest.mark.parametrize("name", PLAIN)
def test_attention_is_what_torch_counts_less_the_hidden_pairs(name: str) -> None:
    """Plain products compute every pair and hide some; the formula counts the visible ones."""
    module, task = made(name, **({"window": 5} if name == "gpt3" else {}))
    places = torch.arange(T)
    rules = {
        "roberta": [AttentionMask(causal=False)] * LAYERS,
        "gpt3": [AttentionMask(), AttentionMask(window=5), AttentionMask()],
        "transformer": [AttentionMask(causal=False)] * 2 * LAYERS + [AttentionMask()] * LAYERS,
    }.get(name, [AttentionMask()] * LAYERS)
    visible = sum(int(rule.allowed(places, places).sum()) for rule in rules)
    whole = ATTENTION[name] * T * T
    assert counted(task)[1] == 4 * W * whole * B
    # rounded down to whole FLOPs per token and layer
    assert abs(formula(module, task)[1] - 4 * W * visible * B) <= len(rules) * B * T


@pytest.mark.parametrize(
    "rule", [AttentionMask(), AttentionMask(window=7), AttentionMask(causal=False)]
)
@pytest.mark.parametrize("context", [1, 6, 7, 8, 30])
def test_pairs_are_those_of_the_mask(rule: AttentionMask, context: int) -> None:
    places = torch.arange(context)
    assert cost.attended_pairs(rule, context) == int(rule.allowed(places, places).sum())


@pytest.mark.filterwarnings("ignore:TF32")
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_recurrent_network_costs_its_weights(cell: str) -> None:
    module, task = made("rnn", cell=cell)
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):  # whose LSTM is one piece
        assert formula(module, task) == (counted(task)[0], 0)


def test_transformer_xl_costs_what_torch_counts_less_the_hidden_pairs() -> None:
    """Distances are projected once for all rows, and counted once per token (`mixing_flops`)."""
    memory = 16
    module, task = made("transformer_xl", memory=memory)
    state = task.backbone.recurrent_state(B)
    for _ in range(2):  # the second segment sees a full memory
        weights, between = counted(task, state)
    seen = memory + T
    hidden = LAYERS * B * (T * (T - 1) // 2) * 6 * W + LAYERS * B * T * 2 * W  # and distance S
    distances = LAYERS * 2 * W * W * (B * T - (seen + 1))
    ours = sum(formula(module, task))
    assert ours == pytest.approx(weights + between - hidden + distances, rel=0.01)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt3"])
def test_cache_is_what_the_engine_allocates(name: str) -> None:
    _, task = made(name)
    kept = [memory.self_attn for memory in task.backbone.new_cache(1, T).layers]
    size = sum(cache.keys.nbytes + cache.values.nbytes for cache in kept)  # type: ignore
    assert cost.cache_bytes(task) == size


def test_grouped_heads_shrink_the_cache() -> None:
    whole, grouped = (
        cost.cache_bytes(made("llama", heads=4, kv_heads=kv_heads)[1]) for kv_heads in (4, 1)
    )
    assert whole == 4 * grouped


def test_a_model_that_fills_gaps_keeps_nothing() -> None:
    assert cost.cache_bytes(made("roberta")[1]) == 0


def test_an_encoder_decoder_keeps_both_sides_and_the_source() -> None:
    own = cross = LAYERS * 2 * W * T
    assert cost.cache_bytes(made("transformer")[1]) == 4 * (own + cross + W * T)


def test_a_memory_makes_the_cache_longer() -> None:
    assert cost.cache_bytes(made("transformer_xl", memory=16)[1]) == 4 * LAYERS * 2 * W * (T + 16)


def test_gpt2_small_agrees_with_the_formula_of_the_literature() -> None:
    """6 N + 12 L H Q T per trained token (Chowdhery et al. 2022, PaLM, appendix B), where N is all
    weights but the positions; it counts the half that a causal mask hides."""
    data = inspect("gpt2-small")
    count = 124_439_808 - 1024 * 768
    literature = 6 * count + 12 * 12 * 12 * 64 * 1024
    hidden = 12 * 12 * 12 * 64 * 1023 // 2
    assert data["flops_training"] == pytest.approx(literature - hidden, rel=0.001)


def test_the_bytes_of_training_cover_an_encoder_and_a_model_without_heads() -> None:
    both, half = (made("transformer", encoder_layers=n)[1].backbone.config for n in (3, 1))
    assert scaling_laws.training_bytes(both, 0, 100) > scaling_laws.training_bytes(half, 0, 100)
    recurrent = made("rnn")[1].backbone.config
    assert scaling_laws.training_bytes(recurrent, 0, 100) > 0


def test_counting_look_ups_as_products_is_noticed() -> None:
    """A planted bug: the embedding's table counted as a product, as if it were a head."""
    module, task = made("gpt2", tie_embeddings=False)
    wrong = formula(module, task)[0] + 2 * V * W * B * T
    assert wrong != counted(task)[0]
