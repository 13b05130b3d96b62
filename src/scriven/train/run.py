"""From what a person asked for to a trained run folder: a new run, one to go on with, or a
finished one.

The order matters: nothing is written before everything that can be refused has been refused.
"""

import dataclasses
import shlex
from pathlib import Path

from .. import config, registry
from ..data.pairs import PairDataset
from ..data.pipeline import load_dataset
from ..data.shards import TokenDataset
from ..data.sources import are_pairs
from ..distributed import init_distributed
from ..errors import BusyError, InputError, SettingError
from ..generate.sampling_params import LARGEST_SEED, check_whole
from ..models.shared.backbone import pretraining
from ..runs.folder import create_run_dir, find_run
from ..runs.lock import RunLock
from ..runs.metadata import check_size, read_metadata, write_metadata
from ..runtime import decide
from ..settings import Settings, TokenizerSettings
from ..tokenizers.choose import vocabulary_for
from .autoconfig import plan_pretraining
from .budget import parse_budget
from .conduct import TrainResult, run_plan
from .finetune import finetune
from .logging import Log, Stopwatch
from .metadata import about_text, new_record
from .request import Overrides, TrainRequest, UserComponents, read_overrides
from .resume import check_resume_config, plan_from_metadata
from .scaling_laws import model_shape
from .signals import StopSignal, handle_signals
from .texts import Texts
from .together import Meeting, gathering
from .train_plan import DatasetStats, TrainPlan, check_settings

DEFAULT_BUDGET = "10m"


def start_or_resume(request: TrainRequest, own: UserComponents | None = None) -> TrainResult:
    """Trains a new run, or goes on with an interrupted one, to its end.

    Raises:
        ScrivenError: anything that cannot be done as asked. Interrupted: stopped by a signal,
            after saving.
    """
    if request.base is not None:
        return finetune(request, own)
    clock = Stopwatch(began=request.began)
    with handle_signals() as stop:
        overrides = read_overrides(request)
        asked = overrides.apply(Settings())
        check_settings(asked)
        with gathering(init_distributed(asked.runtime.distributed_timeout)) as meeting:
            if meeting.dist.world_size > 1 and "-" in request.sources:
                raise InputError("- (standard input) reaches one process only: give a file")
            if not meeting.dist.is_main_process:
                return _follow(request, stop, clock, own or UserComponents(), meeting)
            folder = _folder(request)
            if folder is not None and (folder / "scriven.json").exists():
                return _again(
                    request, overrides, folder, stop, clock, own or UserComponents(), meeting
                )
            return _new(request, overrides, stop, clock, own or UserComponents(), meeting)


def _folder(request: TrainRequest) -> Path | None:
    """The run folder where it is known before the text is read."""
    if request.resume:
        if request.out:
            raise SettingError("--resume RUN goes on in RUN: leave --out away")
        return find_run(request.resume)
    if request.out == "":
        raise SettingError("--out is empty: name a folder, or leave it away for runs/NAME")
    return None if request.out is None else Path(request.out)


