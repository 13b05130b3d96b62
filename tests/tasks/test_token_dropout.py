"""Token dropout: what is hidden, how much, and when."""

from dataclasses import replace

import pytest
import torch
from task_models import batch, make, rows

from scriven.tasks.shared.classification import SequenceClassification

SHARE = 0.3


@pytest.mark.parametrize("model", ["llama", "roberta", "transformer", "rnn"])
@pytest.mark.parametrize("name", ["classify", "choice"])
def test_a_share_of_the_text_is_hidden_and_no_mark(name: str, model: str) -> None:
    task: SequenceClassification = make(name, model, {"token_dropout": SHARE})
    whole = batch(task, name, rows(name, 300, longest=40))
    made = task._drop_tokens(whole)
    before, after = (
        (each.tokens if each.source is None else each.source) for each in (whole, made)
    )
    marks = torch.tensor(list(task.special.values()))
    text = ~torch.isin(before, marks)
    gone = before != after
    assert not (gone & ~text).any()
    assert set(after[gone].tolist()) == {task.special.get("mask", task.special["pad"])}
    assert float(gone.sum() / text.sum()) == pytest.approx(SHARE, abs=0.02)
    assert torch.equal(made.targets, whole.targets)


def test_nothing_is_hidden_from_what_is_measured() -> None:
    task = make("classify", "llama", {"token_dropout": 0.9})
    whole = batch(task, "classify", rows("classify", 5))
    plain = make("classify", "llama")
    with torch.no_grad():
        assert float(task.eval()(whole).loss) == float(plain.eval()(whole).loss)
        assert float(task.train()(whole).loss) != float(plain.train()(whole).loss)


def test_other_tokens_each_time_that_follow_from_the_random_state() -> None:
    task = make("classify", "llama", {"token_dropout": SHARE})
    whole = batch(task, "classify", rows("classify", 50))
    torch.manual_seed(3)
    first, second = task._drop_tokens(whole), task._drop_tokens(whole)
    torch.manual_seed(3)
    again = task._drop_tokens(replace(whole))
    assert torch.equal(first.tokens, again.tokens)
    assert not torch.equal(first.tokens, second.tokens)
