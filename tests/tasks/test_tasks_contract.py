"""Every task that reads tables keeps the contract on every architecture that can do it; a new task
or architecture is tested by being there."""

import copy
from typing import Any

import pytest
import torch
from task_models import ABLE, TASKS, batch, encode, make, rows, tokenizer

from scriven.data.batch import IGNORE_INDEX, Batch
from scriven.errors import InputError
from scriven.nn.cache import Cache
from scriven.runtime import choose_runtime
from scriven.settings import OptimSettings, RuntimeSettings
from scriven.tasks.base import Output
from scriven.tasks.shared.classification import SequenceClassification
from scriven.tasks.shared.text_generation import TextGeneration
from scriven.tasks.shared.words import WordScoring
from scriven.train.build_model import Parallel
from scriven.train.optim.base import Optimizers
from scriven.train.train_step import StepMetrics, TrainStep

RUNTIME = choose_runtime(RuntimeSettings(device="cpu", dtype="float32"))
LABELLED = [
    (name, model) for name, model in ABLE if issubclass(TASKS[name], SequenceClassification)
]
WRITTEN = [pair for pair in ABLE if pair not in LABELLED]
each = pytest.mark.parametrize(("name", "model"), ABLE)
each_labelled = pytest.mark.parametrize(("name", "model"), LABELLED)


def gradients(task: Any, whole: Batch, size: int) -> tuple[list[torch.Tensor], StepMetrics]:
    """(gradient of every weight, what the update said), with at most `size` examples at once."""
    made = copy.deepcopy(task)
    optimizers = Optimizers(made, OptimSettings(optimizer="sgd", lr=1e-3))
    kept: list[torch.Tensor] = []

    def keep(share: float) -> None:
        kept.extend(weight.grad.clone() for weight in optimizers.parameters)

    optimizers.step = keep  # type: ignore[method-assign]
    return kept, TrainStep(Parallel(made), optimizers, RUNTIME, grad_clip=0)(whole, size, 1.0)


def far(task: Any, whole: Batch, *sizes: int) -> float:
    """The largest difference that micro-batches make, in units of the gradient."""
    big, one = gradients(task, whole, 1000)
    found = []
    for size in sizes:
        small, other = gradients(task, whole, size)
        found.append(abs(one.loss - other.loss))
        for a, b in zip(big, small, strict=True):
            found.append(float((a - b).abs().max() / max(1.0, a.abs().max())))
    return max(found)


# ---------------------------------------------------------------- micro-batches


@each
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_micro_batches_of_ragged_rows_equal_one_big_batch(
    name: str, model: str, tie_embeddings: bool
) -> None:
    task = make(name, model, tie_embeddings=tie_embeddings)
    sizes = (1, 2, 3) if tie_embeddings else (2,)  # the split of a batch knows nothing of weights
    assert far(task, batch(task, name, rows(name, 5)), *sizes) < 1e-12


@each
def test_every_weight_learns(name: str, model: str) -> None:
    """Otherwise the comparison of gradients would compare zeros."""
    task = make(name, model, tie_embeddings=False)
    found, update = gradients(task, batch(task, name, rows(name, 5)), 5)
    assert update.applied
    for (place, _), gradient in zip(task.named_parameters(), found, strict=True):
        assert gradient.abs().sum() > 0, place


