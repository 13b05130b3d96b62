"""What learns, by the kind of task and of fine-tuning."""

from typing import Any

import pytest
import torch

from scriven.data.batch import Batch
from scriven.errors import SettingError
from scriven.models import llama
from scriven.nn.lora import lora_adapters
from scriven.runs.peft import add_adapters
from scriven.settings import OptimSettings
from scriven.tasks.base import BaseTask
from scriven.tasks.classify import Classify
from scriven.tasks.language import Language
from scriven.train.build_model import Trainable, freeze
from scriven.train.optim.base import Optimizers

V, KNOWN = 16, 12
SPECIAL = {"eos": 10, "pad": 11, "start": 12, "delimiter": 13, "extract": 14}
TABLE = "backbone.embed.token.weight"


def writer(tie_embeddings: bool) -> BaseTask:
    return Language(llama.Model(config(tie_embeddings)), special=SPECIAL)


def judge(tie_embeddings: bool) -> BaseTask:
    task_config: dict[str, Any] = {"labels": ["a", "b"], "lm_loss_weight": 0.5}
    return Classify(llama.Model(config(tie_embeddings)), special=SPECIAL, task_config=task_config)


def config(tie_embeddings: bool) -> llama.Config:
    return llama.Config(
        vocab_size=V, context_length=8, layers=2, heads=2, d_model=16, tie_embeddings=tie_embeddings
    )


def head_of(task: BaseTask) -> set[str]:
    return {name for name in task.state_dict() if name.startswith("head.")}


def learning(task: BaseTask) -> set[str]:
    return {name for name, weight in task.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("tie_embeddings", [True, False])
@pytest.mark.parametrize("make", [writer, judge])
def test_full_is_everything(make: Any, tie_embeddings: bool) -> None:
    task = make(tie_embeddings)
    assert freeze(task, "full", KNOWN) == {}
    assert learning(task) == set(task.state_dict())


def test_the_head_alone() -> None:
    task = judge(True)
    assert freeze(task, "head", V) == {}
    assert learning(task) == head_of(task) != set()
    assert freeze(task, "head", KNOWN) == {TABLE: KNOWN}
    assert learning(task) == {*head_of(task), TABLE}
    task = judge(False)
    assert freeze(task, "head", KNOWN) == {TABLE: KNOWN, "words.weight": KNOWN}
    task = writer(False)
    assert freeze(task, "head", KNOWN) == {TABLE: KNOWN}
    assert learning(task) == {"head.weight", TABLE}
    with pytest.raises(SettingError, match="no head to train alone"):
        freeze(writer(True), "head", KNOWN)


@pytest.mark.parametrize(
    ("make", "tie_embeddings", "rows"),
    [
        (judge, True, {TABLE}),
        (judge, False, {TABLE, "words.weight"}),
        (writer, True, {TABLE}),
        (writer, False, {TABLE, "head.weight"}),
    ],
)
def test_adapters_and_what_is_new(make: Any, tie_embeddings: bool, rows: set[str]) -> None:
    task = make(tie_embeddings)
    head = set() if task.is_generative else head_of(task)
    add_adapters(task, llama, task.backbone.config, 2)
    assert freeze(task, "lora", V) == {}
    inside = {name for name in task.state_dict() if ".lora." in name}
    assert len(inside) == 2 * len(lora_adapters(task))
    assert learning(task) == inside | head
    assert freeze(task, "lora", KNOWN) == dict.fromkeys(rows, KNOWN)
    assert learning(task) == inside | head | rows


def test_adapters_of_rank_zero_leave_the_head() -> None:
    task = judge(True)
    add_adapters(task, llama, task.backbone.config, 0)
    assert freeze(task, "lora", KNOWN) == {TABLE: KNOWN}
    assert learning(task) == {*head_of(task), TABLE}
    with pytest.raises(SettingError, match="rank 0"):
        freeze(writer(True), "lora", KNOWN)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("what", ["head", "lora"])
def test_a_whole_fine_tuning_moves_nothing_else(what: Trainable, optimizer: str) -> None:
    torch.manual_seed(0)
    task = judge(True)
    task.init_weights()
    with torch.no_grad():
        task.head.weight.normal_()
    before = {name: weight.clone() for name, weight in task.state_dict().items()}
    if what == "lora":
        add_adapters(task, llama, task.backbone.config, 2)
    rows = freeze(task, what, KNOWN)
    settings = OptimSettings(optimizer=optimizer, weight_decay=0.1, lr=1e-2)
    optimizers = Optimizers(task, settings)
    for name, first in rows.items():
        optimizers.freeze_rows(name, first)
    tokens = torch.tensor([[12, 1, 2, 3, 14, 11], [12, 5, 6, 7, 8, 14]])
    targets = tokens.roll(-1, 1).masked_fill(tokens >= 10, -100)
    batch = Batch(tokens, targets, labels=torch.tensor([0, 1]), pool_index=torch.tensor([4, 5]))
    task.train()
    losses = []
    for _ in range(30):
        loss = task(batch).loss
        loss.backward()
        optimizers.step(1.0)
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    for name, weight in before.items():
        after = task.get_parameter(name)
        if name == TABLE:
            assert torch.equal(after[:KNOWN], weight[:KNOWN])
            assert not torch.equal(after[14], weight[14])
        else:
            assert torch.equal(after, weight) == (not name.startswith("head.")), name
