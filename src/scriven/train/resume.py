"""Going on with a run: which settings may change, and which would make it another run."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import config, registry
from ..errors import InputError
from ..runs.load import architecture_of
from ..settings import (
    DataSettings,
    FinetuneSettings,
    OptimSettings,
    RuntimeSettings,
    Settings,
    TokenizerSettings,
    TrainSettings,
)
from .autoconfig import default_eval_interval, tokens_per_row
from .budget import Budget, parse_budget
from .request import Overrides
from .scaling_laws import model_shape
from .train_plan import TrainPlan, check_settings

FREE = {
    "train.save_seconds",
    "train.save_interval",
    "train.keep_checkpoints",
    "train.log_seconds",
    "train.sample_seconds",
    "train.micro_batch_size",
    "train.patience",
    "train.max_nonfinite_steps",
    "runtime.threads",
    "runtime.parallel",
    "runtime.activation_checkpointing",
    "runtime.distributed_timeout",
}
"""What may change without changing what is learnt."""


def plan_from_metadata(
    record: Mapping[str, Any], arch: str | None = None, optim: Mapping[str, object] | None = None
) -> TrainPlan:
    """The plan that a record was made from.

    Args:
        record: the content of scriven.json.
        arch: the file of the user's own architecture, which a record cannot name.
        optim: `--optim` settings of this command, with the files of the user's own optimizer and
            schedule.
    """
    kept = record["settings"]
    settings = Settings(
        config.replace(DataSettings(), kept["data"], "data"),
        config.replace(TokenizerSettings(), kept["tokenizer"], "tokenizer"),
        config.replace(OptimSettings(), _with_user_files(kept["optim"], optim or {}), "optim"),
        config.replace(TrainSettings(), kept["train"], "train"),
        config.replace(RuntimeSettings(), kept["runtime"], "runtime"),
        config.replace(FinetuneSettings(), kept.get("finetune", {}), "finetune"),
    )
    architecture = architecture_of(record, arch)
    module = registry.module("scriven.models", architecture)
    model = config.replace(module.Config(), record["model"], "model")
    budget = Budget(**kept["budget"])
    return TrainPlan(
        architecture, model, settings, budget, kept["seed"],
        kept["steps"], record["task"], dict(record["reasons"]),
    )  # fmt: skip


def _with_user_files(
    recorded: Mapping[str, object], given: Mapping[str, object]
) -> dict[str, object]:
    """Recorded `--optim` settings whose .py files come from the command line only: they are run.

    Raises:
        InputError: the run was made with a file that was not given.
    """
    settings = dict(recorded)
    for name in ("optimizer", "lr_schedule"):
        file, again = Path(str(recorded[name])), str(given.get(name, ""))
        if file.suffix != ".py":
            continue
        if Path(again).name != file.name:
            raise InputError(
                f"this run has an {name} of its own: name its file, --optim.{name} ./{file.name}"
            )
        settings[name] = again
    return settings


def check_resume_config(
    record: Mapping[str, Any], asked: Overrides, folder: Path
) -> tuple[TrainPlan, list[str]]:
    """The recorded plan with harmless changes, and a sentence for each of them.

    Raises:
        InputError: a change that would make it another run; names the setting and both values.
    """
    if asked.arch is not None and Path(asked.arch).stem != record["architecture"]:
        raise _other(folder, "--arch", record["architecture"], asked.arch)
    plan = plan_from_metadata(record, asked.arch, asked.sections.get("optim"))
    changes: list[str] = []
    if asked.seed is not None and asked.seed != plan.seed:
        raise _other(folder, "--seed", plan.seed, asked.seed)
    if asked.size is not None:
        given = asked.sections.get("model", {})
        for key, value in vars(model_shape(asked.size)).items():
            if key not in given and getattr(plan.model, key, value) != value:
                before = f"of {key} {getattr(plan.model, key)}"
                raise _other(folder, "a model", before, f"--size {asked.size} ({key} {value})")
    sections: dict[str, Any] = {}
    for name, values in asked.sections.items():
        before = plan.model if name == "model" else getattr(plan.settings, name)
        after = config.replace(before, values, name)
        for field in dataclasses.fields(after):
            old, new = getattr(before, field.name), getattr(after, field.name)
            key = f"{name}.{field.name}"
            if old == new or (new is None and field.default is None):
                continue  # "auto" was resolved when the run began
            if key not in FREE:
                raise _other(folder, f"--{key}", old, new)
            changes.append(f"changed: --{key}={new} (was {old})")
            sections.setdefault(name, {})[field.name] = new
    settings = dataclasses.replace(
        plan.settings,
        **{
            name: dataclasses.replace(getattr(plan.settings, name), **values)
            for name, values in sections.items()
        },
    )
    check_settings(settings)
    plan = dataclasses.replace(plan, settings=settings)
    if asked.budget is not None and parse_budget(asked.budget) != plan.budget:
        if record["results"] is not None:
            raise _other(
                folder, "--budget", f"{plan.budget.amount:g} {plan.budget.unit}", asked.budget
            )
        data = record["data"]
        row = tokens_per_row(plan.task, plan.model, data["train_tokens"], data.get("rows"))
        tokens = (settings.train.batch_size or 1) * row
        plan.budget = parse_budget(asked.budget)
        plan.steps = plan.budget.total_steps(tokens, data["train_tokens"])
        if plan.steps is not None and settings.train.eval_interval is None:
            every = default_eval_interval(plan.steps, tokens, data["validation_tokens"])
            train = dataclasses.replace(settings.train, eval_interval=every)
            plan.settings = dataclasses.replace(settings, train=train)
        changes.append(f"changed: --budget {asked.budget}")
    return plan, changes


def _other(folder: Path, name: str, old: object, new: object) -> InputError:
    return InputError(
        f"{folder} was begun with {name} {old}, not {new}: use the same value to go on, or "
        "--out NEW for a new run"
    )