def _new(
    request: TrainRequest,
    overrides: Overrides,
    stop: StopSignal,
    clock: Stopwatch,
    own: UserComponents,
    meeting: Meeting,
) -> TrainResult:
    """A run that does not exist yet."""
    if not request.sources:
        raise InputError("no text: give files, folders, - for standard input, or shakespeare")
    log = Log(None, quiet=request.quiet)
    budget = parse_budget(overrides.budget or DEFAULT_BUDGET)
    architecture = overrides.arch or "llama"
    module = registry.module("scriven.models", architecture)
    config.replace(module.Config(), overrides.sections.get("model", {}), "model")  # refuses early
    settings = overrides.apply(Settings())
    check_settings(settings)
    if overrides.size is not None:
        model_shape(overrides.size)
    if settings.tokenizer.vocab_size is not None and not 3 <= settings.tokenizer.vocab_size < 2**31:
        raise SettingError(f"--tokenizer.vocab_size={settings.tokenizer.vocab_size}: at least 3")
    dist = meeting.dist
    if settings.runtime.parallel is not None and dist.world_size == 1:
        raise SettingError(
            f"--parallel {settings.runtime.parallel} is for several processes: start them with "
            "torchrun --nproc-per-node 2 -m scriven train ..."
        )
    runtime = decide(settings.runtime, (dist.local_rank, dist.local_world_size))
    seed = 0 if overrides.seed is None else overrides.seed
    check_whole("seed", seed, LARGEST_SEED)
    task = pretraining(module)
    if task == "seq2seq" and are_pairs(request.sources, settings.data):
        task = "pairs"
    corpus = load_dataset(
        request.sources,
        settings.data,
        settings.tokenizer,
        seed=seed,
        pairs=task == "pairs",
        say=log.say,
    )
    corpus = with_marks(corpus, task)
    folder = Path(request.out) if request.out is not None else Path("runs") / corpus.name
    if (folder / "scriven.json").exists():
        return _again(request, overrides, folder, stop, clock, own, meeting, corpus)
    pairs = PairDataset(corpus.train, corpus.tokenizer.eos) if corpus.pairs else None
    text = DatasetStats(
        corpus.tokenizer.vocab_size,
        _resolved(settings.tokenizer, corpus),
        len(corpus.train),
        len(corpus.validation),
        None if pairs is None else int(pairs.lengths.max()),
        None if pairs is None else len(pairs),
    )
    plan = plan_pretraining(
        architecture,
        overrides.sections.get("model", {}),
        settings,
        budget,
        seed,
        text,
        runtime,
        overrides.size,
        task,
        dist.world_size,
    )
    dist.batch_shard(plan.settings.train.batch_size or 1)  # refuses early
    data, tokenizer = about_text(corpus), corpus.tokenizer
    check_size(new_record(plan, tokenizer, data, folder.name, "", runtime, []))
    folder = create_run_dir(folder)
    for sentence in corpus.notes:
        log.say(sentence)
    if request.explain:
        log.say(explain(plan, corpus))
    with RunLock(folder):
        if (folder / "scriven.json").exists():
            raise BusyError(f"{folder} was made by another process just now: try again")
        command = request.command
        record = new_record(plan, tokenizer, data, folder.name, command, runtime, own.names())
        record["environment"]["processes"] = dist.world_size
        write_metadata(folder, record)
        meeting.begin(folder, request.sources)
        return run_plan(
            plan, Texts(corpus), folder, record, runtime, stop, clock, own, request.quiet, dist
        )


def _again(
    request: TrainRequest,
    overrides: Overrides,
    folder: Path,
    stop: StopSignal,
    clock: Stopwatch,
    own: UserComponents,
    meeting: Meeting,
    corpus: TokenDataset | None = None,
) -> TrainResult:
    """A run that exists: go on with it, or give its results once more."""
    log = Log(None, quiet=request.quiet)
    record = read_metadata(folder)
    if "finetune" in record:
        raise InputError(f"{folder} is a fine-tuning: go on with `{record['command']}`")
    plan, changes = check_resume_config(record, overrides, folder)
    sources = list(request.sources) or record["data"]["sources"]
    if corpus is None:
        if sources == ["-"] and not request.sources:
            raise InputError(
                f"{folder} was trained on standard input: pipe the same text again, with "
                f"`scriven train - --out {shlex.quote(str(folder))}`"
            )
        settings = plan.settings
        corpus = load_dataset(
            sources,
            settings.data,
            settings.tokenizer,
            seed=plan.seed,
            pairs=plan.task == "pairs",
            say=log.say,
        )
        corpus = with_marks(corpus, plan.task)
    if corpus.fingerprint != record["data"]["fingerprint"]:
        raise InputError(
            f"{folder} was trained on another text, or the text has changed since: "
            "use --out NEW for a new run"
        )
    if corpus.tokenizer.fingerprint != record["tokenizer"]["fingerprint"]:
        raise InputError(f"{folder} was trained with another vocabulary: use --out NEW")
    if record["results"] is not None:
        log.say(f"{folder} is finished; use --out NEW for another run")
        meeting.begin(folder, sources, finished=True)
        return TrainResult(folder, {**record["results"], "run": str(folder)})
    missing = [name for name in record.get("own", []) if name not in own.names()]
    if missing:
        raise InputError(
            f"{folder} was begun from Python with an {missing[0]} of your own: go on from there"
        )
    dist, environment = meeting.dist, record["environment"]
    dist.batch_shard(plan.settings.train.batch_size or 1)
    runtime = decide(plan.settings.runtime, (dist.local_rank, dist.local_world_size))
    before = environment.get("processes", 1)
    if dist.world_size != before:
        changes.append(
            f"on {dist.world_size} processes, not {before}: the same text in the same order; "
            "dropout draws other random numbers"
        )
        environment["processes"] = dist.world_size
    if runtime.threads != record["environment"]["threads"]:
        log.say("another number of threads than before: the numbers may differ in the last digits")
    with RunLock(folder):
        for sentence in changes:
            log.say(sentence)
        if request.explain:
            log.say(explain(plan, corpus))
        if changes:
            record["settings"].update(config.to_dict(plan.settings))
            record["settings"]["budget"] = config.to_dict(plan.budget)
            record["settings"]["steps"] = plan.steps
            write_metadata(folder, record)
        meeting.begin(folder, sources)
        return run_plan(
            plan, Texts(corpus), folder, record, runtime, stop, clock, own, request.quiet, dist
        )