@pytest.mark.parametrize(("name", "model"), [("classify", "gpt2"), ("translate", "transformer")])
def test_a_mean_for_each_micro_batch_would_be_noticed(
    name: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make(name, model)
    whole = batch(task, name, rows(name, 5))
    right = type(task).forward

    def wrong(self: Any, part: Batch, state: Cache | None = None) -> Output:
        found = right(self, part, state)
        parts = 1 if part is whole else 3
        mean = found.loss / found.tokens / parts
        return Output(mean * whole.num_targets(), found.tokens, found.correct)

    monkeypatch.setattr(type(task), "forward", wrong)
    assert far(task, whole, 2) > 1e-3


def test_an_auxiliary_loss_over_all_tokens_of_a_micro_batch_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = make("classify", "gpt2")
    whole = batch(task, "classify", rows("classify", 5))

    def pooled(self: Any, hidden: torch.Tensor, part: Batch) -> torch.Tensor:
        counted = part.targets != IGNORE_INDEX
        logits = hidden[counted] @ self.backbone.embed.token.weight.T
        mean = torch.nn.functional.cross_entropy(logits, part.targets[counted])
        return mean * len(part.tokens)

    monkeypatch.setattr(SequenceClassification, "_lm_loss", pooled)
    assert far(task, whole, 2) > 1e-3


# ---------------------------------------------------------------- padding


def alone_and_together(
    task: Any, name: str, table: list[Any]
) -> tuple[list[float], list[float], float, float]:
    """(scores of rows alone, in one batch, the sum of losses alone, in one batch)."""
    with torch.no_grad():
        whole = batch(task, name, table)
        loss = float(task(whole).loss)
        parts = [batch(task, name, [row]) for row in table]
        sums = sum(float(task(part).loss) for part in parts)
        if not isinstance(task, SequenceClassification):
            return [], [], sums, loss
        together = task.scores(task.hidden(whole), whole)
        alone = [task.scores(task.hidden(part), part)[0] for part in parts]
    one, other = [], []
    for mine, ours in zip(alone, together, strict=True):
        assert (ours[len(mine) :] == -torch.inf).all()  # answers that this row does not have
        one += mine.tolist()
        other += ours[: len(mine)].tolist()
    return one, other, sums, loss


@each
def test_padding_changes_nothing(name: str, model: str) -> None:
    for learning in (True, False):
        task = make(name, model).train(learning)
        alone, together, sums, loss = alone_and_together(task, name, rows(name, 6))
        assert abs(sums - loss) < 1e-12 * max(1.0, abs(loss))
        assert alone == pytest.approx(together, abs=1e-12)


@pytest.mark.parametrize("model", ["gpt2", "roberta", "transformer"])
def test_reading_the_end_of_the_padding_would_be_noticed(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = SequenceClassification.collate

    def wrong(self: Any, *given: Any) -> Batch:
        made = right(self, *given)
        if made.source_positions is not None:
            made.source_positions.clamp_(min=0)
        elif made.positions is not None:
            made.positions.clamp_(min=0)
        assert made.pool_index is not None
        made.pool_index[:] = made.tokens.size(1) - 1
        return made

    monkeypatch.setattr(SequenceClassification, "collate", wrong)
    task = make("classify", model).eval()
    alone, together, _, _ = alone_and_together(task, "classify", rows("classify", 6))
    assert alone != pytest.approx(together, abs=1e-6)


@each
def test_no_answer_looks_at_the_right_one(name: str, model: str) -> None:
    """What is asked is the same with and without the answer, so nothing leaks when predicting."""
    task, kind = make(name, model, context_length=256).eval(), TASKS[name]
    for row in rows(name, 4):
        (example,) = encode(task, name, [kind.without_answer(row)])
        (learnt,) = encode(task, name, [row])
        assert example.label is None
        if not isinstance(task, TextGeneration):
            assert example.rows == learnt.rows
            continue
        asked = task.prompt_of(example)
        if learnt.source is not None:
            assert learnt.source == asked
            continue
        source, tokens = task.build_inputs(list(asked), 0)
        assert source is None
        assert learnt.rows[0][: len(tokens)] == tokens
        assert learnt.targets is not None
        first = len(tokens) - 1
        assert learnt.targets[0][first] == learnt.rows[0][len(tokens)] != IGNORE_INDEX


# ---------------------------------------------------------------- edges


@each
def test_nothing_to_learn_is_no_nan_and_no_step(name: str, model: str) -> None:
    """Also with weight decay and momentum, which would move the weights without a gradient."""
    task = make(name, model)
    whole = batch(task, name, rows(name, 3))
    empty = copy.copy(whole)
    vars(empty)["targets"] = torch.full_like(whole.targets, IGNORE_INDEX)
    if whole.labels is not None:  # labels always count; learning the text beside them may not
        assert torch.isfinite(task(empty).loss)
        vars(empty)["labels"] = whole.labels[:0]
    assert empty.num_targets() == 0
    settings = OptimSettings(optimizer="adamw", weight_decay=0.5, lr=1e-2)
    optimizers = Optimizers(task, settings)
    updater = TrainStep(Parallel(task), optimizers, RUNTIME, grad_clip=1.0)
    updater(whole, 2, 1.0)  # so that there is momentum
    before, state = copy.deepcopy(task.state_dict()), optimizers.state()
    state = copy.deepcopy(state)
    update = updater(empty, 2, 1.0)
    assert (update.loss, update.accuracy, update.applied) == (0.0, 0.0, True)
    assert all(torch.equal(before[key], value) for key, value in task.state_dict().items())
    tensors, numbers = optimizers.state()
    assert numbers == state[1]
    assert all(torch.equal(state[0][key], value) for key, value in tensors.items())


@each
def test_one_row_is_enough(name: str, model: str) -> None:
    task = make(name, model)
    found, update = gradients(task, batch(task, name, rows(name, 1)), 4)
    assert update.loss > 0
    assert all(gradient.isfinite().all() for gradient in found)


@each
def test_rows_longer_than_the_context_fit_and_are_counted(name: str, model: str) -> None:
    task = make(name, model, context_length=16)
    if task.backbone.max_position is None:
        return  # reads rows of any length
    for example in encode(task, name, rows(name, 6, longest=90, seed=3)):
        for row in (*example.rows, example.source or []):
            assert len(row) <= task.backbone.max_position
    if isinstance(task, WordScoring):
        return  # reads a long text in windows
    table = rows(name, 12, longest=90)
    examples = encode(task, name, table)
    assert any(example.cut for example in examples)
    wholes = encode(make(name, model, context_length=4096), name, table)
    for whole, example in zip(wholes, examples, strict=True):
        assert whole.cut == 0
        if name not in ("chat", "instruct", "choice", "rank", "dpo"):
            lost = whole.length - example.length
            assert example.cut == (lost // 2 if len(example.rows) == 2 else lost)
        assert (example.cut > 0) == (example.length < whole.length)
    found, update = gradients(task, task.collate(examples, torch.device("cpu")), 4)
    assert update.applied
    assert all(gradient.isfinite().all() for gradient in found)


@each
def test_a_context_in_which_nothing_fits_is_refused(name: str, model: str) -> None:
    task = make(name, model, context_length=4, memory=0)
    if task.backbone.max_position is None:
        return
    with pytest.raises(InputError, match=r"too short for the task|--model.context_length"):
        encode(task, name, rows(name, 2))


@each
def test_special_tokens_in_a_text_are_text(name: str, model: str) -> None:
    """A user's `<|extract|>` is eleven characters."""
    task, known = make(name, model, context_length=4096), tokenizer(name)
    marks = " ".join(known.special)
    table = rows(name, 1)
    plain = encode(task, name, table)[0]

    def spoiled(value: Any) -> Any:
        if isinstance(value, list):
            return [spoiled(each) for each in value]
        if isinstance(value, dict):
            return {**value, "content": value["content"] + marks}
        return value + marks if isinstance(value, str) else value

    keep = set() if isinstance(task, TextGeneration) else {TASKS[name].ANSWER_COLUMN}
    dirty = {key: value if key in keep else spoiled(value) for key, value in table[0].items()}
    found = encode(task, name, [dirty])[0]
    special = set(known.special.values())

    def count(example: Any) -> int:
        read = [*example.rows, example.source or []]
        return sum(token in special for row in read for token in row)

    assert count(found) == count(plain)
    assert found.length > plain.length
