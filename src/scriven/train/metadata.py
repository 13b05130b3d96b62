"""What a run writes about itself: scriven.json before the first step, and what counting reaches."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import __version__, config, registry
from ..data.pairs import PairDataset, pair_targets
from ..data.shards import TokenDataset
from ..evaluate.ngram import MAX_TOKENS, NGram, default_order
from ..runtime import Runtime
from ..tokenizers import Tokenizer
from .train_plan import TrainPlan


def new_record(
    plan: TrainPlan,
    tokenizer: Tokenizer,
    data: Mapping[str, Any],
    name: str,
    command: str,
    runtime: Runtime,
    own: list[str],
    finetune: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of scriven.json before the first step.

    Args:
        data: what it is trained on, as `about_text` tells it of a text.
        own: names of the user's own parts.
        finetune: what the task needs to know again, of a fine-tuning.
    """
    return {
        "scriven": __version__,
        "name": name,
        "architecture": Path(plan.architecture).stem,
        "task": plan.task,
        "measure": registry.module("scriven.tasks", plan.task).Task.loss_unit,
        "model": config.to_dict(plan.model),
        "settings": {
            **config.to_dict(plan.settings),
            "budget": {"unit": plan.budget.unit, "amount": plan.budget.amount},
            "steps": plan.steps,
            "seed": plan.seed,
        },
        "reasons": plan.reasons,
        "command": command,
        "environment": runtime.describe(),
        "data": dict(data),
        "tokenizer": {
            "kind": tokenizer.kind,
            "vocab_size": tokenizer.vocab_size,
            "fingerprint": tokenizer.fingerprint,
        },
        **({} if finetune is None else {"finetune": dict(finetune)}),
        "own": own,
        "results": None,
    }


def about_text(corpus: TokenDataset) -> dict[str, Any]:
    """What scriven.json tells of a text."""
    return {
        "fingerprint": corpus.fingerprint,
        "sources": corpus.sources,
        "characters": corpus.characters,
        "documents": corpus.documents,
        "rows": len(PairDataset(corpus.train, corpus.tokenizer.eos)) if corpus.pairs else None,
        "train_tokens": len(corpus.train),
        "validation_tokens": len(corpus.validation),
        "validation_bytes": corpus.validation_bytes,
        "opening": opening(corpus),
    }


def opening(corpus: TokenDataset) -> int:
    """The token that an empty prompt stands for.

    Between documents it is EOS. A single document has none, so its model never read one: there a
    text begins as a line does, or, in a text without lines, as that text did.
    """
    tokenizer = corpus.tokenizer
    if corpus.documents > 1:
        return tokenizer.eos
    line = tokenizer.encode("\n")
    beginning = corpus.train.read(0, min(len(corpus.train), 1_000_000))
    return line[0] if len(line) == 1 and line[0] in beginning else int(beginning[0])


def fit_baseline(corpus: TokenDataset) -> dict[str, Any]:
    """What counting n-grams reaches on the same split."""
    order = default_order(corpus.tokenizer.kind)
    used = min(len(corpus.train), MAX_TOKENS)
    train = corpus.train.read(len(corpus.train) - used, used)
    validation = corpus.validation.read(0, len(corpus.validation))
    if corpus.pairs:  # what is counted is the targets, each after the one before it
        train, validation = (pair_targets(ids, corpus.tokenizer.eos) for ids in (train, validation))
    model = NGram.fit(train, order=order, vocab_size=corpus.tokenizer.vocab_size)
    loss = model.loss(validation)
    bits = loss * len(validation) / math.log(2) / max(1, corpus.validation_bytes)
    return {"loss": loss, "order": order, "tokens": model.tokens, "bits_per_byte": bits}