def _follow(
    request: TrainRequest, stop: StopSignal, clock: Stopwatch, own: UserComponents, meeting: Meeting
) -> TrainResult:
    """Any process but the first: trains what that one has planned and written down."""
    told = meeting.listen()
    if not told:
        raise SystemExit(2)  # the first process has said why
    folder = Path(told["folder"])
    record = read_metadata(folder)
    if told["finished"]:
        return TrainResult(folder, {**record["results"], "run": str(folder)})
    plan = plan_from_metadata(record, request.arch, read_overrides(request).sections.get("optim"))
    settings = plan.settings
    corpus = load_dataset(
        told["sources"],
        settings.data,
        settings.tokenizer,
        seed=plan.seed,
        pairs=plan.task == "pairs",
        say=lambda text: None,
    )
    corpus = with_marks(corpus, plan.task)
    if corpus.fingerprint != record["data"]["fingerprint"]:
        raise InputError(f"{', '.join(told['sources'])}: another text here than in process 0")
    runtime = decide(settings.runtime, (meeting.dist.local_rank, meeting.dist.local_world_size))
    return run_plan(
        plan, Texts(corpus), folder, record, runtime, stop, clock, own, True, meeting.dist
    )


def with_marks(corpus: TokenDataset, task: str) -> TokenDataset:
    """The text with a tokenizer that has the special tokens a task needs."""
    extra = registry.module("scriven.tasks", task).Task.EXTRA_TOKENS
    return dataclasses.replace(corpus, tokenizer=corpus.tokenizer.with_special_tokens(*extra))


def _resolved(asked: TokenizerSettings, corpus: TokenDataset) -> TokenizerSettings:
    """What `prepare` made of settings that were left open, so that it makes the same again."""
    kind = corpus.tokenizer.kind
    vocab_size = None
    if kind in ("bpe", "word"):
        vocab_size = asked.vocab_size or vocabulary_for(corpus.characters)
    pattern = asked.pattern if kind == "bpe" else "llama3"
    return config.replace(
        asked, {"kind": kind, "vocab_size": vocab_size, "pattern": pattern}, "tokenizer"
    )


def explain(plan: TrainPlan, corpus: TokenDataset) -> str:
    """Every setting with its value and the reason for it."""
    lines = [f"text: {corpus.characters:,} characters in {corpus.documents:,} documents"]
    sections = {"model": plan.model, **vars(plan.settings)}
    for section, values in sections.items():
        usual = config.to_dict(type(values)())
        for name, value in config.to_dict(values).items():
            key = f"{section}.{name}"
            shown = "auto" if value is None else value
            why = plan.reasons.get(key, "default" if value == usual[name] else "asked for")
            lines.append(f"  {key} = {shown}  ({why})")
    return "\n".join(lines)
