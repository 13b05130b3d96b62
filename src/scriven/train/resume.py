"""Resuming a run: which settings may change, and which would make it another run."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import config, registry
from ..errors import InputError
from ..runs.load import architecture_of
from ..settings import Settings
from .autoconfig import TrainPlan, default_eval_interval, tokens_per_row
from .extension import total_budget
from .request import Overrides
from .scaling_laws import model_shape
from .schedule import Budget

FREE = {
    "train.save_seconds",
    "train.save_interval",
    "train.keep_checkpoints",
    "train.log_seconds",
    "train.sample_seconds",
    "train.micro_batch_size",
    "train.patience",
    "train.max_nonfinite_steps",
    "train.skip_spikes",
    "train.trackers",
    "runtime.threads",
    "runtime.parallel",
    "runtime.activation_checkpointing",
    "runtime.distributed_timeout",
}
"""Settings that may change, because they do not change the trained model."""


def plan_from_metadata(
    metadata: Mapping[str, Any], arch: str | None = None, optim: Mapping[str, object] | None = None
) -> TrainPlan:
    """The plan that a run was started with.

    Args:
        arch, optim: the file of the user's own architecture, and the `--optim` settings with the
            files of an own optimizer and schedule: a run folder never names code.
    """
    # everything was resolved when the run began: nothing is chosen again on another machine
    recorded = metadata["settings"]
    optim_settings = _with_user_files(recorded["optim"], optim or {})
    stored = {**recorded, "optim": optim_settings}
    sections = {
        name: config.replace(default, stored.get(name, {}), name)
        for name, default in vars(Settings()).items()
    }
    architecture = architecture_of(metadata, arch)
    module = registry.module("scriven.models", architecture)
    return TrainPlan(
        architecture,
        config.replace(module.Config(), metadata["model"], "model"),
        Settings(**sections),
        Budget(**recorded["budget"]),
        recorded["seed"],
        recorded["steps"],
        metadata["task"],
        dict(metadata["reasons"]),
    )


def _with_user_files(
    recorded: Mapping[str, object], given: Mapping[str, object]
) -> dict[str, object]:
    """Recorded `--optim` settings whose .py files come from the command line only: they are run.

    Raises:
        InputError: the run was started with a file that was not given.
    """
    settings = dict(recorded)
    for name in ("optimizer", "lr_schedule"):
        file, again = Path(str(recorded[name])), str(given.get(name, ""))
        if file.suffix != ".py":
            continue
        # the file may lie elsewhere now; its name is all that can be compared
        if Path(again).name != file.name:
            raise InputError(
                f"this run has an {name} of its own: name its file, --optim.{name} ./{file.name}"
            )
        settings[name] = again
    return settings


def check_resume_config(
    metadata: Mapping[str, Any], overrides: Overrides, folder: Path, longer: bool = False
) -> tuple[TrainPlan, list[str]]:
    """The plan of a run with harmless changes, and a sentence for each of them.

    Args:
        longer: whether a finished run may get a larger budget; `+1h` always may.

    Raises:
        InputError: a change that would make it another run; names the setting and both values.
    """
    # 1. what defines a run: architecture, seed, size
    if overrides.arch is not None and Path(overrides.arch).stem != metadata["architecture"]:
        raise _different_run(folder, "--arch", metadata["architecture"], overrides.arch)
    plan = plan_from_metadata(metadata, overrides.arch, overrides.sections.get("optim"))
    if overrides.seed is not None and overrides.seed != plan.seed:
        raise _different_run(folder, "--seed", plan.seed, overrides.seed)
    if overrides.size is not None:
        given = overrides.sections.get("model", {})
        # an explicit --model.layers goes before the size, as when the run began
        for key, value in vars(model_shape(overrides.size)).items():
            if key not in given and getattr(plan.model, key, value) != value:
                before = f"of {key} {getattr(plan.model, key)}"
                new = f"--size {overrides.size} ({key} {value})"
                raise _different_run(folder, "a model", before, new)
    # 2. settings, of which some may change
    settings, changes = _changed_settings(plan, overrides, folder)
    plan = dataclasses.replace(plan, settings=settings)
    # 3. the budget: any other while the run is not finished, a larger one afterwards
    if overrides.budget is not None:
        text, had = overrides.budget, plan.budget
        budget = total_budget(text, plan, metadata, folder)
        if budget != had:
            if metadata["results"] is not None and not (longer or text.startswith("+")):
                raise InputError(
                    f"{folder} is finished, with a budget of {had}: to train it longer, use "
                    f"--resume {folder} --budget {text}, or --out NEW for a new run"
                )
            _change_budget(plan, budget, metadata["data"])
            changes.append(f"changed: --budget {budget} (was {had})")
    return plan, changes


def _changed_settings(
    plan: TrainPlan, overrides: Overrides, folder: Path
) -> tuple[Settings, list[str]]:
    """The settings of a plan with the overrides, and a sentence for each change."""
    sections, changes = dict(vars(plan.settings)), list[str]()
    for name, values in overrides.sections.items():
        # compared value by value, so that repeating the first command changes nothing
        before = plan.model if name == "model" else sections[name]
        after = config.replace(before, values, name)
        changed: dict[str, Any] = {}
        for field in dataclasses.fields(after):
            key = f"{name}.{field.name}"
            old, new = getattr(before, field.name), getattr(after, field.name)
            # a value that is not given again stays
            if old == new or (new is None and field.default is None):
                continue  # "auto" was resolved when the run began
            if key not in FREE:
                raise _different_run(folder, f"--{key}", old, new)
            changes.append(f"changed: --{key}={new} (was {old})")
            changed[field.name] = new
        if changed:
            sections[name] = dataclasses.replace(before, **changed)
    return Settings(**sections), changes


def _change_budget(plan: TrainPlan, budget: Budget, data: Mapping[str, Any]) -> None:
    """Gives a plan another budget, with the steps and the evaluation interval that follow."""
    train = plan.settings.train
    # the same rule as for a new run, so that both runs end after the same text
    row = tokens_per_row(plan.task, plan.model, data["train_tokens"], data.get("rows"))
    tokens_per_step = (train.batch_size or 1) * row
    plan.budget = budget
    plan.steps = budget.total_steps(tokens_per_step, data["train_tokens"])
    # an interval that was chosen for a text fits the new number of steps
    is_chosen = "train.eval_interval" in plan.reasons and "validation_rows" not in data
    if plan.steps is not None and (train.eval_interval is None or is_chosen):
        interval = default_eval_interval(plan.steps, tokens_per_step, data["validation_tokens"])
        train = dataclasses.replace(train, eval_interval=interval)
        plan.settings = dataclasses.replace(plan.settings, train=train)


def _different_run(folder: Path, name: str, old: object, new: object) -> InputError:
    return InputError(
        f"{folder} was begun with {name} {old}, not {new}: use the same value to resume it, or "
        "--out NEW for a new run"
    )
