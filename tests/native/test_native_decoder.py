"""The compiled forward pass, beside the same model in float64 and the engine in PyTorch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from scriven.errors import InputError
from scriven.generate import model_runner
from scriven.generate.continuous_batching import BatchRequest, ContinuousBatch, Step
from scriven.generate.engine import Engine
from scriven.generate.inference_model import prepare_for_inference
from scriven.generate.model_runner import ModelRunner
from scriven.generate.sampling import SamplingParams
from scriven.models import gpt1, gpt2, gpt3, gpt_neo, gpt_neox, llama, rnn, transformer_xl
from scriven.native import decoder
from scriven.native.decoder import LazyDecoder, NativeDecoder, NativeSession
from scriven.native.weights import Description, UnsupportedError
from scriven.nn.lora import add_lora
from scriven.runtime import Runtime
from scriven.settings import TokenizerSettings
from scriven.tasks.base import BaseTask
from scriven.tasks.language import Language
from scriven.tokenizers import byte

CPU = Runtime(torch.device("cpu"), torch.float32, 1, {})
BOUND = 1e-5
"""Relative difference of logits from those in float64; PyTorch's in float32 are 3e-7 to 2e-6."""
SHAPE: dict[str, Any] = {"vocab_size": 53, "context_length": 40, "layers": 2, "d_model": 48}
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (llama, {"heads": 4, "kv_heads": 2}),
    "qwen2": (llama, {"heads": 3, "head_dim": 32, "qk_norm": False, "attention_bias": "qkv"}),
    "mistral": (llama, {"heads": 2, "head_dim": 64, "layer_types": "sliding,full", "window": 5}),
    "phi3": (llama, {"heads": 2, "rope_fraction": 0.5, "tie_embeddings": False}),
    "olmo2": (llama, {"heads": 4, "qk_norm": "all", "norm_position": "output"}),
    "gemma": (llama, {
        "heads": 2, "head_dim": 40, "norm_position": "both", "norm_offset": True,
        "activation": "gelu_tanh", "attention_softcap": 5.0, "logit_softcap": 3.0,
        "scale_embeddings": True, "query_pre_attn_scalar": 30, "mlp_bias": True,
        "layer_types": "sliding,nope", "window": 7, "sliding_rope_theta": 100.0,
    }),
    "wide": (llama, {"layers": 1, "d_model": 320, "heads": 5, "d_ff": 448}),
    "odd": (llama, {"d_model": 36, "heads": 3, "head_dim": 10, "d_ff": 52}),
    "gpt1": (gpt1, {"heads": 3}),
    "gpt2": (gpt2, {"heads": 3}),
    "sinusoidal": (gpt2, {"heads": 2, "positions": "sinusoidal"}),
    "gpt3": (gpt3, {"heads": 3, "window": 4}),
    "gpt_neo": (gpt_neo, {"heads": 2}),
    "gpt_neox": (gpt_neox, {"heads": 2}),
}  # fmt: skip


def make(name: str, **changes: Any) -> Language:
    """A model whose every weight matters."""
    module, settings = MODELS[name]
    torch.manual_seed(0)
    task = Language(module.Model(module.Config(**{**SHAPE, **settings, **changes}))).eval()
    with torch.no_grad():
        for weight in task.parameters():
            weight.add_(
                torch.randn(weight.shape) * (0.5 if weight.dim() == 1 else weight.size(-1) ** -0.5)
            )
    return task


@torch.inference_mode()
def logits(task: BaseTask, ids: Tensor) -> Tensor:
    """(B, T, V) of PyTorch."""
    return task.logits(task.backbone(ids))


@torch.inference_mode()
def native_logits(task: BaseTask, ids: Tensor, dtype: str = "float32", pieces: int = 99) -> Tensor:
    """The same of the native decoder, which reads so many tokens of each row at once."""
    session = NativeSession(NativeDecoder(task, dtype), task.vocab_size, [])
    cache = task.backbone.new_cache(*ids.shape)
    rows = range(len(ids))
    found = [
        session.read(part.tolist(), cache, rows, [start * pieces for _ in rows])
        for start, part in enumerate(ids.split(pieces, 1))
    ]
    return torch.cat([each.view(len(ids), -1, task.vocab_size) for each in found], 1)


