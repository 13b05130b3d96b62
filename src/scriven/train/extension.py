"""Training a run for longer than its budget, on a branch that begins before its learning rate fell.

A run keeps the checkpoint of the step at which its learning rate began to fall. A longer budget
goes on from there at the flat rate, as if the run had had it from the start; the steps of the first
decay are given up (Hägele et al. 2024, arXiv 2405.18392, section 4). A schedule without a flat part
warms up again from the last state instead (Ibrahim et al. 2024, arXiv 2403.08763, section 5).

Each branch has checkpoints of its own, so that the model before it stays whole until it is beaten.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import config
from ..errors import DamagedError, InputError, SettingError
from ..runs import checkpoint
from .autoconfig import TrainPlan
from .schedule import Budget, flat_until, parse_budget

RESULTS = ("val_loss", "val_accuracy", "val_bits_per_byte", "best_step", "steps", "seconds")
"""What stays known of the training before an extension."""


def total_budget(text: str, plan: TrainPlan, metadata: Mapping[str, Any], folder: Path) -> Budget:
    """The whole budget of a run that a user asks for; `+1h` adds to what the run has.

    Raises:
        SettingError: no budget, or not more than a finished run has had.
    """
    had, results, adds = plan.budget, metadata["results"], text.startswith("+")
    asked = parse_budget(text.removeprefix("+"))
    # the same command resumes what it has begun
    is_same = results is None and text == metadata.get("added") if adds else asked == had
    if is_same:
        return had
    # 1. what the run has, in the unit that was asked for
    amount = had.amount
    if results is None and asked.unit != had.unit and adds:
        raise SettingError(f"--budget {text}: {folder} has a budget of {had}; add more {had.unit}")
    if results is not None and (asked.unit != had.unit or results["stopped"] == "converged"):
        spent = {name: results[name] for name in ("steps", "tokens", "seconds")}
        epochs = results["tokens"] / max(1, metadata["data"]["train_tokens"])
        amount = {**spent, "epochs": epochs}[asked.unit]
    # 2. what it would have then
    if adds:
        return Budget(asked.unit, amount + asked.amount)
    if results is not None and asked.amount <= amount:
        more = Budget(asked.unit, max(1.0, asked.amount))
        raise SettingError(
            f"--budget {text}: {folder} has had {Budget(asked.unit, amount)} already; to train it "
            f"longer, add to that: --resume {folder} --budget +{more}"
        )
    return asked


def extend(folder: Path, metadata: dict[str, Any], plan: TrainPlan, asked: str | None) -> list[str]:
    """Begins a new branch in the metadata of a run whose budget has changed, and says so; nothing
    where the run has not ended and its learning rate has not fallen yet.

    Args:
        asked: the budget as it was typed.

    Raises:
        InputError: no checkpoint is left to go on from.
    """
    extensions, results = metadata.get("extensions", []), metadata["results"]
    branch, optim = len(extensions), plan.settings.optim
    place = checkpoint.branch_folder(folder, branch)
    last = checkpoint.load_newest(place)
    if last is None and results is None:  # killed before its first save: it begins again
        metadata["added"] = asked
        return []
    if last is None:
        raise InputError(f"{folder} has no checkpoint left to go on from: train again, --out NEW")
    progress = last.state["progress"]
    flat_step = progress.get("flat_step", -1)
    metadata["added"] = asked
    if results is None and flat_step < 0:
        return []
    # 1. the last state before the learning rate fell, or else the last of all
    start, rewarm = last, optim.lr_schedule != "constant"
    why = f"the schedule {optim.lr_schedule} has no flat part"
    if optim.lr_schedule == "wsd":
        rewarm = flat_until(optim) is not None
        why = "no checkpoint from before the learning rate fell is left"
    if flat_step >= 0:
        with suppress(InputError, DamagedError):
            start, rewarm = checkpoint.load_step(place, flat_step), False
    given_up = last.step - start.step
    sentence = f"training goes on from step {start.step}"
    if given_up:
        sentence += f", before the learning rate fell; {given_up} steps after it are given up"
    if rewarm:
        sentence += f": {why}, so the learning rate warms up again"
    # 2. the best model so far, which stays until it is beaten
    best = {
        "best_score": progress["best_score"],
        "best_step": progress["best_step"],
        "best_branch": branch,
    }
    if extensions and not _beats(progress["best_score"], extensions[-1]["best_score"]):
        best = {name: extensions[-1][name] for name in best}
    extension = {
        "from_branch": branch,
        "from_step": start.step,
        "from_seconds": start.state["progress"]["seconds"],
        "rewarm": rewarm,
        "budget": config.to_dict(Budget(**metadata["settings"]["budget"])),
        "steps": progress["step"],
        "seconds": progress["seconds"],
        **best,
        "results": results and {name: results[name] for name in RESULTS if name in results},
    }
    metadata |= {"results": None, "extensions": [*extensions, extension]}
    return [sentence]


def _beats(score: float | None, other: float | None) -> bool:
    return score is not None and (other is None or score < other)
