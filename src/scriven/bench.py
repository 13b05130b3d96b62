"""Architectures on equal compute: each trained on the same text for the same time, seed by seed.

Every run is a process of its own, so each pays for its own start, one that runs out of memory takes
nothing with it, and what a run leaves in a process cannot help the next one.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from . import config, registry
from .data.sources import Sources
from .errors import InputError, ResourceError, SettingError
from .files import make_folder, write_file
from .report.compare import Comparison, compare
from .runs.folder import RUNS
from .runs.metadata import NAME, read_metadata
from .settings import Settings
from .tokenizers.special_tokens import replace_control_characters
from .train.budget import Budget, parse_budget
from .train.request import TrainRequest, read_overrides
from .train.run import start_or_resume
from .train.scaling_laws import model_shape
from .train.signals import Interrupted, handle_signals
from .train.train_plan import check_settings

MOST_SEEDS = 1000
RESULTS = "results"
"""results.md and results.json, beside the runs."""


@dataclass(frozen=True)
class Heat:
    """One run of a bench."""

    arch: str
    seed: int
    folder: Path


def bench(
    *sources: str | Path,
    arch: Sequence[str] = (),
    budget: str = "2m",
    seeds: int = 3,
    size: str | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
    settings: Mapping[str, object] | None = None,
) -> Comparison:
    """Trains each architecture with each seed, one run after the other, and compares them.

    The order is A B C, A B C: a machine that slows down half-way slows all of them. The same call
    again goes on where it was stopped, and repeats no finished run. The table is written beside
    the runs, as results.md and results.json.

    Args:
        sources: files, folders, globs or a built-in corpus.
        arch: architectures by name, or .py files; all of them by default.
        budget: of each run.
        seeds: runs of each architecture, with the seeds 0, 1, 2 ...
        size: tiny, small, ...; or a number of parameters; as `train` has it.
        out: the folder of the runs; runs/bench-NAME by default.
        quiet: say nothing.
        settings: any other setting of all runs, as in {"model.d_model": 64}.

    Raises:
        InputError: anything that cannot be trained as asked, before anything is trained; or a run
            that failed. ResourceError: a run that ran out of memory or disk.
        KeyboardInterrupt-like Interrupted: stopped by a signal, after the run was saved.
    """
    names = [str(source) for source in sources]
    if "-" in names:
        raise InputError("a bench reads its text many times: name a file instead of -")
    with Sources(names) as found:
        folder = RUNS / f"bench-{found.name}" if out is None else Path(out)
    architectures = list(dict.fromkeys(arch)) or registry.names("scriven.models")
    amount = check(architectures, budget, seeds, size, settings or {})
    if (folder / NAME).exists():
        raise InputError(f"{folder} is a run, not a folder of runs: choose another --out")
    heats = [
        Heat(each, seed, folder / f"{Path(each).stem}-{seed}")
        for seed in range(seeds)
        for each in architectures
    ]
    make_folder(folder)
    if not quiet:
        print(_announce(heats, amount, budget), file=sys.stderr, flush=True)
    common = ["--budget", budget, *(["--size", size] if size else [])]
    common += [f"--{name}={value}" for name, value in (settings or {}).items()]
    with handle_signals():
        for number, heat in enumerate(heats, 1):
            if not quiet:
                title = f"[{number}/{len(heats)}] {heat.arch}, seed {heat.seed}"
                print(replace_control_characters(title), file=sys.stderr, flush=True)
            if _is_finished(heat):
                start_or_resume(
                    _request(names, heat, budget, size, settings or {})
                )  # refuses other settings
            else:
                _train(names, heat, common, quiet)
    found_runs = compare([str(heat.folder) for heat in heats], fold_seeds=True)
    _write(folder, found_runs, heats, budget)
    return found_runs


def check(
    architectures: Sequence[str],
    budget: str,
    seeds: int,
    size: str | None,
    settings: Mapping[str, object],
) -> Budget:
    """Refuses what no run could use, before the first of them is trained.

    Raises:
        InputError: an unknown architecture, setting or size, or no budget.
    """
    amount = parse_budget(budget)
    if not 1 <= seeds <= MOST_SEEDS:
        raise SettingError(f"--seeds {seeds}: from 1 to {MOST_SEEDS:,}")
    if size is not None:
        model_shape(size)
    stems = [Path(each).stem for each in architectures]
    if twice := {each for each in stems if stems.count(each) > 1}:
        raise SettingError(f"--arch names {sorted(twice)[0]} twice: rename one of the files")
    overrides = read_overrides(TrainRequest(settings=settings))
    check_settings(overrides.apply(Settings()))
    modules = [registry.module("scriven.models", each) for each in architectures]
    for module in modules:
        config.replace(module.Config(), overrides.sections.get("model", {}), "model")
    return amount


def _announce(heats: Sequence[Heat], amount: Budget, budget: str) -> str:
    text = f"{len(heats)} runs of {budget}"
    if amount.unit == "seconds":
        text += f", about {len(heats) * amount.amount / 60:.0f} minutes if none is done yet"
    return text


def _is_finished(heat: Heat) -> bool:
    return (heat.folder / NAME).exists() and read_metadata(heat.folder)["results"] is not None


def _request(
    names: Sequence[str],
    heat: Heat,
    budget: str,
    size: str | None,
    settings: Mapping[str, object],
) -> TrainRequest:
    return TrainRequest(
        names, budget, size, str(heat.folder), heat.seed, heat.arch, quiet=True, settings=settings
    )


def _train(sources: Sequence[str], heat: Heat, common: Sequence[str], quiet: bool) -> None:
    """One run in a process of its own, to its end.

    The process has a group of its own, so that Ctrl-C reaches it once, from here.
    """
    command = [sys.executable, "-m", "scriven", "train", "--arch", heat.arch]
    command += ["--seed", str(heat.seed), "--out", str(heat.folder), *common]
    command += ["--quiet"] if quiet else []
    command += ["--", *sources]
    heard: Interrupted | None = None
    process = subprocess.Popen(  # noqa: S603 - ourselves, with a list of words
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if quiet else None,
        start_new_session=True,
    )
    said = ""
    while True:
        try:
            said = _drain(process.stderr)
            code = process.wait()
            break
        except Interrupted as stopped:
            heard = stopped
            process.send_signal(stopped.exit_code - 128)  # it saves; the second time it leaves
    if heard is not None:
        again = "the finished runs are kept; go on with the same command"
        raise Interrupted(heard.exit_code - 128, again)
    if code:
        raise _failed(heat, code, said)


def _drain(stream: IO[bytes] | None) -> str:
    return "" if stream is None else stream.read().decode(errors="replace")


def _failed(heat: Heat, code: int, said: str) -> InputError | ResourceError:
    if code < 0:
        return ResourceError(
            f"{heat.arch} with seed {heat.seed} was ended by signal {-code}: if memory ran out, "
            "free some and give the same command again, or lower --size with another --out"
        )
    last = said.strip().splitlines()[-1:]
    why = last[0].removeprefix("scriven: ") if last else "what it said stands above"
    text = f"{heat.arch} with seed {heat.seed} ended with exit code {code}: {why}"
    return ResourceError(text) if code == 3 else InputError(text)


def _write(folder: Path, found: Comparison, heats: Sequence[Heat], budget: str) -> None:
    """results.md and results.json."""
    record = read_metadata(heats[0].folder)
    machine: Mapping[str, Any] = record["environment"]
    names = list(dict.fromkeys(Path(heat.arch).stem for heat in heats))
    seeds = len({heat.seed for heat in heats})
    text = ", ".join(Path(name).name for name in record["data"]["sources"])
    head = (
        f"# {', '.join(names)} on {text}\n\n"
        f"{budget} each with {seeds} seed{'s' if seeds > 1 else ''}, one after the other, on "
        f"{machine.get('processor') or machine.get('device')}"
        f" ({machine.get('device')}, {machine.get('threads')} threads, {machine.get('dtype')}).\n\n"
    )
    write_file(folder / f"{RESULTS}.md", (head + found.markdown()).encode())
    content = {"budget": budget, "environment": machine, **found.data()}
    plain = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    write_file(folder / f"{RESULTS}.json", plain.encode())
