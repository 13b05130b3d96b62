"""Weights laid out for writing: the same products, as far as their precision goes."""

from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F

from scriven.errors import SettingError
from scriven.generate import inference_model as inference_module
from scriven.generate.inference_model import prepare_for_inference
from scriven.models import gpt2, llama, transformer, transformer_xl
from scriven.nn import attention, quantized
from scriven.nn.cache import KVCache
from scriven.nn.lora import add_lora
from scriven.nn.quantized import PRECISIONS, PackedLinear, check_precision
from scriven.runtime import Runtime
from scriven.tasks.base import BaseTask
from scriven.tasks.language import Language
from scriven.tasks.seq2seq import Task as Seq2seq

PLAIN = Runtime(torch.device("cpu"), torch.float32, 1, {})


def has_bfloat16() -> bool:
    """Whether this CPU has packed products in bfloat16, which need AVX-512 or AVX-NE-CONVERT."""
    try:
        check_precision("bfloat16")
    except SettingError:
        return False
    return True


NEEDS_BFLOAT16 = pytest.mark.skipif(not has_bfloat16(), reason="no bfloat16 matmul on this CPU")
ON_THIS_CPU = [
    pytest.param(name, marks=NEEDS_BFLOAT16) if name == "bfloat16" else name for name in PRECISIONS
]
ALL = {"gpt2": gpt2, "llama": llama, "transformer_xl": transformer_xl, "transformer": transformer}


def make(name: str) -> BaseTask:
    module = ALL[name]
    torch.manual_seed(3)
    model = module.Model(
        module.Config(vocab_size=50, context_length=32, layers=2, heads=2, d_model=64, dropout=0.0)
    )
    task = (Seq2seq if name == "transformer" else Language)(
        model, special={"eos": 0, "pad": 1, "mask": 2, "unk": 3}
    )
    with torch.no_grad():
        for weight in task.parameters():
            weight.normal_(0, 0.08)
    return task.eval()


def logits(task: BaseTask, tokens: torch.Tensor) -> torch.Tensor:
    """Read in two parts, the second one token after the other."""
    found = []
    with torch.inference_mode():
        state = task.backbone.new_cache(len(tokens), 32)
        if task.backbone.kind == "encoder-decoder":
            task.backbone.encode_source(tokens.flip(1), None, state)
        for part in (tokens[:, :9], *tokens[:, 9:].split(1, 1)):
            found.append(task.next_logits(task.backbone(part, state), state))
    return torch.cat(found, 1)


