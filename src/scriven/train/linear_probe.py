"""Starts the head around a frozen model as a linear probe (Alain and Bengio 2016): a linear model
of its hidden states, fitted to training rows before the first step.

Fine-tuning from a head of zeros first has to find out what the model knows already, and changes its
features meanwhile; from a probe it needs fewer steps (Kumar et al. 2022, section 3). The probe is
fitted to what the bag of words leaves unexplained, as the outputs of both are added.
"""

import math
import random
import time
import zlib
from array import array
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..evaluate.logistic_regression import Link, LogisticRegression, fit_linear
from ..runtime import Runtime
from ..tasks.shared.classification import SequenceClassification
from ..tasks.shared.supervised import Example, length_bucketed_batches
from .autoconfig import TrainPlan
from .bag_of_words import FOLDS, LINK_OF, TOLERANCE, target_outputs
from .schedule import Budget

BUDGET_SHARE = 0.2
"""Of a budget, that reading the rows may take."""
MIN_ROWS, MAX_ROWS = 50, 5000
"""Fewer rows tell nothing of hundreds of features; more rows add little."""
PENALTIES = (30_000.0, 10_000.0, 3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0)
"""L2 penalties that are tried, from the strongest until the loss of rows left out rises."""


def can_be_probed(task: SequenceClassification) -> bool:
    """Whether its head is a linear layer that has learned nothing yet, and its answers have a loss
    that a linear model can be fitted by."""
    plain = type(task).pool is SequenceClassification.pool and task.ANSWER_TYPE in LINK_OF
    return plain and task.criterion is None and not bool(task.head.weight.any())


def rows_to_read(plan: TrainPlan, available: int) -> int:
    """How many rows a budget of steps leaves time for: a forward pass is half of a step around a
    frozen model."""
    rows = min(MAX_ROWS, available)
    if plan.steps is not None:
        rows = min(rows, int(2 * BUDGET_SHARE * plan.steps * (plan.settings.train.batch_size or 1)))
    return rows


def seconds_to_read(budget: Budget) -> float:
    """The time that a wall-clock budget leaves for reading rows."""
    return BUDGET_SHARE * budget.amount if budget.unit == "seconds" else math.inf


def fit_head(
    task: SequenceClassification,
    examples: Sequence[Example],
    runtime: Runtime,
    *,
    rows: int,
    seconds: float = math.inf,
) -> int:
    """Fits the head to training rows with labels; it stays zero where that does not help.

    Args:
        task: on the device of `runtime`; its head is overwritten.
        examples: the training rows, of which random ones are read.
        rows: how many, at most. seconds: time after which no more are read.

    Returns:
        The number of rows that the head was fitted to; 0 if it stays zero.
    """
    # 1. hidden states of random rows, and what the bag of words says of them
    chosen: list[Example] = []
    parts: list[Tensor] = []
    end = time.monotonic() + seconds
    for batch in _random_batches(examples, rows):
        parts.append(_features(task, batch, runtime))
        chosen += batch
        if time.monotonic() > end:
            break
    if len(chosen) < MIN_ROWS:
        return 0
    link = LINK_OF[task.ANSWER_TYPE]
    targets = target_outputs(chosen, task.head.out_features, link)  # (n, L)
    priors = [each.prior.tolist() for each in chosen]
    offset = torch.tensor(priors) if all(priors) else torch.zeros_like(targets)  # (n, L)
    # 2. a linear model of states that all have the same size, so that one penalty suits all
    features = torch.cat(parts)  # (n, C)
    scale = features.square().mean(0).sqrt().clamp(min=1e-6)  # (C,)
    is_left_out = torch.tensor([_digest(each) % FOLDS == 0 for each in chosen])  # (n,)
    weight = _fit(features / scale, targets, offset, is_left_out, link)
    if weight is None:
        return 0
    # 3. the head
    with torch.no_grad():
        task.head.weight.copy_((weight / scale[:, None]).mT)
    return len(chosen)


def _fit(
    features: Tensor, targets: Tensor, offset: Tensor, is_left_out: Tensor, link: Link
) -> Tensor | None:
    """(C, L) the weights of the linear model with the best penalty; None where each is worse than
    the `offset` (n, L) alone, on the rows that are left out."""
    if bool(is_left_out.all()) or not bool(is_left_out.any()):  # all rows are equal
        return None
    kept, left_out = torch.nonzero(~is_left_out)[:, 0], torch.nonzero(is_left_out)[:, 0]
    measure = F.cross_entropy if link == "softmax" else F.mse_loss
    fit = LogisticRegression.zero(features.size(1), targets.size(1))
    best, penalty = float(measure(offset[left_out], targets[left_out])), None
    for each in PENALTIES:
        # from the fit with the penalty before (a warm start along the regularisation path)
        fit = fit_linear(
            features[kept], targets[kept], each, fit, link,
            tolerance=TOLERANCE, offset=offset[kept], bias=False,
        )  # fmt: skip
        outputs = offset[left_out] + features[left_out] @ fit.weight
        loss = float(measure(outputs, targets[left_out]))
        if loss < best:
            best, penalty = loss, each
        elif penalty is not None:
            break
    if penalty is None:
        return None
    whole = fit_linear(
        features, targets, penalty, fit, link, tolerance=TOLERANCE, offset=offset, bias=False
    )
    return whole.weight


def _random_batches(examples: Sequence[Example], rows: int) -> Iterator[list[Example]]:
    """Random rows in batches of like lengths, in random order."""
    draw = random.Random(0)
    some = draw.sample(list(examples), rows)
    batches = list(length_bucketed_batches(some))
    draw.shuffle(batches)
    for batch in batches:
        yield [some[number] for number in batch]


@torch.no_grad()
def _features(task: SequenceClassification, batch: Sequence[Example], runtime: Runtime) -> Tensor:
    """(E, C) what the head sees of each example, without dropout."""
    training, device = task.training, next(task.parameters()).device
    task.eval()
    try:
        with runtime.autocast():
            inputs = task.collate(batch, device)
            return task.last_hidden(task.hidden(inputs), inputs).sum(1).float().cpu()
    finally:
        task.train(training)


def _digest(example: Example) -> int:
    """The same for equal rows, which are left out together."""
    return zlib.crc32(b"".join(array("q", row).tobytes() for row in example.rows))
