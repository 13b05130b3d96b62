"""Each family of transformers becomes one of our architectures: same logits, and back again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the hf extra is not installed")

import families
import torch.nn.functional as F
import transformers
from families import FAMILIES, T, V
from safetensors.torch import save_file

from scriven.models import llama
from scriven.nn import block as nn_block
from scriven.nn.embeddings import AttentionMask
from scriven.nn.norm import RMSNorm
from scriven.tasks.base import BaseTask

DECODERS = [name for name, (family, _) in FAMILIES.items() if family not in families.LAST]
TOKENS = torch.randint(4, V, (2, T), generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def exact_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(F, "softmax", families.softmax)


def logits(task: BaseTask, tokens: torch.Tensor = TOKENS, **given: Any) -> torch.Tensor:
    return task.logits(task.backbone(tokens, **given))


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_float64_logits_equal(name: str) -> None:
    theirs = families.exact(families.theirs(name))
    task, _ = families.ours(theirs)
    reference = theirs(TOKENS).logits
    assert reference.std() > 0.1
    assert (logits(task) - reference).abs().max() < 1e-10


@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_decoding_with_a_cache_equals_one_pass(name: str) -> None:
    """Prefill in chunks, single tokens, and rows of different length."""
    task, _ = families.ours(families.theirs(name))
    whole = logits(task)
    cache = task.backbone.new_cache(2, T)
    parts = [task.backbone(TOKENS[:, :9], cache)]
    parts += [task.backbone(TOKENS[:, t : t + 1], cache) for t in range(9, 13)]
    parts.append(task.backbone(TOKENS[:, 13:], cache))
    assert (task.logits(torch.cat(parts, 1)) - whole).abs().max() < 1e-12
    # the second row goes back to position 5, and on from there, beside a first row at 12
    cache.truncate(12)
    positions = torch.tensor([[12, 13], [5, 6]])
    tokens = torch.stack((TOKENS[0, 12:14], TOKENS[1, 5:7]))
    found = task.logits(task.backbone(tokens, cache, positions))
    wanted = torch.stack((whole[0, 12:14], whole[1, 5:7]))
    assert (found - wanted).abs().max() < 1e-12


@pytest.mark.parametrize("name", FAMILIES)
def test_exported_again_it_is_the_same_model_of_transformers(name: str, tmp_path: Path) -> None:
    theirs = families.theirs(name, torch.float32)
    task, module = families.ours(theirs)
    config = task.backbone.config
    hf_config = module.Model.to_hf_config(config)
    assert hf_config["architectures"] == [type(theirs).__name__]
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    (tmp_path / "config.json").write_text(json.dumps({**hf_config, **special}))
    weights = module.Model.to_hf_weights(config, task.state_dict())
    save_file({key: each.contiguous() for key, each in weights.items()},
              tmp_path / "model.safetensors", {"format": "pt"})  # fmt: skip
    again, report = type(theirs).from_pretrained(
        tmp_path, attn_implementation="eager", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    with torch.no_grad():
        reference = theirs(TOKENS).logits
        assert (again.eval()(TOKENS).logits - reference).abs().max() < 1e-4 * reference.std()


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_read_from_our_config_is_the_same_config(name: str) -> None:
    _, module, config = families.architecture_of(
        families.stored_config(families.theirs(name, torch.float32))
    )
    again = module.Model.from_hf_config(module.Model.to_hf_config(config))
    assert again == {field: getattr(config, field) for field in again}


@pytest.mark.parametrize("name", FAMILIES)
def test_five_steps_lower_the_loss(name: str) -> None:
    task, _ = families.ours(families.theirs(name, torch.float32))
    for part in task.modules():  # tables of the test are float64
        for buffer in ("cos", "sin"):
            if hasattr(part, buffer):
                setattr(part, buffer, getattr(part, buffer).float())
    optimizer = torch.optim.AdamW(task.train().parameters(), 1e-2)
    losses = []
    for _ in range(6):
        loss = F.cross_entropy(logits(task)[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(weight.grad is not None for weight in task.parameters())


# One planted bug for each mechanism


def change(**fields: Any) -> Callable[[BaseTask], None]:
    """Another value of a field of every attention layer."""

    def plant(task: BaseTask) -> None:
        for block in task.backbone.blocks:
            for name, value in fields.items():
                setattr(block.attention, name, value)

    return plant


def other_residual(task: BaseTask) -> None:
    task.backbone.blocks[1].residual = nn_block.pre_norm


def before_alone(task: BaseTask) -> None:
    task.backbone.blocks[1].residual = lambda x, norm, f: x + f(norm.before(x))


def no_offset(task: BaseTask) -> None:
    for part in task.modules():
        if isinstance(part, RMSNorm):
            part.offset = 0.0


def one_table(task: BaseTask) -> None:
    """Sliding layers rotate as full ones."""
    kinds = task.backbone.config.kinds
    full = task.backbone.blocks[kinds.index("full")].attention.position
    task.backbone.blocks[kinds.index("sliding")].attention.position = full


def unscaled(task: BaseTask) -> None:
    position = task.backbone.blocks[0].attention.position
    position.periods = [10000.0 ** (2 * i / 6) for i in range(3)]
    position.cos, position.sin = position._tables(torch.arange(40), torch.float64)


def no_factor(task: BaseTask) -> None:
    position = task.backbone.blocks[0].attention.position
    position.cos, position.sin = position.cos / position.factor, position.sin / position.factor


def all_rotated(task: BaseTask) -> None:
    kinds = task.backbone.config.kinds
    rotation = task.backbone.blocks[0].attention.position
    task.backbone.blocks[kinds.index("nope")].attention.position = rotation


def whole_heads(task: BaseTask) -> None:
    position = task.backbone.blocks[0].attention.position
    other = llama.RotaryEmbedding(position.head_dim, 40, 10000.0).double()
    for block in task.backbone.blocks:
        block.attention.position = other


def serial(task: BaseTask) -> None:
    task.backbone.blocks[1].forward = nn_block.Block.forward.__get__(task.backbone.blocks[1])


def embedding_scale(task: BaseTask) -> None:
    task.backbone.embed.scale = 1.0


def uncapped(task: BaseTask) -> None:
    task.backbone.logit_softcap = None


def no_bias(task: BaseTask) -> None:
    task.backbone.blocks[0].attention.qkv.bias = None


def other_activation(task: BaseTask) -> None:
    task.backbone.blocks[0].mlp.activation = F.gelu


def each_head(task: BaseTask) -> None:
    attention = task.backbone.blocks[0].attention
    attention._norm_heads = lambda qk: F.rms_norm(qk, qk.shape[-1:])


WIDER = change(mask=AttentionMask(window=8))
PLANTED = {
    "llama-linear": unscaled, "llama3": unscaled, "llama-yarn": no_factor, "qwen2": no_bias,
    "qwen2-window": WIDER, "mistral": WIDER, "smollm3": all_rotated, "phi3": WIDER,
    "phi3-partial": whole_heads, "olmo2": each_head, "gemma": no_offset,
    "gemma2": change(softcap=None), "gemma3": one_table, "gpt-neox": serial,
    "gpt-neo": change(scale=None), "bert": other_residual,
}  # fmt: skip
MORE = [
    ("gemma2", uncapped), ("gemma2", embedding_scale), ("gemma2", change(scale=None)),
    ("gemma2", WIDER), ("gemma2", before_alone), ("gemma2", other_activation),
    ("olmo2", other_residual), ("gpt-neox", whole_heads), ("gpt-neo", WIDER),
]  # fmt: skip


@pytest.mark.parametrize(("name", "plant"), [*PLANTED.items(), *MORE])
@torch.no_grad()
def test_a_planted_bug_is_noticed(name: str, plant: Callable[[BaseTask], None]) -> None:
    theirs = families.exact(families.theirs(name))
    task, _ = families.ours(theirs)
    plant(task)
    assert (logits(task) - theirs(TOKENS).logits).abs().max() > 1e-6


def test_every_class_is_tested() -> None:
    from scriven import registry

    tested = {
        f"{family}{families.LAST.get(family, 'ForCausalLM')}" for family, _ in FAMILIES.values()
    }
    named = {
        each.name
        for name in registry.names("scriven.models")
        for each in registry.module("scriven.models", name).Model.hf_classes()
    }
    # these two have tests of their own (test_parity.py, test_transformer.py)
    assert named - tested == {"OpenAIGPTLMHeadModel", "MarianMTModel"}
    assert all(hasattr(transformers, each) for each in named)
    page = (Path(__file__).parents[2] / "docs" / "import.md").read_text(encoding="utf-8")
    assert {each for each in named if f"`{each}`" not in page} == set()
