"""A new architecture is one new file: nothing else has to know it."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import test_contract as contract

import scriven.models
from scriven import registry
from scriven.models.shared.cost import cache_bytes, flops_per_token
from scriven.nn.lora import add_lora, lora_adapters

COPY = (Path(scriven.models.__path__[0]) / "gpt2.py").read_text()

MIXTURE = '''"""A tiny mixture of experts: parameters of rank 1 and 3, and an auxiliary loss."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..nn.block import Block, init_weights, normal, ones, zeros
from ..nn.embeddings import Embedding, LearnedPositions
from ..nn.norm import LayerNorm
from . import gpt2
from .base import Architecture, TransformerConfig


@dataclass(frozen=True)
class Config(TransformerConfig):
    """The shape of the model."""

    experts: int = 3
    """Experts of each feed-forward layer."""


class Mixture(nn.Module):
    """sum_e softmax(x R)_e s relu(x U_e) D_e"""

    def __init__(self, config: Config) -> None:
        super().__init__()
        count, inner, width = config.experts, config.ff_size, config.d_model
        self.router = nn.Linear(width, count, bias=False)
        self.up_weight = nn.Parameter(torch.zeros(count, width, inner))
        self.down_weight = nn.Parameter(torch.zeros(count, inner, width))
        self.scale = nn.Parameter(torch.ones(width))
        self.balance: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        share = self.router(x).softmax(-1)  # (B, T, E)
        self.balance = share.size(-1) * share.flatten(0, 1).mean(0).square().sum()
        inner = torch.einsum("btc,ecf->btef", x, self.up_weight).relu()
        out = torch.einsum("btef,efc->btec", inner, self.down_weight)
        return (share.unsqueeze(-1) * out).sum(2) * self.scale


def block(config: Config) -> Block:
    made = gpt2.block(config)
    made.mlp = Mixture(config)
    return made


class Model(Architecture):
    """GPT-2 with experts."""

    config: Config

    def __init__(self, config: Config) -> None:
        position = LearnedPositions(config.context_length, config.d_model)
        embed = Embedding(config.vocab_size, config.d_model, position, config.dropout)
        blocks = [block(config) for _ in range(config.layers)]
        super().__init__(config, embed, blocks, LayerNorm(config.d_model, config.norm_eps))

    def init_weights(self) -> None:
        table = [("scale", ones), ("norm.weight", ones), ("bias", zeros), ("weight", normal(0.02))]
        init_weights(self, table)

    def aux_loss(self) -> Tensor | None:
        losses = [layer.mlp.balance for layer in self.blocks]
        return None if losses[0] is None else torch.stack(losses).mean() - 1  # 0 if balanced

    @classmethod
    def inactive_weights(cls, config: Config) -> int:
        inactive = config.experts - 1  # as if a token went through one expert
        return config.layers * inactive * 2 * config.d_model * config.ff_size
'''

FILES = {"copied": COPY, "mixture": MIXTURE}

SAME_FOR_ALL = [
    contract.test_hidden_states_have_the_shape_of_the_input,
    contract.test_a_later_token_never_changes_an_earlier_output,
    contract.test_cached_logits_equal_uncached_ones,
    contract.test_left_padding_changes_nothing,
    contract.test_rows_do_not_see_each_other,
    contract.test_every_parameter_learns_and_has_one_optimizer_role,
    contract.test_it_learns_a_batch_by_heart,
    contract.test_counting_without_memory_equals_the_built_model,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Both files lie in a folder that counts as models/."""
    folder = tmp_path_factory.mktemp("models")
    for name, text in FILES.items():
        (folder / f"{name}.py").write_text(text)
    scriven.models.__path__.append(str(folder))
    yield
    scriven.models.__path__.remove(str(folder))


@pytest.fixture(params=FILES)
def module(request: pytest.FixtureRequest, folder: None) -> ModuleType:
    return registry.module("scriven.models", request.param)


@pytest.fixture
def mixture(folder: None) -> ModuleType:
    return registry.module("scriven.models", "mixture")


@pytest.mark.parametrize("check", SAME_FOR_ALL, ids=lambda check: check.__name__)
def test_a_new_file_keeps_the_contract(module: ModuleType, check: Any) -> None:
    check(module)


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_a_copy_of_gpt2_converts_to_transformers_and_back(
    folder: None, tie_embeddings: bool
) -> None:
    copied = registry.module("scriven.models", "copied")
    contract.test_hf_weights_there_and_back_are_bit_equal(copied, tie_embeddings)
    config = copied.Config(vocab_size=11, d_ff=64)
    assert copied.Config(**copied.Model.from_hf_config(copied.Model.to_hf_config(config))) == config


def test_every_hook_has_a_default(mixture: ModuleType) -> None:
    """The mixture says nothing about these."""
    model, config = mixture.Model, mixture.Config(vocab_size=11)
    assert (model.kind, model.pretraining_task, model.position_kind) == (
        "decoder", "language", "learned",
    )  # fmt: skip
    assert not model.is_recurrent and not model.grows_context
    assert model.to_hf_config(config) is None and model.from_hf_config({"model_type": "x"}) is None
    assert model.mixing_flops(config) is None and model.state_size(config) is None


def test_the_auxiliary_loss_is_there_after_a_forward_pass(mixture: ModuleType) -> None:
    task = contract.make(mixture)
    assert task.backbone.aux_loss() is None
    contract.read(task, contract.tokens())
    loss = task.backbone.aux_loss()
    assert loss is not None and loss.dim() == 0 and 0 <= loss.item() <= 2


def test_the_auxiliary_loss_is_a_part_of_the_training_loss_alone(mixture: ModuleType) -> None:
    task = contract.make(mixture)
    batch = task.training_batch(contract.tokens(3, task.window), 0, 1)
    trained, measured = task.train()(batch), task.eval()(batch)
    added = (trained.loss - measured.loss) / trained.tokens
    assert added.item() == pytest.approx(task.backbone.aux_loss().item(), rel=1e-12)


def test_weights_a_token_does_not_pass_through_cost_no_flops(mixture: ModuleType) -> None:
    one, three = (contract.make(mixture, experts=count) for count in (1, 3))
    routers = 2 * 3 * 2 * 32  # two more columns in each of three routers
    difference = flops_per_token(three)["forward"] - flops_per_token(one)["forward"]
    assert difference == routers
    assert cache_bytes(one) == cache_bytes(three) > 0


def test_layers_of_a_new_file_are_adapted_by_name(mixture: ModuleType) -> None:
    task = contract.make(mixture)
    add_lora(task, 2, targets=mixture.Model.LORA_TARGETS)
    assert {name.split(".")[-2] for name in lora_adapters(task)} == {"qkv", "out"}
