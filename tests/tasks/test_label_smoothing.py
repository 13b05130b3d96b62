"""Label smoothing is part of what is trained, and never of what is measured."""

import pytest
import torch
import torch.nn.functional as F

from scriven.data.batch import Batch
from scriven.models import gpt1, llama
from scriven.tasks.classify import Task as Classify
from scriven.tasks.language import Language

SMOOTHING = 0.3


@pytest.mark.parametrize("training", [True, False])
def test_of_tokens(training: bool) -> None:
    torch.manual_seed(0)
    config = llama.Config(vocab_size=11, context_length=8, layers=1, d_model=16, heads=2)
    task = Language(llama.Model(config), task_config={"label_smoothing": SMOOTHING}).double()
    for weight in task.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    task.train(training)
    rows = torch.randint(11, (3, 9))
    batch = Batch(rows[:, :-1], rows[:, 1:])
    expected = F.cross_entropy(
        task.predict(batch).flatten(0, 1), batch.targets.flatten(), reduction="sum",
        label_smoothing=SMOOTHING if training else 0.0,
    )  # fmt: skip
    assert float(task(batch).loss) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_of_labels(training: bool) -> None:
    torch.manual_seed(0)
    config = gpt1.Config(vocab_size=11, context_length=32, layers=1, d_model=16, heads=2)
    special = {"eos": 0, "pad": 0, "start": 8, "delimiter": 9, "extract": 10}
    about = {"labels": ["a", "b", "c"], "label_smoothing": SMOOTHING, "lm_loss_weight": 0.0}
    task = Classify(gpt1.Model(config), special=special, task_config=about).double()
    scores, labels = torch.randn(5, 3).double(), torch.tensor([0, 1, 2, 1, 0])
    task.train(training)
    expected = F.cross_entropy(
        scores, labels, reduction="sum", label_smoothing=SMOOTHING if training else 0.0
    )
    found, _ = task.loss_and_correct(scores, labels)
    assert float(found) == pytest.approx(float(expected), rel=1e-12)
