"""A task is one file; an architecture's auxiliary loss is a part of its training loss."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

import scriven
from scriven import tasks as package
from scriven.cli import run
from scriven.data.batch import Batch
from scriven.models import gpt2
from scriven.tasks.language import Language

MOOD = '''
"""Mood: a text gets one of several moods."""

from collections.abc import Iterable
from typing import Any, ClassVar

from scriven.tasks.shared.classification import SequenceClassification, label_index, label_names
from scriven.tasks.shared.columns import Column, Row, label, text
from scriven.tasks.shared.supervised import Example
from scriven.tokenizers.base import Tokenizer


class Mood(SequenceClassification):
    """utterance -> mood."""

    COLUMNS: ClassVar = {
        "utterance": Column(("utterance",), text),
        "label": Column(("mood",), label, answer=True),
    }
    ANSWER_TYPE = "labels"
    ANSWER_COLUMN = "label"

    @classmethod
    def label_metadata(cls, rows: Iterable[Row]) -> dict[str, Any]:
        """The names of the moods."""
        return {"labels": label_names(rows)}

    @property
    def outputs(self) -> int:
        """One for each mood."""
        return len(self.task_config["labels"])

    def encode(self, tokenizer: Tokenizer, row: Row) -> Example:
        """Start, utterance, extract."""
        ids, cut = self.encode_parts(tokenizer, row["utterance"])
        index = label_index(row.get("label"), self.task_config["labels"])
        return Example((ids,), label=index, cut=cut)


Task = Mood
'''


def test_a_new_task_is_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found by its columns, trained, evaluated and used, without a change anywhere else."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "mood.py").write_text(MOOD, encoding="utf-8")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    assert package.__spec__ is not None
    monkeypatch.setattr(package.__spec__, "submodule_search_locations", package.__path__)
    (tmp_path / "text.txt").write_text("It was a dark and stormy night. " * 80, encoding="utf-8")
    base, out = str(tmp_path / "base"), str(tmp_path / "mood")
    shape = ["--model.layers=1", "--model.d_model=16", "--model.heads=2", "--quiet"]
    text = str(tmp_path / "text.txt")
    assert run(["train", text, "--out", base, "--budget", "2steps", *shape]) == 0
    rows = [f"It was {word} {i},{word}" for i in range(20) for word in ("dark", "stormy")]
    table = tmp_path / "moods.csv"
    table.write_text("\n".join(["utterance,mood", *rows]), encoding="utf-8")
    capsys.readouterr()
    tuned = ["finetune", base, str(table), "--out", out, "--budget", "2steps", "--quiet", "--json"]
    assert run(tuned) == 0
    assert json.loads(capsys.readouterr().out)["task"] == "mood"
    model = scriven.load(out)
    ((answer, probability),) = model.predict(["It was dark"])
    assert answer in ("dark", "stormy") and probability is not None
    assert run(["evaluate", out, str(table), "--json"]) == 0
    assert "accuracy" in json.loads(capsys.readouterr().out)["scores"]


class WithAuxLoss(gpt2.Model):
    """A GPT-2 whose auxiliary loss is the mean square of its hidden states."""

    def forward(self, *args: object, **settings: object) -> Tensor:
        self.last: Tensor = super().forward(*args, **settings)
        return self.last

    def aux_loss(self) -> Tensor:
        return self.last.square().mean()


def test_an_auxiliary_loss_is_added_in_training_alone() -> None:
    config = gpt2.Config(vocab_size=11, context_length=8, layers=1, heads=2, d_model=8, dropout=0.0)
    special = {"eos": 0, "pad": 1}
    torch.manual_seed(0)
    plain, task = (Language(kind(config), special=special) for kind in (gpt2.Model, WithAuxLoss))
    plain.init_weights()
    task.load_state_dict(plain.state_dict())
    tokens = torch.randint(2, 11, (3, 9))
    batch = Batch(tokens[:, :-1], tokens[:, 1:])
    for training in (True, False):
        plain.train(training)
        task.train(training)
        with_aux, without = task(batch), plain(batch)
        expected = task.backbone.last.square().mean() * 3 * 8 if training else 0.0
        assert torch.allclose(with_aux.loss, without.loss + expected, rtol=1e-6)
        assert int(with_aux.tokens) == int(without.tokens) == 3 * 8
    task.train()
    plain.train()
    task(batch).loss.backward()
    plain(batch).loss.backward()
    first, second = (each.backbone.embed.token.weight.grad for each in (task, plain))
    assert not torch.allclose(first, second), "it reaches the weights"
