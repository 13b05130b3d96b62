"""Every task that reads tables with every architecture that can do it: tiny, random, in float64."""

import dataclasses
import random
from functools import cache
from typing import Any

import torch

from scriven import config, registry
from scriven.data.batch import Batch
from scriven.models.base import BASES
from scriven.settings import TokenizerSettings
from scriven.tasks.shared.columns import BadValue, Column, Row
from scriven.tasks.shared.supervised import Example, SupervisedTask
from scriven.tasks.shared.words import word_spans
from scriven.tokenizers import Tokenizer, char

CPU = torch.device("cpu")
CONTEXT = 64
SHAPE = {"context_length": CONTEXT, "layers": 1, "heads": 2, "d_model": 16}
LETTERS = "abcdefg hijk.\n"
LABELS = ["a b", "no", "🎭"]

TASKS: dict[str, type[SupervisedTask]] = {
    name: kind
    for name in registry.names("scriven.tasks")
    if issubclass(kind := registry.module("scriven.tasks", name).Task, SupervisedTask)
}
MODELS = {
    name: registry.module("scriven.models", name)
    for name in registry.names("scriven.models", BASES)
}
ABLE = [
    (task, model)
    for task, kind in TASKS.items()
    for model, module in MODELS.items()
    if module.Model.kind in kind.BACKBONES
]
"""(task, architecture)"""


@cache
def tokenizer(task: str) -> Tokenizer:
    """Characters, with the special tokens of a task."""
    words = LETTERS + "systemuserassistant"
    made = char.train([words], TokenizerSettings(kind="char"))
    return made.with_special_tokens(*TASKS[task].EXTRA_TOKENS)


def make(task: str, model: str, more: dict[str, Any] | None = None, **changes: object) -> Any:
    """A model with large random weights, so that every token matters; in training mode.

    Args:
        more: facts of the fine-tuning.
        changes: fields of the Config.
    """
    known, module, kind = tokenizer(task), MODELS[model], TASKS[task]
    fields = {field.name for field in dataclasses.fields(module.Config)}
    shape = {**SHAPE, "vocab_size": known.vocab_size, "padding": known.pad, **changes}
    chosen = {name: value for name, value in shape.items() if name in fields}
    task_config = {"labels": LABELS, "mean": 2.5, "spread": 2.0, "low": 1.0, "high": 5.0}
    task_config["unanswerable"] = True
    task_config |= more or {}
    made = config.replace(module.Config(), chosen, "model")
    torch.manual_seed(1)
    task_made = kind(module.Model(made), None, known.special_token_ids, task_config)
    with torch.no_grad():
        for weight in task_made.parameters():
            weight.normal_(0, 0.3)
    return task_made.double().train()


def rows(task: str, count: int, longest: int = 14, seed: int = 0) -> list[Row]:
    """Rows of very different lengths, whatever the task's columns are."""
    draw, kind = random.Random(f"{seed}/{task}"), TASKS[task]
    made = [
        {
            name: _value(kind, name, column, draw, 1 + (number * 5 + place) % longest)
            for place, (name, column) in enumerate(kind.COLUMNS.items())
        }
        for number in range(count)
    ]
    for row in made:
        _agree(task, row, draw)
    return made


def encode(task: Any, name: str, table: list[Row]) -> list[Example]:
    """Rows in token ids."""
    known = tokenizer(name)
    return [task.encode(known, row) for row in table]


def batch(task: Any, name: str, table: list[Row]) -> Batch:
    """Rows as one batch."""
    made: Batch = task.collate(encode(task, name, table), CPU)
    return made


def sentence(draw: random.Random, length: int) -> str:
    """Text of exactly so many tokens, not blank."""
    return "".join(draw.choice(LETTERS) for _ in range(length - 1)) + draw.choice("abcdef")


def _agree(task: str, row: Row, draw: random.Random) -> None:
    """Answers that depend on the rest of a row."""
    if task == "tag":
        row["tokens"] = [word for word in row["tokens"] if word.strip()]
        row["tags"] = [draw.choice(LABELS) for _ in row["tokens"]]
    if task == "answer":
        first, last = sorted(draw.choices(word_spans(row["context"]), k=2))
        said = row["context"][first[0] : last[1]]
        row["answers"] = [{"text": said, "start": first[0]}] * draw.choice((0, 1, 1))
    if task == "rank":
        del row["positive"], row["negative"]
        row["relevance"] = [float(n) for n in range(len(row["documents"]))]
        draw.shuffle(row["relevance"])


def _value(
    kind: type[SupervisedTask], name: str, column: Column, draw: random.Random, size: int
) -> Any:
    if kind.ANSWER_TYPE == "preferences":
        return column.read(sentence(draw, size))
    if column.answer and kind.ANSWER_TYPE != "texts":
        return {"labels": draw.choice(LABELS), "numbers": draw.randrange(8, 41) / 8, "choices": 1,
                "labelsets": draw.sample(LABELS, draw.randrange(3)), "tags": [], "spans": [],
                "rankings": []}[kind.ANSWER_TYPE]  # fmt: skip
    turns = [
        {"role": role, "content": sentence(draw, size)}
        for role in ("user", "assistant") * draw.choice((1, 2))
    ]
    texts = [sentence(draw, size + n) for n in range(draw.choice((2, 3)))]
    for value in (turns, texts, sentence(draw, size)):
        try:
            column.read(value)
        except BadValue:
            continue
        return value
    raise AssertionError(f"no value is known for the column {name}")
