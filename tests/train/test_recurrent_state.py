"""What a model remembers between steps: across batches, micro-batches and numbers gone bad."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from scriven.data.batch import Batch
from scriven.evaluate.loss import evaluate_loss
from scriven.models import llama, rnn, transformer_xl
from scriven.runtime import choose_runtime
from scriven.settings import OptimSettings, RuntimeSettings
from scriven.tasks.language import Language
from scriven.train.build_model import Parallel
from scriven.train.optim.base import Optimizers
from scriven.train.recurrent_state import TBPTTState
from scriven.train.train_step import TrainStep

RUNTIME = choose_runtime(RuntimeSettings(device="cpu", dtype="float32"))


def task(kind: str = "transformer_xl") -> Language:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"vocab_size": 13, "context_length": 6, "layers": 2, "d_model": 16}
    made = Language(
        transformer_xl.Model(transformer_xl.Config(**shape, heads=2))
        if kind == "transformer_xl"
        else rnn.Model(rnn.Config(**shape))
    )
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(0, 0.2)
    return made.double()


def batches(count: int = 3, rows: int = 4) -> list[Batch]:
    text = torch.randint(13, (rows, 6 * count + 1), generator=torch.Generator().manual_seed(1))
    return [
        Batch(text[:, i : i + 6], text[:, i + 1 : i + 7], reset_state=i == 0)
        for i in range(0, 6 * count, 6)
    ]


def losses(kind: str, rows: int, carry: bool = True, swap: int | None = None) -> list[float]:
    """Of three batches, without moving the weights; `swap`: micro-batches from there on."""
    made = task(kind)
    kept = TBPTTState(made.backbone, 4, slice(0, 4))
    optimizers = Optimizers(made, OptimSettings(optimizer="sgd", weight_decay=0, lr=0.0))
    updater = TrainStep(Parallel(made), optimizers, RUNTIME, 0, kept if carry else None)
    found = []
    for number, batch in enumerate(batches()):
        if number == swap:
            saved, kept = kept.state_dict(), TBPTTState(made.backbone, 4, slice(0, 4))
            kept.load_state_dict(saved)
            updater.recurrent_state, rows = kept, 3
        found.append(updater(kept.follow(4 * number, batch), rows, 0.0).loss)
    return found


@pytest.mark.parametrize("kind", ["transformer_xl", "rnn"])
def test_micro_batches_remember_what_one_big_batch_remembers(kind: str) -> None:
    wanted = losses(kind, 4)
    for rows in (1, 3):
        assert losses(kind, rows) == pytest.approx(wanted, abs=1e-12)
    assert losses(kind, 1, swap=2) == pytest.approx(wanted, abs=1e-12)
    alone = losses(kind, 4, carry=False)
    assert alone[0] == wanted[0]
    assert abs(alone[1] - wanted[1]) > 1e-6


@pytest.mark.parametrize("kind", ["transformer_xl", "rnn"])
def test_training_segment_by_segment_measures_what_one_pass_measures(kind: str) -> None:
    made, parts = task(kind), batches()
    text = Batch(
        torch.cat([part.tokens for part in parts], 1),
        torch.cat([part.targets for part in parts], 1),
    )
    one = evaluate_loss(made, [text], text_bytes=1, runtime=RUNTIME, memory=None)
    memory = 18 if kind == "transformer_xl" else None
    many = evaluate_loss(made, parts, text_bytes=1, runtime=RUNTIME, memory=memory)
    none = evaluate_loss(made, parts, text_bytes=1, runtime=RUNTIME, memory=0)
    fresh = [replace(part, reset_state=True) for part in parts]
    apart = evaluate_loss(made, fresh, text_bytes=1, runtime=RUNTIME)
    assert one is not None
    assert many is not None
    assert none is not None
    assert apart is not None
    assert many.loss == pytest.approx(one.loss, abs=1e-12)
    assert none.loss == pytest.approx(apart.loss, abs=1e-12)
    assert abs(none.loss - many.loss) > 1e-6


def test_a_batch_that_does_not_follow_starts_anew() -> None:
    carry = TBPTTState(task().backbone, 4, slice(0, 4))
    first, second, third = batches()
    assert carry.follow(0, first).reset_state
    state = carry.of_rows(0, 4)
    assert not carry.follow(4, second).reset_state
    assert carry.of_rows(0, 4) is state
    assert carry.follow(12, third).reset_state  # after a rollback the text goes on further down
    assert carry.of_rows(0, 4) is not state


def test_an_update_that_went_bad_is_forgotten() -> None:
    made = task()
    carry = TBPTTState(made.backbone, 4, slice(0, 4))
    updater = TrainStep(
        Parallel(made), Optimizers(made, OptimSettings(lr=1e-3)), RUNTIME, 1.0, carry
    )
    first, second, _ = batches()
    hook = made.backbone.blocks[0].mlp_norm.weight.register_hook(lambda grad: grad * float("nan"))
    assert not updater(carry.follow(0, first), 4, 1.0).applied
    hook.remove()
    assert carry.state_dict() == {}
    assert updater(carry.follow(4, second), 4, 1.0).applied
    assert carry.state_dict()["next"] == 8


def test_a_model_without_memory_saves_nothing() -> None:
    made = Language(
        llama.Model(llama.Config(vocab_size=13, context_length=6, layers=1, d_model=16))
    )
    carry = TBPTTState(made.backbone, 4, slice(0, 4))
    optimizers = Optimizers(made, OptimSettings(lr=1e-3))
    TrainStep(Parallel(made), optimizers, RUNTIME, 1.0, carry)(
        carry.follow(0, batches()[0]), 2, 1.0
    )
    assert carry.state_dict() == {}
