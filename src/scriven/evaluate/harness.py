"""EleutherAI's lm-evaluation-harness with a model of Scriven (an extra of its own)."""

import contextlib
import io
import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import InputError, SettingError
from ..files import temporary_folder
from ..generate.engine import Engine
from ..generate.sampling import SamplingParams, processor_classes
from ..runtime import Runtime
from ..tasks.base import BaseTask
from ..tokenizers import Tokenizer
from .harness_tasks import load_tasks, offline, sandbox, unusable
from .loglikelihood import LoglikelihoodScorer

LENGTH_ARGUMENTS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Synonyms in `generation_kwargs`; the first that is given counts."""
MAX_NEW_TOKENS = 256  # lm_eval's own default
RESAMPLES = 1000  # bootstrap resamples for the standard errors that have no closed form

_TASK_ERRORS = (ValueError, TypeError, LookupError, AttributeError, ZeroDivisionError)
"""What lm_eval raises on a row that does not suit its task."""


def harness(
    task: BaseTask,
    tokenizer: Tokenizer,
    engine: Engine,
    runtime: Runtime,
    tasks_folder: str | Path,
    tasks: Sequence[str] = (),
    limit: int | None = None,
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Scores of a model on tasks in lm-evaluation-harness's format; nothing is downloaded.

    Args:
        tasks_folder: a folder of task files, or one YAML file.
        tasks: names of tasks, groups or tags in it; all tasks by default.
        limit: rows of each task, the first ones; all by default.
        tell: called with progress, one sentence at a time.

    Returns:
        `tasks`: name -> `rows`, `chance` (accuracy of guessing; None where there is nothing to
        guess) and `metrics`: name -> `value` and `stderr` (None where there is none); `groups` in
        the same way; `requests`; `cut`, how many of them were longer than the context; and
        `lm_eval`, its version.

    Raises:
        MissingExtra: lm_eval is not installed. InputError: a model or a task that cannot be used.
    """
    scorer, folder = LoglikelihoodScorer(task, tokenizer, runtime), Path(tasks_folder)
    if limit is not None and limit < 1:
        raise SettingError(f"--limit={limit}: a whole number from 1 upwards")
    if not folder.exists():
        raise InputError(f"{folder} does not exist: give a task's YAML file, or a folder of them")
    # 1. no network, no code of templates, no output but ours
    with offline(), temporary_folder() as work, sandbox(), _quiet():
        from lm_eval.evaluator import evaluate

        # 2. tasks, 3. requests answered by the model, 4. metrics and their errors
        loaded = load_tasks(folder, tasks, Path(work))
        model = lm_eval_model(scorer, engine, _through_redirect(tell))
        try:
            results = evaluate(model, loaded, limit=limit, bootstrap_iters=RESAMPLES)
        except _TASK_ERRORS as error:
            raise unusable(", ".join(loaded["tasks"]), error) from error
        by_task = {
            name: {
                "rows": results["n-samples"][name]["effective"],
                "chance": _chance(one, results["samples"][name]),
                "metrics": _metrics(results["results"][name]),
            }
            for name, one in loaded["tasks"].items()
        }
    groups = {name: {"metrics": _metrics(each)} for name, each in results.get("groups", {}).items()}
    return {
        "tasks": by_task,
        "groups": groups,
        "requests": model.requests,
        "cut": model.cut,
        "lm_eval": metadata.version("lm_eval"),
    }


