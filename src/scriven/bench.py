"""Compares architectures on equal compute: the same text, the same budget, several seeds.

Every run is a process of its own: each pays for its own start-up, one that runs out of memory does
not end the others, and no run profits from what an earlier one left in memory.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import config, registry
from .data.sources import Sources
from .errors import InputError, ResourceError, SettingError, for_python
from .files import make_folder, write_file
from .format import plural, print_message
from .import_.adapter import is_adapter
from .import_.base import base_name, find_adapted, find_foreign, is_run, open_foreign
from .models.base import BASES
from .report.compare import Comparison, compare
from .report.ranking import rank
from .runs.folder import RUNS
from .runs.metadata import NAME, read_run_metadata
from .settings import Settings
from .train.request import TrainRequest, read_overrides
from .train.run import start_or_resume
from .train.scaling_laws import model_shape
from .train.schedule import Budget, parse_budget
from .train.stopping import Interrupted, handle_signals

MOST_SEEDS = 1000
RESULTS = "results"
"""results.md and results.json, beside the runs."""


@dataclass(frozen=True)
class BenchRun:
    """One architecture with one seed, or a base model that goes on."""

    arch: str
    seed: int
    folder: Path
    base: str | None = None


@for_python
def bench(
    *sources: str | Path,
    arch: Sequence[str] = (),
    budget: str = "2m",
    seeds: int = 3,
    size: str | None = None,
    out: str | Path | None = None,
    base: str | None = None,
    quiet: bool = False,
    settings: Mapping[str, object] | None = None,
) -> Comparison:
    """Trains each architecture with each seed, one run after the other, and compares them. The same
    call resumes. The table is written beside the runs, as results.md and results.json.

    Args:
        sources, budget, size, quiet, settings: of each run, as in `train`.
        arch: architectures by name, or .py files; all of them by default.
        seeds: runs of each architecture, with the seeds 0, 1, 2 ...
        out: the folder of the runs; runs/bench-NAME by default.
        base: a model that goes on with the text for the same budget, once for each seed; only
            settings of data and runtime are its own too.

    Raises:
        InputError: anything that cannot be trained as asked; or a run that failed.
        ResourceError: a run that ran out of memory or disk.
        Interrupted: a KeyboardInterrupt; stopped by a signal, after the run was saved.
    """
    names = [str(source) for source in sources]
    if "-" in names:
        raise InputError("a bench reads its text once for each run: name a file instead of -")
    # 1. refuse what cannot work, before anything is trained
    with Sources(names) as texts:
        folder = RUNS / f"bench-{texts.name}" if out is None else Path(out)
    architectures = list(dict.fromkeys(arch)) or registry.names("scriven.models", BASES)
    amount = check(architectures, budget, seeds, size, settings or {})
    if os.path.exists(folder / NAME):  # False for a name that is too long
        raise InputError(f"{folder} is a run, not a folder of runs: choose another --out")
    # 2. A B C, A B C: a machine that slows down half-way slows all of them
    runs = [
        BenchRun(each, seed, folder / f"{Path(each).stem}-{seed}")
        for seed in range(seeds)
        for each in architectures
    ]
    if base is not None:
        name = base_name(base)
        if not is_run(base):  # the name of nothing, or of a file that cannot be used
            open_foreign(base) if not is_adapter(find_foreign(base)) else find_adapted(Path(base))
        adapted = [BenchRun(name, n, folder / f"from-{name}-{n}", base) for n in range(seeds)]
        runs = sorted([*runs, *adapted], key=lambda run: run.seed)
    make_folder(folder)
    if not quiet:
        print_message(_announce(runs, amount, budget))
    with handle_signals():
        for number, run in enumerate(runs, 1):
            if not quiet:
                print_message(f"[{number}/{len(runs)}] {run.arch}, seed {run.seed}")
            # 3. train what is missing
            request = _request(run, names, budget, size, settings or {})
            if _is_finished(run):
                start_or_resume(request)  # refuses other settings than those it was trained with
            else:
                _train(request, run, quiet)
    # 4. compare, with one row for the seeds of an architecture
    comparison = compare([str(run.folder) for run in runs], fold_seeds=True)
    if base is not None:
        own = {each: [run.folder for run in runs if run.arch == each] for each in architectures}
        ranking = rank(own, name, [run.folder for run in adapted])
        comparison = replace(comparison, ranking=ranking)
    _write_results(folder, comparison, runs, budget)
    return comparison


def check(
    architectures: Sequence[str],
    budget: str,
    seeds: int,
    size: str | None,
    settings: Mapping[str, object],
) -> Budget:
    """Refuses arguments that some run could not use, before the first one is trained.

    Raises:
        InputError: an unknown architecture, setting or size, or no budget.
    """
    amount = parse_budget(budget)
    if not 1 <= seeds <= MOST_SEEDS:
        raise SettingError(f"--seeds {seeds}: from 1 to {MOST_SEEDS:,}")
    if size is not None:
        model_shape(size)
    # the file name is the name of the run folder
    stems = [Path(each).stem for each in architectures]
    if twice := {each for each in stems if stems.count(each) > 1}:
        raise SettingError(f"--arch names {sorted(twice)[0]} twice: rename one of the files")
    overrides = read_overrides(TrainRequest(settings=settings))
    overrides.apply(Settings())
    modules = [registry.module("scriven.models", each) for each in architectures]
    for module in modules:
        config.replace(module.Config(), overrides.sections.get("model", {}), "model")
    return amount


def _request(
    run: BenchRun,
    sources: list[str],
    budget: str,
    size: str | None,
    settings: Mapping[str, object],
) -> TrainRequest:
    """What `scriven train` is asked for; a base model keeps its shape and its tokenizer."""
    folder = str(run.folder)
    if run.base is None:
        return TrainRequest(
            sources, budget, size, folder, run.seed, run.arch, quiet=True, settings=settings
        )
    kept = {key: value for key, value in settings.items() if key.startswith(("data.", "runtime."))}
    return TrainRequest(
        sources, budget, None, folder, run.seed, quiet=True, settings=kept, start=run.base
    )


def _announce(runs: Sequence[BenchRun], amount: Budget, budget: str) -> str:
    text = f"{plural(len(runs), 'run')} of {budget}"
    if amount.unit == "seconds":
        text += f", about {len(runs) * amount.amount / 60:.0f} minutes if none is done yet"
    return text


def _is_finished(run: BenchRun) -> bool:
    return (run.folder / NAME).exists() and read_run_metadata(run.folder)["results"] is not None


def _train(request: TrainRequest, run: BenchRun, quiet: bool) -> None:
    """Trains one run in a process of its own, to its end.

    The process has its own process group, so that Ctrl-C reaches it once: from here.
    """
    # -P: a json.py in the current folder must not be taken for Python's
    command = [sys.executable, "-P", "-m", "scriven", "train"]
    command += ["--arch", run.arch] if run.base is None else ["--from", run.base]
    command += ["--seed", str(run.seed), "--out", str(run.folder), "--budget", str(request.budget)]
    command += ["--size", request.size] if request.size else []
    command += ["--quiet"] if quiet else []
    command += [f"--{name}={value}" for name, value in request.settings.items()]
    command += ["--", *request.sources]
    interrupted: Interrupted | None = None
    process = subprocess.Popen(  # noqa: S603 - our own command, without a shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if quiet else None,
        start_new_session=True,
    )
    errors = b""
    while True:
        try:
            errors = b"" if process.stderr is None else process.stderr.read()
            code = process.wait()
            break
        except Interrupted as stopped:
            # at the first signal the training saves, at the second one it ends at once
            interrupted = stopped
            process.send_signal(stopped.exit_code - 128)
    if interrupted is not None:
        advice = "the finished runs are kept; resume with the same command"
        raise Interrupted(interrupted.exit_code - 128, advice)
    if code:
        raise _failure(run, code, errors.decode(errors="replace"))


def _failure(run: BenchRun, code: int, errors: str) -> InputError | ResourceError:
    # a negative code is a signal; the system ends a process that takes too much memory
    if code < 0:
        return ResourceError(
            f"{run.arch} with seed {run.seed} was ended by signal {-code}: if memory ran out, "
            "free some and give the same command again, or lower --size with another --out"
        )
    last = errors.strip().splitlines()[-1:]
    why = last[0].removeprefix("scriven: ") if last else "its error message is above"
    text = f"{run.arch} with seed {run.seed} ended with exit code {code}: {why}"
    return ResourceError(text) if code == 3 else InputError(text)


def _write_results(
    folder: Path, comparison: Comparison, runs: Sequence[BenchRun], budget: str
) -> None:
    """Writes results.md and results.json."""
    metadata = read_run_metadata(runs[0].folder)
    machine: Mapping[str, Any] = metadata["environment"]
    names = list(dict.fromkeys(Path(run.arch).stem for run in runs))
    seeds = len({run.seed for run in runs})
    text = ", ".join(Path(name).name for name in metadata["data"]["sources"])
    head = (
        f"# {', '.join(names)} on {text}\n\n"
        f"{budget} each with {seeds} seed{'s' if seeds > 1 else ''}, one after the other, on "
        f"{machine.get('processor') or machine.get('device')}"
        f" ({machine.get('device')}, {machine.get('threads')} threads, {machine.get('dtype')}).\n\n"
    )
    write_file(folder / f"{RESULTS}.md", (head + comparison.markdown()).encode())
    content = {"budget": budget, "environment": machine, **comparison.data()}
    plain = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    write_file(folder / f"{RESULTS}.json", plain.encode())
