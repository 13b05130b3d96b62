"""From what a person asked for to a trained run folder: a new run, one to go on with, or a
finished one.

The order matters: nothing is written before everything that can be refused has been refused.
"""

import dataclasses
import shlex
from pathlib import Path

from .. import config, registry
from ..data.corpus import Corpus
from ..data.pairs import Pairs, hold_pairs
from ..data.prepare import prepare
from ..distributed import join
from ..errors import BusyError, InputError, SettingError
from ..generate.sampling import LARGEST_SEED, check_whole
from ..models.shared.backbone import pretraining
from ..runs.folder import claim, resolve
from ..runs.lock import RunLock
from ..runs.record import check_size, read_record, write_record
from ..runtime import decide
from ..settings import Settings, TokenizerSettings
from ..tokenizers.choose import vocabulary_for
from .budget import parse_budget
from .conduct import Trained, run_plan
from .differences import compare, recorded
from .log import Log, Stopwatch
from .own import Own
from .plan import Plan, TextSize, check_ranges, make_plan, shape_of
from .record import about_text, new_record
from .request import Request, Wishes, wishes_of
from .stop import Stop, watch
from .texts import Texts
from .together import Meeting, gathering
from .trainer import share_of

DEFAULT_BUDGET = "10m"


def start(request: Request, own: Own | None = None) -> Trained:
    """Trains a new run, or goes on with an interrupted one, to its end.

    Raises:
        ScrivenError: anything that cannot be done as asked. Interrupted: stopped by a signal,
            after saving.
    """
    clock = Stopwatch(began=request.began)
    with watch() as stop:
        wishes = wishes_of(request)
        asked = wishes.apply(Settings())
        check_ranges(asked)
        with gathering(join(asked.runtime.distributed_timeout)) as meeting:
            if meeting.world.size > 1 and "-" in request.sources:
                raise InputError("- (standard input) reaches one process only: give a file")
            if not meeting.world.first:
                return _follow(request, stop, clock, own or Own(), meeting)
            folder = _folder(request)
            if folder is not None and (folder / "scriven.json").exists():
                return _again(request, wishes, folder, stop, clock, own or Own(), meeting)
            return _new(request, wishes, stop, clock, own or Own(), meeting)


def _folder(request: Request) -> Path | None:
    """The run folder where it is known before the text is read."""
    if request.resume:
        if request.out:
            raise SettingError("--resume RUN goes on in RUN: leave --out away")
        return resolve(request.resume)
    if request.out == "":
        raise SettingError("--out is empty: name a folder, or leave it away for runs/NAME")
    return None if request.out is None else Path(request.out)


