"""Numbers that go bad: skipped, undone, said, and given up on; good states are never lost."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from scriven import load
from scriven.data.batch import Batch
from scriven.errors import ScrivenError
from scriven.runs import checkpoint
from scriven.train.checkpointer import Checkpointer
from scriven.train.train_state import TrainState
from scriven.train.trainer import Trainer

from .runs import after_each_step, arguments, command, events, refused, train

Action = Callable[[Trainer, TrainState], None]


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return list(trainer.task.parameters())


def poison_weight(at: Callable[[int], bool]) -> Action:
    def action(trainer: Trainer, state: TrainState) -> None:
        if at(state.step):
            with torch.no_grad():
                weights(trainer)[-1].view(-1)[0] = math.nan

    return action


def poisoned_gradient(steps: set[int]) -> Action:
    """Makes the gradient of these steps infinite, by a hook on one weight."""
    seen: set[int] = set()

    def action(trainer: Trainer, state: TrainState) -> None:
        if id(trainer) in seen:
            return
        seen.add(id(trainer))

        def spoil(gradient: torch.Tensor) -> torch.Tensor:
            bad = state.step + 1 in steps
            return gradient * math.inf if bad else gradient

        weights(trainer)[0].register_hook(spoil)

    return action


def all_finite(folder: Path) -> bool:
    return all(
        bool(tensor.isfinite().all())
        for step in checkpoint.steps(folder)
        for group in checkpoint.load_step(folder, step).tensors.values()
        for tensor in group.values()
        if tensor.is_floating_point()
    )


def test_a_bad_gradient_is_skipped_and_said(text: Path, tmp_path: Path) -> None:
    with after_each_step(poisoned_gradient({10, 11})):
        run = train(text, tmp_path / "run", train__log_seconds=0)
    notes = [event["text"] for event in events(run.folder, "note")]
    assert [note for note in notes if "gradient is NaN or infinite" in note] == [
        f"step {step}: the gradient is NaN or infinite; step skipped ({row} in a row)"
        for step, row in ((10, 1), (11, 2))
    ]
    logged = {event["step"]: event["loss"] for event in events(run.folder, "step")}
    assert logged[10] is None, "a skipped update has no loss in the log"
    assert logged[11] is None
    assert logged[9] is not None
    assert logged[12] is not None
    assert math.isfinite(run.results["val_loss"])


def test_a_bad_weight_leads_back_to_the_last_good_state(text: Path, tmp_path: Path) -> None:
    once = iter([True])
    with after_each_step(poison_weight(lambda step: step == 20 and next(once, False))):
        run = train(text, tmp_path / "run", train__save_interval=1, train__max_nonfinite_steps=3)
    notes = " ".join(event["text"] for event in events(run.folder, "note"))
    assert "back from step 23 to step 19" in notes, "the bad state of step 20 was not saved"
    assert run.results["steps"] == 40
    assert all_finite(run.folder)
    state = checkpoint.load_step(run.folder, 40).state["progress"]
    assert state["lr_backoff"] == 0.5
    assert state["samples"] == (40 + 4) * 4, "the windows that went bad are not read again"


def test_before_the_first_save_the_initial_weights_are_drawn_again(
    text: Path, tmp_path: Path
) -> None:
    initial: list[list[torch.Tensor]] = []
    real = Checkpointer.reinitialize

    def reinitialize(self: Checkpointer) -> TrainState:
        state = real(self)
        initial.append([weight.detach().clone() for weight in self.task.parameters()])
        assert not any(optimizer.state for optimizer in self.optimizers.optimizers)
        return state

    first: list[torch.Tensor] = []

    def remember(trainer: Trainer, state: TrainState) -> Batch:
        if not first:
            first.extend(weight.detach().clone() for weight in weights(trainer))
        return next_batch(trainer, state)

    next_batch = Trainer.next_batch
    once = iter([True])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpointer, "reinitialize", reinitialize)
        patch.setattr(Trainer, "next_batch", remember)
        with after_each_step(poison_weight(lambda step: step == 3 and next(once, False))):
            run = train(text, tmp_path / "run", train__max_nonfinite_steps=2)
    notes = " ".join(event["text"] for event in events(run.folder, "note"))
    assert "back from step 5 to step 0" in notes
    assert all(torch.equal(*pair) for pair in zip(first, initial[0], strict=True))
    assert all_finite(run.folder)
    assert math.isfinite(run.results["val_loss"])


def test_gives_up_after_a_few_and_names_step_and_windows(text: Path, tmp_path: Path) -> None:
    with after_each_step(poison_weight(lambda step: step >= 10)):
        line = refused(*arguments(text, tmp_path / "run", "--quiet", "--train.save_interval=5"))
    assert "samples" in line
    assert "step " in line
    assert "--optim.lr" in line
    assert all_finite(tmp_path / "run")


@pytest.mark.parametrize("first", [1, 10, 33])
def test_best_and_last_healthy_outlive_bad_states(text: Path, tmp_path: Path, first: int) -> None:
    out = tmp_path / "run"
    with (
        after_each_step(poison_weight(lambda step: step >= first)),
        pytest.raises(ScrivenError, match="NaN or infinite"),
    ):
        train(
            text,
            out,
            "200steps",
            train__save_interval=2,
            train__keep_checkpoints=1,
            train__eval_interval=3,
        )
    steps = checkpoint.steps(out)
    assert steps
    assert max(steps) < first
    assert all_finite(out)
    looked = [event for event in events(out, "evaluation") if event["best"]]
    if looked:
        assert looked[-1]["step"] in steps
    assert math.isfinite(load(out).evaluate()["loss"])


def test_a_run_that_ends_on_a_bad_state_gives_the_best(text: Path, tmp_path: Path) -> None:
    with after_each_step(poison_weight(lambda step: step == 39)):
        run = train(text, tmp_path / "run", train__eval_interval=10)
    assert run.results["best_step"] <= 30
    assert math.isfinite(run.results["val_loss"])
    assert load(run.folder).evaluate()["loss"] == pytest.approx(run.results["val_loss"], abs=1e-5)
    assert all_finite(run.folder)


def test_the_log_never_holds_a_number_that_json_has_not(text: Path, tmp_path: Path) -> None:
    with after_each_step(poison_weight(lambda step: step == 39)):
        run = train(text, tmp_path / "run", train__eval_interval=40)
    for line in (run.folder / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} in the log"))


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_the_loss_begins_at_the_logarithm_of_the_vocabulary(
    text: Path, tmp_path: Path, arch: str
) -> None:
    from dataclasses import replace

    from scriven.train.run import start_or_resume

    from .runs import request

    run = start_or_resume(
        replace(request(text, tmp_path / arch, "2steps", train__log_seconds=0), arch=arch)
    )
    record = json.loads((run.folder / "scriven.json").read_text())
    expected = math.log(record["tokenizer"]["vocab_size"])
    assert events(run.folder, "step")[0]["loss"] == pytest.approx(expected, rel=0.05)


def test_a_run_that_recovered_says_so_at_its_end(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once = iter([True])
    line = arguments(text, tmp_path / "run", "--train.save_interval=1")
    with after_each_step(poison_weight(lambda step: step == 20 and next(once, False))):
        code, _, err = command(*line, "--train.max_nonfinite_steps=3")
    assert code == 0
    last = err.strip().splitlines()[-1]
    assert last.startswith(
        "3 steps were skipped for a NaN or infinite loss or gradient, and 1 time"
    )
    assert "--optim.lr" in last
    results = load(tmp_path / "run").results
    assert (results["skipped_steps"], results["rollbacks"]) == (3, 1)


@pytest.mark.parametrize("nonfinite_steps", [0, 1])
def test_a_state_that_may_be_bad_is_not_saved(nonfinite_steps: int) -> None:
    train = SimpleNamespace(save_seconds=0.0, save_interval=2)
    trainer = SimpleNamespace(settings=SimpleNamespace(train=train), now=1.0, last_save_seconds=0.0)
    state = SimpleNamespace(step=4, nonfinite_steps=nonfinite_steps)
    assert Trainer.save_due(trainer, state) == (nonfinite_steps == 0)  # type: ignore[arg-type]
