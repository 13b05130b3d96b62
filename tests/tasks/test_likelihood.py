"""Choosing by how much likelier the context makes an answer: against loops, one row at a time."""

import math
from typing import Any

import pytest
import torch
from task_models import MODELS, batch, make, rows, tokenizer
from torch import Tensor

from scriven.data.batch import Batch
from scriven.tasks.choice import AnswerSpan

DECODERS = [name for name, module in MODELS.items() if module.Model.kind == "decoder"]
each = pytest.mark.parametrize("model", DECODERS)
WEIGHT = 0.3
FACTS = {"lm_score_weight": WEIGHT, "lm_loss_weight": 0.0}


def nats(task: Any, before: list[int], answer: list[int]) -> float:
    """The logarithm of the probability of an answer after a beginning, token by token."""
    weight = task.backbone.embed.token.weight if task.words is None else task.words.weight
    total = 0.0
    for place, token in enumerate(answer):
        ids = [*before, *answer[:place]]
        logits = weight @ task.backbone(torch.tensor([ids]))[0, -1]
        total += float(logits[token] - logits.logsumexp(0))
    return total


def expected(task: Any, row: dict[str, Any]) -> list[float]:
    """What each choice of a row gets."""
    known = tokenizer("choice")
    start, mark, extract = (known.special[f"<|{x}|>"] for x in ("start", "delimiter", "extract"))
    context, found = known.encode(row["context"]), []
    for choice in row["choices"]:
        answer = known.encode(choice)
        ids = [start, *context, mark, *answer, extract]
        last = task.backbone(torch.tensor([ids]))[0, -1]
        gained = nats(task, [start, *context, mark], answer) - nats(task, [start, mark], answer)
        found.append(float(task.head.weight[0] @ last) + WEIGHT * gained)
    return found


def scores(task: Any, table: list[dict[str, Any]]) -> Tensor:
    whole = batch(task, "choice", table)
    found: Tensor = task.scores(task.hidden(whole), whole)
    return found


@each
@pytest.mark.parametrize("tie_embeddings", [True, False])
@torch.no_grad()
def test_the_number_of_an_answer_is_the_layers_plus_what_the_context_adds(
    model: str, tie_embeddings: bool
) -> None:
    task, table = (
        make("choice", model, FACTS, tie_embeddings=tie_embeddings).eval(),
        rows("choice", 5),
    )
    for row, found in zip(table, scores(task, table), strict=True):
        right = expected(task, row)
        assert found[: len(right)].tolist() == pytest.approx(right, abs=1e-12)
        assert found[len(right) :].eq(-math.inf).all()


@torch.no_grad()
def test_counting_the_extract_token_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    task, table = make("choice", "llama", FACTS).eval(), rows("choice", 5)
    right = AnswerSpan.positions

    def wrong(self: AnswerSpan, tokens: Tensor) -> tuple[Tensor, Tensor]:
        at, _ = right(self, tokens)
        return at, at < self.end[:, None]

    before = scores(task, table)
    monkeypatch.setattr(AnswerSpan, "positions", wrong)
    after = scores(task, table)
    assert (before - after).nan_to_num().abs().max() > 1e-3


@each
def test_micro_batches_equal_one_batch(model: str) -> None:
    task, table = make("choice", model, FACTS), rows("choice", 5)
    whole = batch(task, "choice", table)

    def gradients(parts: list[Batch]) -> tuple[float, list[Tensor]]:
        task.zero_grad()
        loss = sum((task(part).loss for part in parts), torch.zeros(()).double())
        loss.backward()
        return float(loss.detach()), [weight.grad.clone() for weight in task.parameters()]

    one, many = gradients([whole]), gradients(list(whole.split(2)))
    assert one[0] == pytest.approx(many[0], rel=1e-12)
    for first, second in zip(one[1], many[1], strict=True):
        assert first.abs().sum() > 0
        assert torch.allclose(first, second, rtol=0, atol=1e-12 * max(1.0, first.abs().max()))


def test_an_untrained_layer_chooses_as_the_model_alone_would() -> None:
    task, table = make("choice", "gpt2", FACTS).eval(), rows("choice", 20)
    with torch.no_grad():
        task.head.weight.zero_()
        found = scores(task, table)
        for row, mine in zip(table, found, strict=True):
            right = expected(task, row)
            assert int(mine.argmax()) == max(range(len(right)), key=right.__getitem__)


def test_only_decoders_have_it() -> None:
    assert make("choice", "roberta", FACTS).lm_score_weight == 0.0
    assert make("choice", "llama", FACTS).lm_score_weight == WEIGHT
