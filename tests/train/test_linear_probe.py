"""The head that starts as a linear probe of hidden states (`train/linear_probe.py`)."""

import dataclasses
import json
import random
from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression as Sklearn

import scriven
from scriven.evaluate.logistic_regression import LogisticRegression, fit_linear
from scriven.runtime import choose_runtime
from scriven.settings import RuntimeSettings
from scriven.tasks.shared.supervised import Example
from scriven.train.linear_probe import can_be_probed, fit_head, rows_to_read, seconds_to_read
from scriven.train.schedule import Budget
from tasks.task_models import CPU, make, tokenizer

RUNTIME = choose_runtime(RuntimeSettings(device="cpu", dtype="float32"))
SMALL: dict[str, object] = {
    "model.layers": 1, "model.d_model": 32, "model.heads": 2, "model.context_length": 64,
    "train.sample_seconds": 0,
}  # fmt: skip


def labelled(task: Any, count: int = 200, noise: float = 0.0) -> list[Example]:
    """Texts of the letters abc or defg, which is their label."""
    draw, known = random.Random(0), tokenizer("classify")
    made = []
    for _ in range(count):
        label = draw.randint(0, 1)
        text = "".join(draw.choices(("abc", "defg")[label], k=draw.randint(3, 9)))
        label = label if draw.random() >= noise else draw.randint(0, 1)
        row = {"text": text, "label": task.task_config["labels"][label]}
        made.append(task.example(known, row))
    return made


def classifier() -> Any:
    task = make("classify", "llama", more={"bag_of_words": 0, "labels": ["no", "yes"]}, dropout=0.5)
    torch.nn.init.zeros_(task.head.weight)
    return task


def outputs(task: Any, examples: list[Example]) -> torch.Tensor:
    task.eval()
    with torch.no_grad():
        batch = task.collate(examples, CPU)
        return task.scores(task.hidden(batch), batch)


def test_a_dense_fit_without_a_bias_is_that_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    dense, labels = draw.normal(size=(60, 5)), draw.integers(0, 3, 60)
    zero = LogisticRegression(torch.zeros(5, 3).double(), torch.zeros(3).double())
    one_hot = torch.eye(3).double()[torch.tensor(labels)]
    fit = fit_linear(torch.tensor(dense), one_hot, 2.0, zero, tolerance=1e-10, bias=False)
    model = Sklearn(C=0.5, tol=1e-10, max_iter=10_000, fit_intercept=False).fit(dense, labels)
    ours = fit.logits(torch.tensor(dense)).softmax(1).numpy()
    assert np.abs(ours - model.predict_proba(dense)).max() < 1e-5
    assert not fit.bias.any()


def test_a_fit_with_an_offset_is_a_minimum() -> None:
    """By autograd, of the loss as it is written in a textbook."""
    draw = torch.Generator().manual_seed(0)
    x, offset = (torch.randn(60, size, generator=draw, dtype=torch.float64) for size in (5, 3))
    targets = torch.eye(3).double()[torch.randint(0, 3, (60,), generator=draw)]
    zero = LogisticRegression(torch.zeros(5, 3).double(), torch.zeros(3).double())
    fit = fit_linear(x, targets, 2.0, zero, tolerance=1e-10, offset=offset, bias=False)
    weight = fit.weight.clone().requires_grad_()
    loss = -(targets * (offset + x @ weight).log_softmax(1)).sum() + weight.square().sum()
    loss.backward()
    assert weight.grad is not None and float(weight.grad.abs().max()) < 1e-6
    without = fit_linear(x, targets, 2.0, zero, tolerance=1e-10, bias=False)
    assert float((fit.weight - without.weight).abs().max()) > 1e-2


def test_a_probe_finds_what_hidden_states_tell() -> None:
    task = classifier()
    rows = labelled(task)
    assert fit_head(task, rows[:150], RUNTIME, rows=150) == 150
    right = outputs(task, rows[150:]).argmax(1) == torch.tensor([each.label for each in rows[150:]])
    assert float(right.float().mean()) > 0.9
    assert task.training is False  # as it was before