def error(found: Tensor, true: Tensor) -> float:
    return float((found - true).norm() / true.norm())


IDS = torch.randint(53, (3, 33), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_float64(name: str) -> None:
    task = make(name)
    found = native_logits(task, IDS)
    true = logits(task.double(), IDS)
    assert error(found, true) < BOUND


PLANTED: dict[str, tuple[str, Callable[[Any], None]]] = {
    "no window": ("mistral", lambda layer: setattr(layer, "window", 0)),
    "half of the rotation": ("llama", lambda layer: setattr(layer, "rotated", 6)),
    "no scale": ("llama", lambda layer: setattr(layer, "scale", 1.0)),
    "another activation": ("gpt2", lambda layer: setattr(layer, "activation", 1)),
    "another residual": ("gpt_neox", lambda layer: setattr(layer, "residual", 0)),
    "no norm of keys": ("olmo2", lambda layer: setattr(layer.key_norm, "kind", 0)),
    "no bias": ("qwen2", lambda layer: setattr(layer.qkv, "bias", None)),
    "no softcap": ("gemma", lambda layer: setattr(layer, "softcap", 0.0)),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_planted_bug_would_be_noticed(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, change = PLANTED[bug]
    describe = Description._layer

    def wrong(self: Description, block: Any) -> Any:
        layer = describe(self, block)
        change(layer)
        return layer

    monkeypatch.setattr(Description, "_layer", wrong)
    task = make(name)
    found = native_logits(task, IDS)
    assert error(found, logits(task.double(), IDS)) > 10 * BOUND


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int4"])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", ["llama", "gpt2", "wide", "odd"])
def test_rows_depend_on_nothing_else_to_the_last_bit(name: str, threads: int, dtype: str) -> None:
    """Neither on other rows, nor on the pieces in which they are read, nor on threads."""
    task, before = make(name), torch.get_num_threads()
    expected = torch.cat([native_logits(task, row[None], dtype, pieces=1) for row in IDS])
    torch.set_num_threads(threads)
    try:
        for pieces in (1, 4, 33):
            assert torch.equal(native_logits(task, IDS, dtype, pieces), expected)
    finally:
        torch.set_num_threads(before)


def rounded(weight: Tensor, dtype: str) -> Tensor:
    """A matrix (out, in) as the formula of its precision stores it, in float64."""
    exact = weight.double()
    if dtype == "bfloat16":
        return exact.float().bfloat16().double()
    groups = torch.nn.functional.pad(exact, (0, -exact.size(1) % 32)).unflatten(1, (-1, 32))
    largest = groups.gather(2, groups.abs().argmax(2, keepdim=True))
    scale, most = (largest / 127, 127) if dtype == "int8" else (largest / -8, 7)
    return ((groups / scale).round().clamp(max=most) * scale).flatten(1)[:, : exact.size(1)]


def rounded_inputs(x: Tensor, dtype: str) -> Tensor:
    """What a CPU that multiplies shorter numbers directly makes of inputs (..., in)."""
    single = x.float()
    if dtype == "bfloat16":
        return single.bfloat16().double()
    groups = torch.nn.functional.pad(single, (0, -x.size(-1) % 32)).unflatten(-1, (-1, 32))
    most = groups.abs().amax(-1, keepdim=True).clamp(min=1e-30)
    values = (groups * (127 / most)).round().double() * (most / 127)
    return values.flatten(-2)[..., : x.size(-1)]


@pytest.mark.parametrize("dtype", ["bfloat16", "int8", "int4"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "wide", "odd"])
def test_shorter_weights_are_rounded_by_their_formula(name: str, dtype: str) -> None:
    task = make(name)
    found, plain = native_logits(task, IDS, dtype), logits(task, IDS)
    true = task.double()
    with torch.no_grad():
        for part, weight in true.named_parameters():
            if ".blocks." in part and weight.dim() == 2:
                weight.copy_(rounded(weight.float(), dtype))
    exact_inputs = error(found, logits(true, IDS))
    for part, module in true.named_modules():
        if ".blocks." in part and isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, given: (rounded_inputs(given[0], dtype),))
    # inputs are rounded where the CPU has instructions for it (rounded_inputs.h); one beside a tie
    # may be rounded the other way, which some tokens then differ by
    expected = logits(true, IDS)
    each = (found - expected).norm(dim=-1) / expected.norm(dim=-1)  # (B, T)
    assert exact_inputs < BOUND or each.median() < BOUND
    assert error(found, plain) > 100 * BOUND, "weights were not rounded"


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_an_embedding_or_a_weight_that_is_no_number_gives_no_numbers(dtype: str) -> None:
    for change in ("embedding", "weight"):
        task = make("llama")
        with torch.no_grad():
            if change == "embedding":
                task.backbone.embed.token.weight[IDS[0, 0], 5] = torch.nan
            else:
                task.backbone.blocks[0].mlp.down.weight[3, 7] = torch.nan
        assert native_logits(task, IDS[:1, :1], dtype).isnan().all()


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_tiny_weights_are_not_taken_for_large_ones(dtype: str) -> None:
    task = make("llama")
    true = logits(task, IDS)
    with torch.no_grad():
        task.backbone.blocks[1].mlp.down.weight.fill_(3e-44)  # no float is a 127th of it
        expected = logits(task, IDS)
    bound = 0.3  # what int4 costs anyway
    assert error(native_logits(task, IDS, dtype), expected) < bound < error(true, expected)


def test_adapters_are_part_of_the_weights() -> None:
    task = make("llama")
    add_lora(task, 4)
    with torch.no_grad():
        for name, weight in task.named_parameters():
            if "lora" in name:
                weight.normal_(0, 0.3)
    assert error(native_logits(task, IDS), logits(task, IDS)) < BOUND


def test_a_cache_in_bfloat16() -> None:
    task = make("llama")
    expected = logits(task, IDS)
    for block in task.backbone.blocks:
        block.attention.kv_dtype = torch.bfloat16  # of new caches
    assert BOUND < error(native_logits(task, IDS, pieces=5), expected) < 0.02


def test_long_lists_of_tokens_are_read_in_several_passes() -> None:
    task = make("llama", context_length=700)
    ids = torch.randint(53, (1, 600), generator=torch.Generator().manual_seed(2))
    assert error(native_logits(task, ids, pieces=600), logits(task, ids)) < BOUND


def test_a_context_without_tables_of_rotations() -> None:
    task = make("llama", context_length=17_000)
    assert not task.backbone.blocks[0].attention.position.has_tables
    assert error(native_logits(task, IDS), logits(task, IDS)) < BOUND


def test_a_model_that_fills_the_memory_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "available_memory", lambda: 200_000)
    with pytest.raises(UnsupportedError, match="memory"):
        NativeDecoder(make("llama"))