def lm_eval_model(
    scorer: LoglikelihoodScorer, engine: Engine, tell: Callable[[str], None] = lambda _: None
) -> Any:
    """The model as an `lm_eval.api.model.LM`, also for lm_eval's own functions."""
    from lm_eval.api.model import LM

    class ScrivenLM(LM):  # type: ignore[misc]
        """Answers lm_eval's requests, and counts them."""

        def __init__(self) -> None:
            super().__init__()
            self.requests = 0
            self.cut = 0
            """Requests whose text lost its beginning."""

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            """(ln of the probability, whether greedy) of each continuation."""
            self._count(requests, "continuations")
            scores = scorer.loglikelihood([request.args for request in requests])
            self.cut += sum(each.cut for each in scores)
            return [(each.nats, each.greedy) for each in scores]

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            """ln of the probability of each text."""
            self._count(requests, "texts")
            return [scorer.loglikelihood_rolling(request.args[0]) for request in requests]

        def generate_until(self, requests: list[Any]) -> list[str]:
            """The text that the model writes after each prompt."""
            self._count(requests, "texts to continue")
            # 1. requests with equal arguments are generated in one batch
            by_arguments: dict[str, list[int]] = {}
            for number, request in enumerate(requests):
                key = json.dumps(request.args[1], sort_keys=True, default=str)
                by_arguments.setdefault(key, []).append(number)
            texts = [""] * len(requests)
            for numbers in by_arguments.values():
                sampling, max_new_tokens, stop = generation_settings(requests[numbers[0]].args[1])
                # 2. prompts of like length together, for less padding
                numbers.sort(key=lambda number: len(requests[number].args[0]), reverse=True)
                prompts = [requests[number].args[0] for number in numbers]
                results = engine.generate(prompts, sampling, max_new_tokens, stop=stop)
                for number, each in zip(numbers, results, strict=True):
                    texts[number] = each.text
                    self.cut += each.prompt_truncated > 0
            return texts

        def _count(self, requests: list[Any], what: str) -> None:
            self.requests += len(requests)
            tell(f"{len(requests):,} {what}")

    return ScrivenLM()


def generation_settings(
    generation_kwargs: Mapping[str, Any],
) -> tuple[SamplingParams, int, list[str]]:
    """(sampling, most tokens, stop strings) of a task's `generation_kwargs`; greedy by default.

    Raises:
        SettingError: an argument that does not exist here, or out of its range.
    """
    left = dict(generation_kwargs)  # what is left at the end is unknown
    lengths = [left.pop(name) for name in LENGTH_ARGUMENTS if name in left]
    until = left.pop("until", None) or []
    stops = [until] if isinstance(until, str) else [str(each) for each in until if each]
    do_sample = left.pop("do_sample", None)
    # a temperature of its own only counts where the task samples
    temperature = float(left.pop("temperature", 1.0 if do_sample else 0.0))
    known = [name for name in processor_classes() if name != "temperature"]
    if unknown := [name for name in left if name not in known]:
        raise SettingError(
            f"generation_kwargs: {unknown[0]} does not exist here: known are until, do_sample, "
            f"temperature, {', '.join(known)}, {LENGTH_ARGUMENTS[0]}"
        )
    sampling = SamplingParams(temperature=0.0 if do_sample is False else temperature, **left)
    return sampling, int(lengths[0]) if lengths else MAX_NEW_TOKENS, stops


def _through_redirect(tell: Callable[[str], None]) -> Callable[[str], None]:
    """The same function, printing to the real streams while `_quiet` redirects them."""
    out, error = sys.stdout, sys.stderr

    def say(text: str) -> None:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            tell(text)

    return say


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences what lm_eval prints and logs, which would break the output of `--json`."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _metrics(results: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """lm_eval's `acc,none` and `acc_stderr,none` as `acc` with a value and a standard error."""
    metrics: dict[str, dict[str, float | None]] = {}
    for key, value in results.items():
        name, comma, filtered = key.partition(",")
        if not comma or name.endswith("_stderr"):
            continue
        shown = name if filtered == "none" else f"{name} ({filtered})"
        stderr = results.get(f"{name}_stderr,{filtered}")
        metrics[shown] = {"value": _number(value), "stderr": _number(stderr)}
    return metrics


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):  # "N/A"
        return None
    return number if math.isfinite(number) else None


def _chance(task: Any, samples: Sequence[Mapping[str, Any]]) -> float | None:
    """The expected accuracy of guessing among the choices of each row."""
    if task.get_config("output_type") != "multiple_choice" or not samples:
        return None
    chances = [1 / len(task.doc_to_choice(sample["doc"])) for sample in samples]
    return sum(chances) / len(chances)