def test_labels_at_random_teach_next_to_nothing() -> None:
    task = classifier()
    rows = labelled(task, noise=1.0)
    fit_head(task, rows, RUNTIME, rows=200)
    assert float(outputs(task, rows).diff().abs().max()) < 0.5


def test_too_few_rows_or_no_time_leave_the_head_zero() -> None:
    task = classifier()
    assert fit_head(task, labelled(task, 49), RUNTIME, rows=49) == 0
    # a batch is read all the same: 10 rows are one
    assert fit_head(task, labelled(task, 10), RUNTIME, rows=10, seconds=0.0) == 0
    assert not task.head.weight.any()


def test_it_is_fitted_to_what_the_bag_of_words_leaves() -> None:
    """Where the bag of words knows every answer, nothing is left for the probe."""
    task = classifier()
    sure = [
        dataclasses.replace(
            each, prior=array("f", [20.0 * (label == each.label) for label in range(2)])
        )
        for each in labelled(task)
    ]
    assert fit_head(task, sure, RUNTIME, rows=200) == 0


def test_numbers_have_a_probe_as_well() -> None:
    task = make("regression", "llama", more={"bag_of_words": 0}, dropout=0.0)
    torch.nn.init.zeros_(task.head.weight)
    draw, known, rows = random.Random(0), tokenizer("regression"), []
    for _ in range(200):
        low = draw.random() < 0.5
        text = "".join(draw.choices("abc" if low else "defg", k=6))
        score = 1.0 + 2.0 * low + draw.gauss(0, 0.1)
        rows.append(task.example(known, {"text": text, task.ANSWER_COLUMN: score}))
    assert can_be_probed(task)
    assert fit_head(task, rows, RUNTIME, rows=200) == 200
    numbers = np.array([each.label for each in rows])
    left = np.square(outputs(task, rows)[:, 0].numpy() - numbers).mean()
    assert left < 0.5 * np.square(numbers).mean()


def test_only_fresh_heads_of_labels_and_scores_are_probed() -> None:
    task = classifier()
    assert can_be_probed(task)
    task.head.weight.data[0, 0] = 0.1  # learned before, of the same labels
    assert not can_be_probed(task)
    for name in ("choice", "rank", "multilabel"):
        other = make(name, "llama")
        torch.nn.init.zeros_(other.head.weight)
        assert not can_be_probed(other), name


def test_the_budget_decides_how_many_rows_are_read() -> None:
    assert seconds_to_read(Budget("seconds", 600)) == pytest.approx(120)
    assert seconds_to_read(Budget("steps", 600)) == float("inf")
    plan: Any = SimpleNamespace(
        steps=100, settings=SimpleNamespace(train=SimpleNamespace(batch_size=16))
    )
    assert rows_to_read(plan, 10_000) == 640 and rows_to_read(plan, 300) == 300
    plan.steps = None  # by the clock
    assert rows_to_read(plan, 10_000) == 5000


def test_a_frozen_model_starts_from_a_probe_and_a_trained_one_does_not(tmp_path: Path) -> None:
    draw = random.Random(0)
    rows = []
    for number in range(300):
        label = ("early", "late")[number % 2]
        letters = draw.choices("abc" if number % 2 else "def", k=draw.randint(8, 20))
        rows.append({"text": "".join(letters), "label": label})
    table, text = tmp_path / "rows.jsonl", tmp_path / "text.txt"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text.write_text("\n".join(row["text"] for row in rows) * 9)
    base = scriven.train(
        text, out=tmp_path / "base", budget="2steps", settings=SMALL, quiet=True
    ).folder

    def loss(name: str, **settings: object) -> float:
        still = {"optim.lr": 1e-9, "finetune.bag_of_words": False, "train.sample_seconds": 0}
        tuned = scriven.finetune(
            base, table, out=tmp_path / name, budget="40steps", quiet=True,
            settings={**still, **{f"finetune.{key}": value for key, value in settings.items()}},
        )  # fmt: skip
        return float(tuned.results["val_loss"])

    assert loss("lora", weights="lora", lora_rank=2) < 0.5
    assert loss("off", weights="lora", lora_rank=2, linear_probe=False) > 0.69
    assert loss("full") > 0.69
    assert loss("asked", weights="full", linear_probe=True) < 0.5
