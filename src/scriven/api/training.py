"""Training from Python: a text in, a model out."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from ..distributed import is_main_process
from ..errors import ScrivenError
from ..report import write_report
from ..train.conduct import TrainResult
from ..train.request import TrainRequest
from ..train.run import start_or_resume
from ..train.signals import Interrupted
from .model import Model, load


def train(
    *sources: str | Path,
    budget: str | None = None,
    size: str | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    arch: str | None = None,
    preset: str | None = None,
    resume: str | Path | None = None,
    explain: bool = False,
    quiet: bool = False,
    settings: Mapping[str, object] | None = None,
    began: float | None = None,
) -> Model:
    """Trains a model on texts and returns it; the same call on an interrupted run goes on with it.

    Args:
        sources: files, folders, globs, - or a built-in corpus by name.
        budget: 10m (the default), 2h, 2000steps, 3epochs or 50Mtokens.
        size: tiny, small, medium, base, large, or a number of parameters such as 12M.
        out: the run folder; runs/NAME by default.
        seed: of all random numbers.
        arch: the architecture, or a .py file.
        preset: a TOML file or a built-in preset.
        resume: a run to go on with, with its own text and settings.
        explain: say every setting with its reason.
        quiet: say nothing.
        settings: any other setting, as in {"optim.lr": 1e-3}.
        began: time.monotonic() from which a wall-clock budget counts; now by default.

    Raises:
        ScrivenError: anything that cannot be done as asked, in one line.
        KeyboardInterrupt-like Interrupted: stopped by a signal, after saving.
    """
    request = TrainRequest(
        [str(source) for source in sources],
        budget,
        size,
        None if out is None else str(out),
        seed,
        arch,
        preset,
        None if resume is None else str(resume),
        explain,
        quiet,
        settings or {},
        began,
    )
    return finish(lambda: start_or_resume(request), arch)


def finish(run: Callable[[], TrainResult], arch: str | None = None) -> Model:
    """Trains to the end, writes the report, also of an interrupted run, and loads the model.

    Args:
        run: trains. arch: the architecture, or the user's own file, which is needed to load it.
    """
    try:
        trained = run()
    except Interrupted as stopped:
        if stopped.folder is not None and is_main_process():
            with contextlib.suppress(ScrivenError):  # the exit code and the advice matter more
                write_report(stopped.folder)
        raise
    if is_main_process():
        write_report(trained.folder)
    model = load(trained.folder, arch=arch if arch and arch.endswith(".py") else None)
    model.record["results"] = trained.results
    return model
