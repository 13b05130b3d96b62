"""From a trained model and a table to a fine-tuned run folder: a new one, or one to go on with.

The order matters: nothing is written before everything that can be refused has been refused.
"""

import glob
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .. import config, registry
from ..distributed import is_distributed
from ..errors import BusyError, InputError, ScrivenError, SettingError
from ..generate.sampling_params import LARGEST_SEED, check_whole
from ..models.shared.cost import build_empty
from ..runs import checkpoint
from ..runs.folder import create_run_dir, find_run
from ..runs.load import Loaded, load_run
from ..runs.lock import RunLock
from ..runs.metadata import check_size, read_metadata, write_metadata
from ..runtime import decide
from ..settings import Settings
from .autoconfig import finetune_defaults, finetune_model_config, plan_finetuning
from .budget import parse_budget
from .build_model import check_weights
from .conduct import TrainResult, run_plan
from .logging import Log, Stopwatch
from .metadata import new_record
from .request import Overrides, TrainRequest, UserComponents, read_overrides
from .resume import check_resume_config
from .rows import Rows
from .signals import StopSignal, handle_signals
from .table_data import TableData, encoded, load_table
from .train_plan import DatasetStats


def finetune(asked: TrainRequest, own: UserComponents | None = None) -> TrainResult:
    """Fine-tunes a model, or goes on with an interrupted fine-tuning, to its end.

    Raises:
        ScrivenError: anything that cannot be done as asked. Interrupted: stopped by a signal,
            after saving.
    """
    if not asked.sources:
        raise InputError("no data: give a .csv, .tsv, .jsonl or .parquet file, or a built-in table")
    clock = Stopwatch(began=asked.began)
    own = own or UserComponents()
    log = Log(None, quiet=asked.quiet)
    if is_distributed():
        raise SettingError("finetune is the work of one process: start it without torchrun")
    with handle_signals() as stop:
        overrides = read_overrides(
            TrainRequest(settings=asked.settings, budget=asked.budget, seed=asked.seed)
        )
        settings = overrides.apply(Settings())
        for name in overrides.sections.get("tokenizer", {}):
            raise SettingError(f"--tokenizer.{name}: the model keeps the one it was trained with")
        seed = 0 if overrides.seed is None else overrides.seed
        check_whole("seed", seed, LARGEST_SEED)
        budget = parse_budget(asked.budget) if asked.budget else None
        runtime = decide(settings.runtime)
        base = _base(asked)
        ground = load_table(
            asked.sources,
            settings.data,
            task=asked.task,
            columns=asked.columns,
            validation=asked.validation,
            seed=seed,
        )
        folder = _folder(asked, ground.name)
        if (folder / "scriven.json").exists():
            return _again(asked, overrides, folder, ground, base, stop, clock, own, log)
        if isinstance(base, ScrivenError):
            raise base
        _check_kind(base, ground.name)
        settings = overrides.apply(
            finetune_defaults(ground.name, settings.finetune.weights).settings
        )
        rows, facts = _rows(base, ground, asked, settings)
        model = finetune_model_config(base, rows.tokenizer, overrides.sections.get("model", {}))
        data = DatasetStats(
            rows.tokenizer.vocab_size,
            settings.tokenizer,
            *rows.tokens,
            longest=max(example.length for example in rows.train_examples),
            rows=len(rows.train),
        )
        plan = plan_finetuning(
            base, model, settings, budget, seed, ground.name, data, runtime
        )  # fmt: skip
        check_weights(
            registry.module("scriven.models", plan.architecture), plan, rows.tokenizer, facts
        )
        parts = (plan, rows.tokenizer, rows.data, folder.name)
        check_size(new_record(*parts, "", runtime, [], facts))
        folder = create_run_dir(folder)
        for sentence in rows.notes:
            log.say(sentence)
        with RunLock(folder):
            if (folder / "scriven.json").exists():
                raise BusyError(f"{folder} was made by another process just now: try again")
            record = new_record(*parts, asked.command, runtime, own.names(), facts)
            write_metadata(folder, record)
            own = replace(own, base_weights=None if asked.fresh else base.task.state_dict())
            return run_plan(plan, rows, folder, record, runtime, stop, clock, own, asked.quiet)


def _again(
    asked: TrainRequest,
    overrides: Overrides,
    folder: Path,
    ground: TableData,
    base: Loaded | ScrivenError,
    stop: StopSignal,
    clock: Stopwatch,
    own: UserComponents,
    log: Log,
) -> TrainResult:
    """A run that exists: go on with it, or give its results once more."""
    record = read_metadata(folder)
    if record.get("task") != ground.name or "finetune" not in record:
        raise InputError(
            f"{folder} is a run for {record.get('task')}, not {ground.name}: use --out NEW"
        )
    plan, changes = check_resume_config(record, overrides, folder)
    if ground.fingerprint != record["data"]["fingerprint"]:
        raise InputError(
            f"{folder} was fine-tuned on other rows, or the table has changed since: use --out NEW"
        )
    if isinstance(base, ScrivenError):  # what it has learnt since is in its checkpoints
        if not checkpoint.steps(folder):
            raise base
        log.say(f"{base}; going on without it")
        base, base_weights = load_run(folder, asked.arch), None
    else:
        before = record["finetune"]["base"]
        if (before["weights"], before["fresh"]) != (_digest(base), asked.fresh):
            raise InputError(f"{folder} was fine-tuned from another model: use --out NEW")
        base_weights = None if asked.fresh else base.task.state_dict()
    if record["results"] is not None:
        log.say(f"{folder} is finished; use --out NEW for another run")
        return TrainResult(folder, {**record["results"], "run": str(folder)})
    rows, _ = _rows(base, ground, asked, plan.settings)
    if record["tokenizer"]["fingerprint"] != rows.tokenizer.fingerprint:
        raise InputError(f"{folder} was fine-tuned from another model: use --out NEW")
    runtime = decide(plan.settings.runtime)
    if runtime.threads != record["environment"]["threads"]:
        log.say("another number of threads than before: the numbers may differ in the last digits")
    own = replace(own, base_weights=base_weights)
    with RunLock(folder):
        for sentence in changes:
            log.say(sentence)
        if changes:
            record["settings"].update(config.to_dict(plan.settings))
            record["settings"]["budget"] = config.to_dict(plan.budget)
            record["settings"]["steps"] = plan.steps
            record["command"] = asked.command
            write_metadata(folder, record)
        return run_plan(plan, rows, folder, record, runtime, stop, clock, own, asked.quiet)


