"""Small runs to export: trained just long enough that a greedy choice is no toss of a coin."""

from pathlib import Path
from typing import Any

import scriven

WORDS = (
    "the king",
    "my lord",
    "a crown",
    "sweet night",
    "the sea",
    "our fool",
    "no man",
    "thy name",
)
VERBS = ("loves", "fears", "has lost", "will find", "doesn't know", "sings of")

SMALL: dict[str, Any] = {
    "model.layers": 2, "model.d_model": 32, "model.heads": 2, "model.context_length": 136,
    "optim.optimizer": "adamw", "optim.lr": 1e-2,
    "runtime.dtype": "float32", "train.sample_seconds": 0, "train.batch_size": 8,
}  # fmt: skip

KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("gpt2", "bpe", {"tokenizer.pattern": "gpt2"}),
    # every choice that a llama file can express and that could be confused in it
    "llama": (
        "llama",
        "bpe",
        {"model.qk_norm": False, "model.kv_heads": 1, "model.tie_embeddings": False},
    ),
    "qwen": ("llama", "char", {"model.rope_theta": 5000.0}),
    "bytes": ("llama", "byte", {}),
    "qwen2": ("llama", "bpe", {"tokenizer.pattern": "qwen2"}),
    "words": ("gpt2", "word", {}),
    "banded": ("gpt3", "char", {"model.window": 16}),
    "dense": ("gpt3", "char", {"model.window": "none"}),
    "gpt1": ("gpt1", "char", {}),
    "roberta": ("roberta", "char", {}),
    "rnn": ("rnn", "char", {}),
    "transformer_xl": ("transformer_xl", "char", {}),
    "transformer": ("transformer", "char", {"model.d_ff": 64}),
}
"""name -> (architecture, tokenizer, settings)"""

TRAINED = ("gpt2", "llama", "qwen", "bytes", "transformer")
"""Those whose greedy text is compared; for ids and logits a few steps do."""


def text() -> str:
    """Some 8 kB of sentences, with characters of two and three bytes."""
    lines = []
    for number in range(240):
        first, second = WORDS[number * 7 % 8], WORDS[(number * 5 + number // 8) % 8]
        lines.append(f"{first} {VERBS[number * 11 % 6]} {second}{'.' if number % 3 else ' – né.'}")
    return "\n".join(lines) + "\n"


def make_run(name: str, folder: Path, steps: int = 120) -> Path:
    """The run folder of one of KINDS."""
    arch, kind, changes = KINDS[name]
    settings = {**SMALL, "tokenizer.kind": kind, **changes}
    if arch == "rnn":
        del settings["model.heads"]
    if kind in ("bpe", "word"):
        settings["tokenizer.vocab_size"] = 300
    source = folder / f"{name}.txt"
    source.write_text(text(), encoding="utf-8")
    out = folder / name
    scriven.train(source, out=out, arch=arch, budget=f"{steps}steps", settings=settings, quiet=True)
    return out
