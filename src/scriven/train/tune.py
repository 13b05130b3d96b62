"""Every setting of a fine-tuning that a person left open, chosen for the model and the table."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from .. import config, registry
from ..errors import SettingError
from ..models.shared.cost import check_fits
from ..runs.load import Loaded
from ..runtime import Runtime, memory_available
from ..settings import OptimSettings, Settings
from ..tokenizers import Tokenizer
from .budget import Budget
from .optim.base import OptimizerModule
from .plan import Plan, check_ranges

LABELLING = Settings(
    optim=OptimSettings(
        optimizer="adamw", lr_schedule="linear", warmup_fraction=0.1, weight_decay=0.01
    )
)
WRITING = Settings(optim=OptimSettings(muon_lr=0.01))
"""Where a fine-tuning begins, before anything is asked for: a head for labels learns in a few
careful passes, as adapters do; writing is learned as in pre-training, at half the rate."""

PASSES, UPDATES = 10, 400
"""Through the rows, and updates at least, where no budget is given."""
LOOKS = 20
"""Evaluations, at most."""
BATCH = 32
"""Rows of an update, with labels."""
TOKENS = 4096
"""Tokens of an update, of written answers."""
AT_ONCE = 5120
"""Tokens of a micro-batch on a processor: what does not fit into its caches takes a quarter longer
(LOG.md)."""
DROPOUT = 0.1
PATIENCE = 4
"""Evaluations without a better one."""


def writes(task: str) -> bool:
    """Whether a task, a file of tasks/, answers with texts."""
    return bool(registry.module("scriven.tasks", task).Task.is_generative)


def usual_settings(task: str, weights: str) -> Settings:
    """Where a fine-tuning for a task begins; `weights` as in TuneSettings."""
    return WRITING if writes(task) and weights != "lora" else LABELLING


def tuned_shape(base: Loaded, tokenizer: Tokenizer, asked: Mapping[str, object]) -> Any:
    """The base model's Config with the vocabulary of the new tokenizer and the dropout of a
    fine-tuning.

    Raises:
        SettingError: another field was asked for, which would make it another model.
    """
    for name in asked:
        if name != "dropout":
            raise SettingError(
                f"--model.{name}: the model keeps the shape it was trained with; only "
                "--model.dropout may change"
            )
    before = base.task.backbone.config
    fields = {field.name for field in dataclasses.fields(before)}  # type: ignore[arg-type]
    changes: dict[str, object] = {"vocab_size": tokenizer.vocab_size, "dropout": DROPOUT, **asked}
    if "padding" in fields:  # its twin counts positions from there, wherever the vocabulary ends
        changes["padding"] = tokenizer.pad
    return config.replace(before, changes, "model")


def plan_tuning(
    base: Loaded,
    model: Any,
    settings: Settings,
    budget: Budget | None,
    seed: int,
    task: str,
    rows: int,
    tokens: tuple[int, int],
    longest: int,
    runtime: Runtime,
) -> Plan:
    """A fine-tuning, fully decided.

    Args:
        budget: as asked for; chosen by the number of rows otherwise.
        rows: of the training part.
        tokens: of the training and of the validation part.
        longest: tokens of the longest row.

    Raises:
        SettingError: an impossible number. ResourceError: it does not fit into memory.
    """
    check_ranges(settings)
    reasons = dict(runtime.reasons)
    train = settings.train
    if train.initial_context_length is not None:
        raise SettingError(
            f"--train.initial_context_length={train.initial_context_length} is for "
            "pre-training: leave it out"
        )
    each = max(1, round(tokens[0] / rows))
    usual = max(8, min(128, TOKENS // each)) if writes(task) else BATCH
    batch = train.batch_size or min(
        usual, max(8, rows // 20), rows
    )  # twenty updates in a pass at least
    at_once = max(1, AT_ONCE // each) if runtime.device.type == "cpu" else batch
    micro = min(batch, train.micro_batch_size or at_once)
    check_fits(model, micro * longest, memory_available(runtime.device))
    a_pass = max(1, round(rows / batch))
    if budget is None:
        passes = max(PASSES, -(-UPDATES // a_pass))
        budget = Budget("epochs", passes)
        reasons["budget"] = f"{passes} passes, and at least {UPDATES} updates"
    steps = budget.total_steps(batch * each, rows * each)
    every, patience, lr = train.eval_interval, train.patience, settings.optim.lr
    if every is None and steps is not None:
        every = min(steps, max(a_pass, -(-steps // LOOKS)))
        reasons["train.eval_interval"] = f"once in each pass, at most {LOOKS} times"
    if patience is None:
        patience = PATIENCE
        reasons["train.patience"] = "few rows are soon learned by heart"
    if lr is None:
        module, lora = (
            OptimizerModule(settings.optim.optimizer),
            settings.finetune.weights == "lora",
        )
        lr = module.finetune_lr(model.d_model, lora)
        reasons["optim.lr"] = f"for {settings.optim.optimizer} at width {model.d_model}"
    reasons["model.dropout"] = "few rows are learned by heart without it"
    filled = dataclasses.replace(
        settings,
        tokenizer=config.replace(
            settings.tokenizer, {"kind": base.record["tokenizer"]["kind"]}, "tokenizer"
        ),
        train=dataclasses.replace(
            train, batch_size=batch, micro_batch_size=micro, eval_interval=every, patience=patience
        ),
        optim=dataclasses.replace(settings.optim, lr=lr),
        runtime=dataclasses.replace(
            settings.runtime,
            device=str(runtime.device),
            dtype=str(runtime.dtype).removeprefix("torch."),  # type: ignore[arg-type]
            compile=bool(settings.runtime.compile),
            threads=runtime.threads,
        ),
    )
    return Plan(base.architecture, model, filled, budget, seed, steps, task, reasons)