def _base(asked: TrainRequest) -> Loaded | ScrivenError:
    """The model to start from, or why it cannot be had, where a run made from it may go on.

    Raises:
        ScrivenError: it cannot be had, and there is nothing to go on with.
    """
    try:
        return load_run(find_run(asked.base or ""), asked.arch)
    except ScrivenError as error:
        name = Path(asked.base or "").name
        begun = [Path(asked.out)] if asked.out else Path("runs").glob(f"{glob.escape(name)}-*")
        if not any((folder / "scriven.json").exists() for folder in begun):
            raise
        return error


def _digest(base: Loaded) -> str:
    """SHA-256 of a model's weights."""
    digest = hashlib.sha256()
    for name, weight in sorted(base.task.state_dict().items()):
        digest.update(name.encode() + b"\n")
        digest.update(weight.detach().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _folder(asked: TrainRequest, task: str) -> Path:
    if asked.out == "":
        raise SettingError("--out is empty: name a folder, or leave it away for runs/NAME")
    if asked.out is not None:
        return Path(asked.out)
    try:
        name = find_run(asked.base or "").name
    except ScrivenError:  # it is gone; its fine-tuning may go on
        name = Path(asked.base or "").name
    return Path("runs") / f"{name}-{task}"


def _check_kind(base: Loaded, name: str) -> None:
    """Refuses a task that the base model cannot do.

    Raises:
        InputError: names the architecture and what can do it.
    """
    kinds = registry.module("scriven.tasks", name).Task.BACKBONES
    if base.task.backbone.kind not in kinds:
        raise InputError(
            f"{base.folder.name} ({base.record['architecture']}) reads in both directions and "
            f"writes nothing, so it cannot {name}: start from a run of llama or transformer"
        )


def _rows(
    base: Loaded, ground: TableData, asked: TrainRequest, settings: Settings
) -> tuple[Rows, dict[str, Any]]:
    """The rows in token ids, and what scriven.json says of the fine-tuning."""
    kind = ground.task
    about = kind.label_metadata(ground.train)
    tokenizer = base.tokenizer.with_special_tokens(*kind.EXTRA_TOKENS)
    before = base.record.get("finetune") or {}
    same = base.record["task"] == ground.name and all(
        before.get(name) == value for name, value in about.items()
    )
    facts = {
        **about,
        "lm_loss_weight": settings.finetune.lm_loss_weight,
        "label_smoothing": settings.finetune.label_smoothing,
        "token_dropout": settings.finetune.token_dropout,
        "lm_score_weight": _likelihood(base, ground.name, settings),
        "copy_head": _copies(base, ground.name, settings),
        "columns": ground.columns,
        "validation": asked.validation,
        "base": {
            "run": str(asked.base),
            "name": base.folder.name,
            "vocab_size": base.tokenizer.vocab_size,
            "weights": _digest(base),
            "fresh": asked.fresh,
            "same_answers": same and not asked.fresh,
        },
    }
    module = registry.module("scriven.models", base.architecture)
    model = finetune_model_config(base, tokenizer, {})
    empty: Any = build_empty(module, model, registry.module("scriven.tasks", "language").Task)
    train, validation = (
        encoded(kind, empty.backbone, tokenizer, facts, part)
        for part in (ground.train, ground.validation)
    )
    rows = Rows(
        tokenizer=tokenizer,
        name=ground.name,
        task=kind,
        train=ground.train,
        validation=ground.validation,
        train_examples=train,
        validation_examples=validation,
        about=about,
        data={},
        notes=ground.notes,
    )
    first, second = rows.tokens
    rows.data.update(
        fingerprint=ground.fingerprint,
        sources=list(asked.sources),
        rows=len(ground.train),
        validation_rows=len(ground.validation),
        train_tokens=first,
        validation_tokens=second,
        opening=tokenizer.eos,
    )
    return rows, facts


def _likelihood(base: Loaded, name: str, settings: Settings) -> float:
    """How much what the model makes of an answer as text counts.

    Raises:
        SettingError: it is asked for where there is none.
    """
    weight = settings.finetune.lm_score_weight
    if weight and (name != "choice" or base.task.backbone.kind != "decoder"):
        raise SettingError(
            f"--finetune.lm_score_weight={weight:g}: only for the task choice, and only for "
            "decoders"
        )
    return weight


def _copies(base: Loaded, task: str, settings: Settings) -> bool:
    """Whether the model copies from its source.

    Raises:
        SettingError: it was asked to, and cannot.
    """
    can = base.task.backbone.kind == "encoder-decoder" and task in ("translate", "summarize")
    if settings.finetune.copy_head and not can:
        raise SettingError(
            "--finetune.copy_head: only an encoder-decoder can, in translate and summarize"
        )
    return (
        task == "summarize" if settings.finetune.copy_head is None else settings.finetune.copy_head
    ) and can
