"""Runs that can talk, made by hand in seconds: three questions they know by heart."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from scriven import __version__, config, registry
from scriven.runs.huggingface import hf_files, save_pretrained
from scriven.runs.metadata import write_metadata
from scriven.runs.weights import to_hf_weights
from scriven.settings import Settings, TokenizerSettings
from scriven.tokenizers import train_tokenizer
from scriven.tokenizers.chat_template import from_prompt, render_conversation

TALKS = [
    ("Who are you?", "I am a fool, my lord.\nA poor one."),
    ("What is the hour?", "Near midnight – 12."),
    ("Good night.", "Sweet rest."),
]
CONTEXT = 160


def make_talker(folder: Path, kind: str = "bpe", context: int = CONTEXT) -> Path:
    """The folder of a small chat model that has learnt TALKS, alone and after each other."""
    torch.manual_seed(3)
    text = "\n\n".join(part for talk in TALKS for part in talk) * 20
    settings = TokenizerSettings(vocab_size=300)
    tokenizer = train_tokenizer(kind, iter([text]), settings).with_special_tokens("turn", "end")
    architecture = registry.module("scriven.models", "llama")
    shape = architecture.Config(
        vocab_size=tokenizer.vocab_size, context_length=context, layers=2, heads=2, d_model=48
    )
    module: Any = registry.module("scriven.tasks", "chat")
    with torch.random.fork_rng():
        task = module.Task(architecture.Model(shape), special=tokenizer.special_token_ids)
        task.init_weights()
        _learn(task, [_example(tokenizer, [first]) for first in TALKS])
        _learn(task, [_example(tokenizer, [a, b]) for a in TALKS for b in TALKS])
    about = {
        "scriven": __version__,
        "name": folder.name,
        "architecture": "llama",
        "task": "chat",
        "model": config.to_dict(shape),
        "settings": {
            **config.to_dict(Settings()),
            "budget": {"unit": "steps", "amount": 0},
            "steps": 0,
            "seed": 0,
        },
        "reasons": {},
        "command": "",
        "environment": {"device": "cpu", "dtype": "float32"},
        "data": {"fingerprint": None, "sources": []},
        "tokenizer": {
            "kind": tokenizer.kind,
            "vocab_size": tokenizer.vocab_size,
            "fingerprint": tokenizer.fingerprint,
        },
        "finetune": {},
        "results": {"finished": True},
    }
    folder.mkdir(parents=True)
    files = hf_files(architecture, shape, folder.name, tokenizer, about)
    weights = {name: value.detach() for name, value in task.state_dict().items()}
    save_pretrained(
        folder, files, to_hf_weights(architecture, shape, weights, "chat"), {"step": "0"}
    )
    write_metadata(folder, about)
    return folder


def _example(tokenizer: Any, talks: Sequence[tuple[str, str]]) -> tuple[list[int], list[int]]:
    """Ids, and the target after each."""
    messages = [message for talk in talks for message in from_prompt(*talk)]
    ids, answers = render_conversation(tokenizer, messages)
    return ids[:-1], [token if mine else -100 for token, mine in zip(ids, answers, strict=True)][1:]


def _learn(task: Any, examples: Sequence[tuple[list[int], list[int]]]) -> None:
    optimizer = torch.optim.Adam(task.parameters(), lr=6e-3)
    longest = max(len(ids) for ids, _ in examples)
    tokens = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids, _ in examples])
    targets = torch.tensor([[*want, *[-100] * (longest - len(want))] for _, want in examples])
    for _ in range(300):
        scores = task.logits(task.backbone(tokens)).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(scores, targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.02:
            return
