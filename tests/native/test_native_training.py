"""The compiled training step, beside PyTorch in float64."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gradients import BOUND, error, gradients, make_batch
from numpy.typing import NDArray
from torch import Tensor

from scriven.data.batch import Batch
from scriven.models import gpt2, gpt3, gpt_neo, gpt_neox, llama, rnn
from scriven.native.training import NativeTraining, check_supported
from scriven.native.weights import UnsupportedError
from scriven.nn import attention, block, embeddings
from scriven.tasks.language import Language

SHAPE: dict[str, Any] = {
    "vocab_size": 53, "context_length": 70, "layers": 2, "d_model": 48, "heads": 2, "head_dim": 32,
    "d_ff": 80,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "default": {},
    "grouped": {"heads": 4, "kv_heads": 2},
    "plain": {"qk_norm": False, "tie_embeddings": False},
    "wide heads": {"head_dim": 64, "rope_theta": 100.0, "query_pre_attn_scalar": 30},
    "one layer": {"layers": 1, "d_ff": 400, "vocab_size": 400},
    "wide feed-forward": {"layers": 1, "d_ff": 4096},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "gelu": {"activation": "gelu"},
    "windows": {"layer_types": "sliding,full", "window": 5},
    "a wide window": {"layer_types": "sliding", "window": 67, "layers": 1},
    "no rotation": {"layer_types": "nope"},
    "no rotation, no norms of heads": {"layer_types": "nope", "qk_norm": False},
}
GPTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "gpt2": (gpt2, {}),
    "gpt2 with a head": (gpt2, {"tie_embeddings": False, "d_ff": 400, "layers": 1}),
    "gpt2 with sinusoids": (gpt2, {"positions": "sinusoidal"}),
    "gpt3": (gpt3, {"window": 64}),
    "gpt_neo": (
        gpt_neo,
        {"layer_types": "full,sliding", "window": 16, "activation": "relu", "heads": 4},
    ),
}
NAMES = [*MODELS, *GPTS]


def make(name: str, **changes: Any) -> Language:
    """A model whose every weight matters."""
    torch.manual_seed(0)
    if name in GPTS:
        arch, own = GPTS[name]
        shape = {**SHAPE, "d_model": 64, **own, **changes}
        del shape["head_dim"]
    else:
        arch, shape = llama, {**SHAPE, **MODELS[name], **changes}
    task = Language(arch.Model(arch.Config(**shape))).train()
    with torch.no_grad():
        for weight in task.parameters():
            size = 0.5 if weight.dim() == 1 else weight.size(-1) ** -0.5
            weight.add_(torch.randn(weight.shape) * size)
    return task


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_float64(name: str, threads: int) -> None:
    task = make(name)
    batch, before = make_batch(task), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        output = NativeTraining(task)(batch)
    finally:
        torch.set_num_threads(before)
    found = gradients(task, output.loss)
    true = task.double()(batch)
    assert error(output.loss, true.loss) < BOUND
    assert (int(output.tokens), int(output.correct)) == (int(true.tokens), int(true.correct))
    wanted = gradients(task, true.loss)
    assert found.keys() == wanted.keys()
    assert max(error(found[each], wanted[each]) for each in wanted) < BOUND


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [70, 33])
def test_products_in_bfloat16_are_as_near_to_float64_as_those_of_autocast(
    name: str, length: int
) -> None:
    task = make(name)
    batch = make_batch(task, length=length)
    output = NativeTraining(task, torch.bfloat16)(batch)
    found = gradients(task, output.loss)
    rounds = max(error(found[each], gradients(task, NativeTraining(task)(batch).loss)[each])
                 for each in found) > BOUND  # fmt: skip
    assert rounds == ("avx512_bf16" in Path("/proc/cpuinfo").read_text())
    with torch.autocast("cpu", torch.bfloat16):
        loss = task(batch).loss
    rounded = gradients(task, loss)
    true = gradients(task.double(), task(batch).loss)
    assert error(output.loss, task(batch).loss) < 2e-3
    ours, autocast = (
        [error(each[name], wanted) for name, wanted in true.items()] for each in (found, rounded)
    )
    near = sum(ours) < 1.1 * sum(autocast) and max(ours) < 1.2 * max(autocast)
    assert near or not rounds, "rounded twice, or in a wrong way"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loss_alone_is_that_of_a_step(dtype: torch.dtype) -> None:
    task = make("default")
    batch = make_batch(task)
    native = NativeTraining(task, dtype)
    with torch.no_grad():
        found = native(batch)
    step = native(batch)
    assert error(found.loss, step.loss) < 1e-6
    true = task.double()(batch).loss
    assert error(found.loss, true) < (BOUND if dtype == torch.float32 else 2e-3)
    assert int(found.correct) == int(step.correct)


@pytest.mark.parametrize("length", [1, 2, 17, 48, 49, 70])
def test_rows_may_be_of_any_length(length: int) -> None:
    task = make("default")
    batch = make_batch(task, rows=1, length=length + 5)
    batch = Batch(batch.tokens[:, 5:], batch.targets[:, 5:])
    found = gradients(task, NativeTraining(task)(batch).loss)
    wanted = gradients(task.double(), task(batch).loss)
    for name, true in wanted.items():
        if float(true.norm()) > 1e-9:  # one position has no gradient of queries and keys
            assert error(found[name], true) < BOUND


def test_the_same_step_gives_the_same_bits_and_nan_stays_nan() -> None:
    task = make("default")
    native, batch = NativeTraining(task), make_batch(task)
    first, second = (gradients(task, native(batch).loss) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    with torch.no_grad():
        task.backbone.blocks[0].mlp.down.weight[0, 0] = float("nan")
    assert torch.isnan(native(batch).loss)


def test_what_compiled_code_cannot_compute_is_left_to_pytorch() -> None:
    task = make("default")
    native, batch = NativeTraining(task), make_batch(task)
    shifted = Batch(batch.tokens, batch.targets, torch.arange(70).expand(3, -1))
    assert error(native(shifted).loss, native(batch).loss.double()) < BOUND
    task.eval()
    assert torch.equal(native(batch).loss, task(batch).loss)


@pytest.mark.parametrize("rows", [1, 3, 70])
def test_a_loss_alone_is_that_of_the_training_step(rows: int) -> None:
    task = make("default")
    native, batch = NativeTraining(task), make_batch(task, rows)
    learning = native(batch)
    with torch.inference_mode():
        alone, true = native(batch), task(batch)
    assert float(alone.loss) == pytest.approx(float(learning.loss.detach()), rel=1e-6)
    assert float(alone.loss) == pytest.approx(float(true.loss), rel=BOUND)
    assert int(alone.correct) == int(learning.correct) == int(true.correct)
    assert int(alone.tokens) == int(true.tokens)


def test_a_weight_that_was_replaced_is_found() -> None:
    task = make("default")
    native, batch = NativeTraining(task), make_batch(task)
    before = float(native(batch).loss.detach())
    weight = task.backbone.blocks[1].mlp.down.weight
    weight.data = weight.data.flip(0)
    after = float(native(batch).loss.detach())
    assert after != before
    assert after == pytest.approx(float(task(batch).loss.detach()), rel=BOUND)


UNSUPPORTED: dict[str, dict[str, Any]] = {
    "positions in some layers": {"layer_types": "full,nope"},
    "offset": {"norm_offset": True},
    "limited logits": {"logit_softcap": 5.0},
    "limited scores": {"attention_softcap": 5.0},
    "scaled embeddings": {"scale_embeddings": True},
    "rotated in part": {"rope_fraction": 0.5},
    "norm of all heads": {"qk_norm": "all"},
    "norm of outputs": {"norm_position": "output"},
    "narrow heads": {"head_dim": 24},
    "odd width": {"d_ff": 84},
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_other_models_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedError):
        check_supported(make("default", **UNSUPPORTED[name]))


def dropped(seed: int, place: int, shape: tuple[int, ...], p: float) -> Tensor:
    """What dropout.h multiplies the elements at one place in the model with."""

    def hashed(x: NDArray[np.uint32]) -> NDArray[np.uint32]:
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            x = (x ^ x >> np.uint32(shift)) * np.uint32(factor)
        return x ^ x >> np.uint32(16)

    key = hashed(np.array([(seed + 0x9E3779B9 * (place + 1)) % 2**32], dtype=np.uint32))
    drawn = hashed(np.arange(math.prod(shape), dtype=np.uint32) ^ key).reshape(shape)
    return torch.from_numpy(np.where(drawn >= p * 2**32, 1 / (1 - p), 0.0))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("p", [0.125, 0.75])
@pytest.mark.parametrize("name", ["default", "grouped", "gpt2", "gpt3"])
def test_gradients_with_dropout_are_those_of_float64_with_the_same_elements(
    name: str, p: float, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make(name, dropout=p)
    batch, before = make_batch(task), torch.get_num_threads()
    torch.set_num_threads(threads)
    state = torch.get_rng_state()
    try:
        output = NativeTraining(task)(batch)
    finally:
        torch.set_num_threads(before)
    found = gradients(task, output.loss)
    torch.set_rng_state(state)
    seed, layers = int(torch.randint(1 << 32, ())), SHAPE["layers"]
    # the updates of a layer are 2 n and 2 n + 1; then come the embeddings and attention weights
    places = [2 * layers] if name in GPTS else []
    for n in range(layers):
        places += [2 * layers + 1 + n] * (name in GPTS) + [2 * n, 2 * n + 1]
    drop = lambda x, p: x * dropped(seed, places.pop(0), tuple(x.shape), p)  # noqa: E731
    for module in (attention, block, embeddings):
        monkeypatch.setattr(module, "apply_dropout", drop)
    wanted = gradients(task, task.double()(batch).loss)
    assert not places
    assert max(error(found[each], wanted[each]) for each in wanted) < BOUND


def test_dropout_draws_new_elements_in_each_step_and_none_in_an_evaluation() -> None:
    task = make("default", dropout=0.25)
    batch, native = make_batch(task), NativeTraining(task)
    first, second = (float(native(batch).loss.detach()) for _ in range(2))
    assert first != second
    torch.manual_seed(3)
    third = float(native(batch).loss.detach())
    torch.manual_seed(3)
    assert float(native(batch).loss.detach()) == third
    task.eval()
    with torch.no_grad():
        assert float(native(batch).loss) == pytest.approx(float(task(batch).loss), rel=1e-6)


@pytest.mark.parametrize("place", [0, 1, 7])
def test_a_fraction_p_of_the_elements_is_dropped_and_neighbours_do_not_agree(place: int) -> None:
    kept = (dropped(12345, place, (512, 512), 0.25) > 0).double()
    assert float(kept.mean()) == pytest.approx(0.75, abs=0.003)
    for other in (kept.roll(1, 1), kept.roll(1, 0), (dropped(12346, place, (512, 512), 0.25) > 0)):
        agreement = float((kept == other).double().mean())
        assert agreement == pytest.approx(0.75**2 + 0.25**2, abs=0.005)


def test_an_architecture_of_the_same_layers_is_trained_whatever_its_name() -> None:
    class Mine(llama.Model):
        """A user's architecture."""

    task = Language(Mine(llama.Config(**SHAPE))).train()
    task.backbone.init_weights()
    batch = make_batch(task)
    assert error(NativeTraining(task)(batch).loss, task.double()(batch).loss) < BOUND


def test_other_architectures_and_losses_are_refused() -> None:
    shape: dict[str, Any] = {"vocab_size": 53, "context_length": 70, "layers": 2, "d_model": 64}
    parallel = gpt_neox.Model(gpt_neox.Config(**shape, heads=2))
    recurrent = rnn.Model(rnn.Config(**shape))
    frozen, smoothed, double = make("default"), make("default"), make("default").double()
    frozen.backbone.norm.weight.requires_grad_(False)
    smoothed.label_smoothing = 0.1

    class Regularised(llama.Model):
        """A user's architecture of the same layers, with a loss that compiled code lacks."""

        def aux_loss(self) -> Tensor:
            return self.norm.weight.square().sum()

    regularised = Regularised(llama.Config(**SHAPE))
    others = [Language(model) for model in (parallel, recurrent, regularised)]
    for task in (*others, frozen, smoothed, double):
        with pytest.raises(UnsupportedError):
            check_supported(task)