@pytest.mark.parametrize("precision", ON_THIS_CPU)
@pytest.mark.parametrize("inputs", [1, 4, 40])
@pytest.mark.parametrize("bias", [True, False])
def test_a_product_is_that_of_the_float_weights(
    precision: str, inputs: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(quantized, "MAX_WEIGHT_ONLY_WORK", 10 * 96 * 64)
    weight, x = torch.randn(96, 64), torch.randn(inputs, 2, 64)
    added = torch.randn(96) if bias else None
    layer = check_precision(precision)(weight, added)
    true = F.linear(x, weight, added)
    bound = {"bfloat16": 0.006, "int8": 0.02, "int4": 0.15}[precision]
    for found, part in ((layer(x), slice(None)), (layer.rows(x, 10, 50), slice(10, 50))):
        error = (found.float() - true[..., part]).norm() / true[..., part].norm()
        assert found.dtype == torch.bfloat16
        assert 0 < error < bound


def test_inputs_are_not_rounded_where_bytes_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of bytes that stop at 32,767, as those of older processors do."""

    def overflowing(weight: torch.Tensor, scale: torch.Tensor) -> quantized.Matmul:
        def multiply(x: torch.Tensor) -> torch.Tensor:
            products = (x.float()[:, None] * weight.float()).unflatten(-1, (-1, 2))
            sums = products.sum(-1).clamp(-32768, 32767).sum(-1)
            return (sums - quantized.ZERO_POINT * weight.float().sum(1)) * scale

        return multiply

    def error() -> float:
        found: torch.Tensor = PRECISIONS["int8"](weight)(x).float()
        return float((found - true).norm() / true.norm())

    torch.manual_seed(0)
    weight, x = torch.randn(96, 64), torch.rand(40, 64)
    true = F.linear(x, weight)
    monkeypatch.setattr(quantized, "MAX_WEIGHT_ONLY_WORK", 0)
    monkeypatch.setattr(quantized, "_uint8_matmul", overflowing)
    asked = cache(quantized._uint8_is_exact.__wrapped__)
    monkeypatch.setattr(quantized, "_uint8_is_exact", lambda: True)
    assert error() > 0.1, "what the bytes would give"
    monkeypatch.setattr(quantized, "_uint8_is_exact", asked)
    assert error() < 0.02


@pytest.mark.parametrize("precision", ON_THIS_CPU)
@pytest.mark.parametrize("name", list(ALL))
def test_a_twin_says_about_the_same(name: str, precision: str) -> None:
    task = make(name)
    tokens = torch.randint(4, 50, (3, 20))
    before = logits(task, tokens)
    twin = prepare_for_inference(task, PLAIN, precision)
    assert any(isinstance(each, PackedLinear) for each in twin.modules())
    after = logits(twin, tokens)
    bound = 0.3 if precision == "int4" else 0.05
    assert 0 < (after - before).norm() / before.norm() < bound
    assert torch.equal(logits(task, tokens), before), "the task itself changed"


@NEEDS_BFLOAT16
@pytest.mark.parametrize("kept", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", list(ALL))
def test_keys_are_kept_as_the_processor_wants_them(
    name: str, kept: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "decode_kv_dtype", lambda: kept)
    task = make(name)
    tokens = torch.randint(4, 50, (3, 20))
    before = logits(task, tokens)
    twin = prepare_for_inference(task, PLAIN, "bfloat16")
    own = twin.backbone.new_cache(3, 32).layers[0].self_attn
    assert not isinstance(own, KVCache) or own.keys.dtype == kept
    assert 0 < (logits(twin, tokens) - before).norm() / before.norm() < 0.05


@pytest.mark.parametrize("name", list(ALL))
def test_in_float32_nothing_changes_and_nothing_is_copied(name: str) -> None:
    task = make(name)
    tokens = torch.randint(4, 50, (3, 20))
    twin = prepare_for_inference(task, PLAIN, "float32")
    torch.testing.assert_close(logits(twin, tokens), logits(task, tokens), rtol=0, atol=1e-6)
    mine = {id(weight) for weight in task.parameters()}
    assert {id(weight) for weight in twin.parameters()} == mine


@NEEDS_BFLOAT16
def test_planted_bug_another_scale_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make("llama")
    tokens = torch.randint(4, 50, (3, 20))
    before = logits(task, tokens)
    pack = PackedLinear._pack
    monkeypatch.setattr(
        PackedLinear, "_pack", lambda layer, weight, bias: pack(layer, 1.2 * weight, bias)
    )
    after = logits(prepare_for_inference(task, PLAIN, "bfloat16"), tokens)
    assert (after - before).norm() / before.norm() > 0.05


@NEEDS_BFLOAT16
def test_adapters_are_part_of_the_weights() -> None:
    task = make("llama")
    add_lora(task, 4)
    with torch.no_grad():
        for name, weight in task.named_parameters():
            if "lora" in name:
                weight.normal_(0, 0.3)
    tokens = torch.randint(4, 50, (3, 20))
    before = logits(task, tokens)
    after = logits(prepare_for_inference(task, PLAIN, "bfloat16"), tokens)
    assert (after - before).norm() / before.norm() < 0.05


@NEEDS_BFLOAT16
def test_small_models_keep_their_digits_and_large_ones_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task, half = make("llama"), replace(PLAIN, dtype=torch.bfloat16)

    def packed() -> bool:
        return any(
            isinstance(each, PackedLinear) for each in prepare_for_inference(task, half).modules()
        )

    assert not packed()
    monkeypatch.setattr(inference_module, "MIN_BFLOAT16_WEIGHTS", 1000)
    assert packed()
    monkeypatch.setattr(inference_module, "MIN_HEAD_WEIGHTS", 1000)
    assert isinstance(prepare_for_inference(task, half).head, PackedLinear), (
        "the tied output matrix too"
    )


def test_what_a_processor_lacks_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(layer: PackedLinear, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        raise NotImplementedError("no such kernel")

    monkeypatch.setattr(PackedLinear, "_pack", lacking)
    with pytest.raises(SettingError, match="--dtype=bfloat16"):
        prepare_for_inference(make("llama"), PLAIN, "bfloat16")
    monkeypatch.setattr(inference_module, "MIN_BFLOAT16_WEIGHTS", 1000)
    half = replace(PLAIN, dtype=torch.bfloat16)
    assert not any(
        isinstance(each, PackedLinear)
        for each in prepare_for_inference(make("llama"), half).modules()
    )
    with pytest.raises(SettingError, match="for CPUs"):
        prepare_for_inference(make("llama"), replace(PLAIN, device=torch.device("cuda")), "int8")
