"""A model of ours for EleutherAI's lm-evaluation-harness, which is an extra of its own.

lm_eval asks three things: how likely a continuation is, how likely a whole text is, and what the
model writes next. This file answers them; it knows no task (`harness_tasks.py`).
"""

import contextlib
import io
import json
import logging
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import InputError, SettingError
from ..generate.engine import Engine
from ..generate.sampling import Sampling
from .harness_tasks import go_offline, load_tasks, sandbox, unusable
from .loglikelihood import LoglikelihoodScorer

LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names of one thing, the first that is given counts."""
LONGEST = 256
"""Tokens written where a task says nothing, as everywhere in lm_eval."""
RESAMPLES = 1000
"""For the standard errors that have no closed form."""

_LENT = (ValueError, TypeError, KeyError, IndexError, AttributeError, ZeroDivisionError)
"""What lm_eval raises on a row that does not suit its task."""


def measure(
    scorer: LoglikelihoodScorer,
    engine: Engine,
    place: Path,
    names: Sequence[str] = (),
    limit: int | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """What lm_eval makes of the model's answers.

    Args:
        place: a folder of task files, or one.
        names: tasks, groups or tags in it; all tasks by default.
        limit: rows of each task; all by default.
        tell: is given what is going on.

    Returns:
        `tasks`: name -> `rows`, `chance` (what guessing reaches; None where there is nothing to
        guess) and `metrics`: name -> `value` and `stderr` (None where there is none); `groups` in
        the same way; `requests`, how many of them were `cut` at the beginning, and `lm_eval`, its
        version.

    Raises:
        MissingExtra: lm_eval is not installed. InputError: a task that cannot be used.
    """
    if limit is not None and limit < 1:
        raise SettingError(f"--limit={limit}: a whole number from 1 upwards")
    if not place.exists():
        raise InputError(f"{place} does not exist: give a task's YAML file, or a folder of them")
    go_offline()
    tell = _aloud(tell)
    with tempfile.TemporaryDirectory(prefix="scriven-") as work, sandbox(), _quiet():
        from lm_eval.evaluator import evaluate

        loaded = load_tasks(place, names, Path(work))
        model = adapter(scorer, engine, tell)
        try:
            found = evaluate(model, loaded, limit=limit, bootstrap_iters=RESAMPLES)
        except _LENT as error:
            raise unusable(", ".join(loaded["tasks"]), error) from error
        tasks = {
            name: {
                "rows": found["n-samples"][name]["effective"],
                "chance": _chance(task, found["samples"][name]),
                "metrics": _metrics(found["results"][name]),
            }
            for name, task in loaded["tasks"].items()
        }
    groups = {name: {"metrics": _metrics(each)} for name, each in found.get("groups", {}).items()}
    version = metadata.version("lm_eval")
    asked = {"requests": model.asked, "cut": model.cut}
    return {"tasks": tasks, "groups": groups, **asked, "lm_eval": version}


def adapter(
    scorer: LoglikelihoodScorer, engine: Engine, tell: Callable[[str], None] = lambda _: None
) -> Any:
    """An `lm_eval.api.model.LM` that answers with our model: for lm_eval's own functions too."""
    from lm_eval.api.model import LM

    class Harness(LM):  # type: ignore[misc]
        """Our model, asked by lm_eval."""

        def __init__(self) -> None:
            super().__init__()
            self.asked = 0
            self.cut = 0
            """Requests whose text lost its beginning."""

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            """(ln of the probability, whether greedy) of each continuation."""
            self._note(requests, "continuations")
            found = scorer.loglikelihood([request.args for request in requests])
            self.cut += sum(each.cut for each in found)
            return [(each.nats, each.greedy) for each in found]

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            """ln of the probability of each text."""
            self._note(requests, "texts")
            return [scorer.loglikelihood_rolling(request.args[0]) for request in requests]

        def generate_until(self, requests: list[Any]) -> list[str]:
            """What the model writes after each text."""
            self._note(requests, "texts to go on with")
            alike: dict[str, list[int]] = {}
            for number, request in enumerate(requests):
                key = json.dumps(request.args[1], sort_keys=True, default=str)
                alike.setdefault(key, []).append(number)
            texts = [""] * len(requests)
            for numbers in alike.values():
                sampling, longest, stops = knobs(requests[numbers[0]].args[1])
                # texts of like length together, as few as possible are padded
                numbers.sort(key=lambda number: len(requests[number].args[0]), reverse=True)
                prompts = [requests[number].args[0] for number in numbers]
                made = engine.generate(prompts, sampling, longest, stop=stops)
                for number, each in zip(numbers, made, strict=True):
                    texts[number] = each.text
                    self.cut += each.prompt_truncated > 0
            return texts

        def _note(self, requests: list[Any], what: str) -> None:
            self.asked += len(requests)
            tell(f"{len(requests):,} {what}")

    return Harness()


def knobs(asked: Mapping[str, Any]) -> tuple[Sampling, int, list[str]]:
    """(sampling, most tokens, stop strings) of a task's `generation_kwargs`; greedy by default.

    Raises:
        SettingError: a knob that we do not have, or out of its range.
    """
    left = dict(asked)
    lengths = [left.pop(name) for name in LENGTHS if name in left]
    until = left.pop("until", None) or []
    stops = [until] if isinstance(until, str) else [str(each) for each in until if each]
    sample = left.pop("do_sample", None)
    temperature = float(left.pop("temperature", 1.0 if sample else 0.0))
    known = ("top_k", "top_p", "min_p", "repetition_penalty")
    if unknown := [name for name in left if name not in known]:
        raise SettingError(
            f"generation_kwargs: there is no knob {unknown[0]}: known are until, do_sample, "
            f"temperature, {', '.join(known)}, {LENGTHS[0]}"
        )
    sampling = Sampling(temperature=0.0 if sample is False else temperature, **left)
    return sampling, int(lengths[0]) if lengths else LONGEST, stops


def _aloud(tell: Callable[[str], None]) -> Callable[[str], None]:
    """The same, heard also while everything else is silent."""
    out, error = sys.stdout, sys.stderr

    def say(text: str) -> None:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            tell(text)

    return say


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """lm_eval prints and logs what it pleases; our own output is a promise."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _metrics(found: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """lm_eval's `acc,none` and `acc_stderr,none` as `acc` with a value and an error."""
    made: dict[str, dict[str, float | None]] = {}
    for key, value in found.items():
        name, comma, strained = key.partition(",")
        if not comma or name.endswith("_stderr"):
            continue
        shown = name if strained == "none" else f"{name} ({strained})"
        stderr = found.get(f"{name}_stderr,{strained}")
        made[shown] = {"value": _number(value), "stderr": _number(stderr)}
    return made


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):  # "N/A"
        return None
    return number if math.isfinite(number) else None


def _chance(task: Any, samples: Sequence[Mapping[str, Any]]) -> float | None:
    """The accuracy of guessing among the choices of each row."""
    if task.get_config("output_type") != "multiple_choice" or not samples:
        return None
    shares = [1 / len(task.doc_to_choice(sample["doc"])) for sample in samples]
    return sum(shares) / len(shares)