def _new(
    request: Request, wishes: Wishes, stop: Stop, clock: Stopwatch, own: Own, meeting: Meeting
) -> Trained:
    """A run that does not exist yet."""
    if not request.sources:
        raise InputError("no text: give files, folders, - for standard input, or shakespeare")
    log = Log(None, quiet=request.quiet)
    budget = parse_budget(wishes.budget or DEFAULT_BUDGET)
    architecture = wishes.arch or "llama"
    module = registry.module("scriven.models", architecture)
    config.replace(module.Config(), wishes.sections.get("model", {}), "model")  # refuses early
    settings = wishes.apply(Settings())
    check_ranges(settings)
    if wishes.size is not None:
        shape_of(wishes.size)
    if settings.tokenizer.vocab_size is not None and not 3 <= settings.tokenizer.vocab_size < 2**31:
        raise SettingError(f"--tokenizer.vocab_size={settings.tokenizer.vocab_size}: at least 3")
    world = meeting.world
    if settings.runtime.parallel is not None and world.size == 1:
        raise SettingError(
            f"--parallel {settings.runtime.parallel} is for several processes: start them with "
            "torchrun --nproc-per-node 2 -m scriven train ..."
        )
    runtime = decide(settings.runtime, world.place)
    seed = 0 if wishes.seed is None else wishes.seed
    check_whole("seed", seed, LARGEST_SEED)
    task = pretraining(module)
    if task == "seq2seq" and hold_pairs(request.sources, settings.data):
        task = "pairs"
    corpus = prepare(
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
        return _again(request, wishes, folder, stop, clock, own, meeting, corpus)
    pairs = Pairs(corpus.train, corpus.tokenizer.eos) if corpus.pairs else None
    text = TextSize(
        corpus.tokenizer.vocab_size,
        _resolved(settings.tokenizer, corpus),
        len(corpus.train),
        len(corpus.validation),
        None if pairs is None else int(pairs.lengths.max()),
        None if pairs is None else len(pairs),
    )
    plan = make_plan(
        architecture,
        wishes.sections.get("model", {}),
        settings,
        budget,
        seed,
        text,
        runtime,
        wishes.size,
        task,
        world.size,
    )
    share_of(plan.settings.train.batch_size or 1, world)  # refuses early
    data, tokenizer = about_text(corpus), corpus.tokenizer
    check_size(new_record(plan, tokenizer, data, folder.name, "", runtime, []))
    folder = claim(folder)
    for sentence in corpus.notes:
        log.say(sentence)
    if request.explain:
        log.say(explain(plan, corpus))
    with RunLock(folder):
        if (folder / "scriven.json").exists():
            raise BusyError(f"{folder} was made by another process just now: try again")
        command = _command(request)
        record = new_record(plan, tokenizer, data, folder.name, command, runtime, own.names())
        record["environment"]["processes"] = world.size
        write_record(folder, record)
        meeting.begin(folder, request.sources)
        return run_plan(
            plan, Texts(corpus), folder, record, runtime, stop, clock, own, request.quiet, world
        )


def _again(
    request: Request,
    wishes: Wishes,
    folder: Path,
    stop: Stop,
    clock: Stopwatch,
    own: Own,
    meeting: Meeting,
    corpus: Corpus | None = None,
) -> Trained:
    """A run that exists: go on with it, or give its results once more."""
    log = Log(None, quiet=request.quiet)
    record = read_record(folder)
    if "finetune" in record:
        raise InputError(f"{folder} is a fine-tuning: go on with `{record['command']}`")
    plan, changes = compare(record, wishes, folder)
    sources = list(request.sources) or record["data"]["sources"]
    if corpus is None:
        if sources == ["-"] and not request.sources:
            raise InputError(
                f"{folder} was trained on standard input: pipe the same text again, with "
                f"`scriven train - --out {shlex.quote(str(folder))}`"
            )
        settings = plan.settings
        corpus = prepare(
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
        return Trained(folder, {**record["results"], "run": str(folder)})
    missing = [name for name in record.get("own", []) if name not in own.names()]
    if missing:
        raise InputError(
            f"{folder} was begun from Python with an {missing[0]} of your own: go on from there"
        )
    world, environment = meeting.world, record["environment"]
    share_of(plan.settings.train.batch_size or 1, world)
    runtime = decide(plan.settings.runtime, world.place)
    before = environment.get("processes", 1)
    if world.size != before:
        changes.append(
            f"on {world.size} processes, not {before}: the same text in the same order; dropout "
            "draws other random numbers"
        )
        environment["processes"] = world.size
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
            write_record(folder, record)
        meeting.begin(folder, sources)
        return run_plan(
            plan, Texts(corpus), folder, record, runtime, stop, clock, own, request.quiet, world
        )


def _follow(request: Request, stop: Stop, clock: Stopwatch, own: Own, meeting: Meeting) -> Trained:
    """Any process but the first: trains what that one has planned and written down."""
    told = meeting.listen()
    if not told:
        raise SystemExit(2)  # the first process has said why
    folder = Path(told["folder"])
    record = read_record(folder)
    if told["finished"]:
        return Trained(folder, {**record["results"], "run": str(folder)})
    plan = recorded(record, request.arch)
    settings = plan.settings
    corpus = prepare(
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
    runtime = decide(settings.runtime, meeting.world.place)
    return run_plan(
        plan, Texts(corpus), folder, record, runtime, stop, clock, own, True, meeting.world
    )


def with_marks(corpus: Corpus, task: str) -> Corpus:
    """The text with a tokenizer that has the special tokens a task needs."""
    extra = registry.module("scriven.tasks", task).Task.EXTRA
    return dataclasses.replace(corpus, tokenizer=corpus.tokenizer.with_special(*extra))


def _resolved(asked: TokenizerSettings, corpus: Corpus) -> TokenizerSettings:
    """What `prepare` made of settings that were left open, so that it makes the same again."""
    kind = corpus.tokenizer.kind
    vocab_size = None
    if kind in ("bpe", "word"):
        vocab_size = asked.vocab_size or vocabulary_for(corpus.characters)
    pattern = asked.pattern if kind == "bpe" else "llama3"
    return config.replace(
        asked, {"kind": kind, "vocab_size": vocab_size, "pattern": pattern}, "tokenizer"
    )


def explain(plan: Plan, corpus: Corpus) -> str:
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


def _command(request: Request) -> str:
    """The command that does this again."""
    parts = ["scriven", "train", *request.sources]
    for name in ("budget", "size", "out", "seed", "arch", "preset"):
        value = getattr(request, name)
        if value is not None:
            parts += [f"--{name}", str(value)]
    parts += [f"--{name}={value}" for name, value in request.settings.items()]
    return shlex.join(parts)