def test_models_of_other_parts_stay_in_pytorch() -> None:
    config = {"vocab_size": 53, "layers": 1, "d_model": 16, "context_length": 8}
    for module in (rnn, transformer_xl):
        task = Language(module.Model(module.Config(**config)))
        with pytest.raises(UnsupportedError):
            NativeDecoder(task)
        assert LazyDecoder(task, "float32").get() is None
    with pytest.raises(UnsupportedError, match="float64"):
        NativeDecoder(make("llama").double())


# ------------------------------------------------------------------ texts

TOKENIZER = byte.train([], TokenizerSettings(kind="byte"))
PROMPTS = ["", "a", "the cat and the cat", "a prompt longer than the others are by far, far, far"]
DRAWN = SamplingParams(temperature=0.9, top_k=20)
GREEDY = SamplingParams(temperature=0)


def engine(native: bool, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("SCRIVEN_NATIVE", "on" if native else "off")
    task = make("llama", vocab_size=TOKENIZER.vocab_size, context_length=48)
    task.special = TOKENIZER.special_token_ids
    return Engine(prepare_for_inference(task, CPU), TOKENIZER, CPU)


def texts(engine: Engine, sampling: SamplingParams, prompts: list[str], seed: int = 3) -> list[str]:
    found = engine.generate(prompts, sampling, 70, seed=seed, ignore_eos=True)
    return [each.text for each in found]


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_texts_are_those_of_pytorch(
    sampling: SamplingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the context too, where the oldest half is evicted, and with speculative decoding."""
    own = engine(True, monkeypatch)
    found = texts(own, sampling, PROMPTS)
    assert own.task.native.get() is not None
    assert found == texts(engine(False, monkeypatch), sampling, PROMPTS)


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_several_tokens_at_once_are_those_of_one_at_a_time(
    sampling: SamplingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where texts end, by a token or by a stop string."""
    own, counts = engine(True, monkeypatch), list[int]()
    own.stop_token_ids = frozenset(range(0, 256, 16))
    decode_steps = ModelRunner.decode_steps

    def count(*given: Any) -> list[list[int]]:
        tokens = decode_steps(*given)
        counts.append(len(tokens[0]))
        return tokens

    def results() -> list[tuple[str, int, str]]:
        found = own.generate(PROMPTS * 4, sampling, 30, seed=3, stop=["q"])
        return [(each.text, each.tokens, each.finish_reason) for each in found]

    monkeypatch.setattr(ModelRunner, "decode_steps", count)
    monkeypatch.setattr(model_runner, "MAX_STEPS_SECONDS", 1e9)  # on a slow machine too
    several = results()
    assert max(counts) > 1
    reasons = {reason for *_, reason in several}
    assert "eos" in reasons
    assert sampling.greedy or "stop" in reasons
    monkeypatch.setattr(model_runner, "MAX_STEPS", 1)
    counts.clear()
    assert results() == several
    assert not counts


def test_steps_end_where_no_logit_is_finite() -> None:
    task = make("phi3")
    with torch.no_grad():
        task.backbone.embed.token.weight[1:] = torch.nan
    session = NativeSession(NativeDecoder(task), task.vocab_size, [0])
    cache = task.backbone.new_cache(1, 20)
    ((token, end),) = session.generate([0], cache, [0], [(0.0, 1.0, 0.0, 0)], [0.0] * 8, [])
    assert token > 0
    assert end == -1


def test_a_seed_gives_one_text_in_any_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    own = engine(True, monkeypatch)
    together = texts(own, DRAWN, PROMPTS)
    alone = [texts(own, DRAWN, [each], 3 + row)[0] for row, each in enumerate(PROMPTS)]
    assert together == alone


def test_beams_are_those_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        [each.text for each in engine(native, monkeypatch).beam_search(PROMPTS, 3, 12)]
        for native in (True, False)
    ]
    assert found[0] == found[1]


def test_texts_that_join_a_running_batch_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    own = engine(True, monkeypatch)
    expected = [each.text for each in own.generate(PROMPTS, DRAWN, 70, seed=3)]
    batch = ContinuousBatch(own, slots=3)
    sequences = own.sequences(PROMPTS, 70, (), 3)
    for sequence in sequences:
        batch.add(BatchRequest(sequence, DRAWN))
        list(batch.step())
    while batch:
        list(batch.step())
    assert [each.text for each in sequences] == expected


def test_a_text_without_finite_logits_leaves_the_batch() -> None:
    task = make("phi3", vocab_size=TOKENIZER.vocab_size, context_length=48)
    task.special = TOKENIZER.special_token_ids
    with torch.no_grad():  # the model can read the prompt, but not what it draws
        unreadable = torch.arange(task.vocab_size) != ord("a")
        task.backbone.embed.token.weight[unreadable] = torch.nan
    own = Engine(prepare_for_inference(task, CPU), TOKENIZER, CPU)
    batch = ContinuousBatch(own, slots=2)
    for sequence in own.sequences(["a", "aa"], 20, (), 3):
        batch.add(BatchRequest(sequence, DRAWN))
    steps: list[Step] = []
    while batch:
        steps += batch.step()
    failed = {id(step.request): step.error for step in steps if step.error is not None}
    assert len(failed) == 2
    assert all(isinstance(error, InputError) for error in failed.values())
    assert len(steps) > len(failed), "what came before is kept"
