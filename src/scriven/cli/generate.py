"""`scriven generate`: the model writes."""

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..errors import SettingError
from ..generate.sampling import check_beams
from .base import Precision, emit, for_terminal, note, open_model, table

if TYPE_CHECKING:
    from ..model import Model

MOST_SAMPLES = 10_000


def generate(
    run: str,
    prompt: str = "",
    *,
    max_new_tokens: int = 200,
    temperature: float | None = None,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    seed: int = 0,
    stop: tuple[str, ...] = (),
    samples: int = 1,
    beams: int = 1,
    length_penalty: float | None = None,
    dtype: Precision | None = None,
    arch: str | None = None,
    json: bool = False,
) -> None:
    """Write with a trained model.

    Parameters
    ----------
    run
        A run folder, a name under runs/, or latest.
    prompt
        What the text begins with; - reads it from standard input. For a model that fills gaps, a
        text with <mask> in their places.
    max_new_tokens
        Longest text, in tokens.
    temperature
        0 always takes the likeliest token; 1 draws as the model believes. 0.8 by default, 0 where
        gaps are filled or a target is written.
    top_k
        Draw from the k likeliest tokens only; 0 for all.
    top_p
        Draw from the likeliest tokens that together have this probability.
    min_p
        Leave out tokens less likely than this share of the likeliest one.
    repetition_penalty
        Above 1, tokens already there become less likely.
    seed
        The same seed gives the same text.
    stop
        End where this string would come; may be given several times.
    samples
        Number of texts.
    beams
        Keep this many beginnings and search for the likeliest text, instead of the likeliest token
        each time.
    length_penalty
        For a beam search: texts are ranked by log-probability / tokens ** this. 1 by default;
        above it long texts rank higher, below it short ones.
    dtype
        Precision of the products. By default bfloat16 for models of more than four million weights
        where the processor is fast at it; int8 is the fastest, and rounds most.
    arch
        The file of your own architecture, where the run was made with one.
    json
        One JSON object on standard output.
    """
    if not 1 <= samples <= MOST_SAMPLES:
        raise SettingError(f"--samples={samples}: from 1 to {MOST_SAMPLES:,}")
    searched = _searched(beams, length_penalty, temperature, samples)
    model = open_model(run, arch, dtype)
    if prompt == "-":
        prompt = sys.stdin.read()
    knobs: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "stop": stop,
    }
    if searched:
        knobs |= searched | {"temperature": 0.0}
    elif temperature is None:
        knobs["temperature"] = 0.8 if model.task.echo_prompt else 0.0
    if model.task.is_masked_lm:
        if samples != 1:
            raise SettingError(
                f"--samples={samples}: gaps are filled once; for another text ask again with a "
                "--temperature above 0 and another --seed"
            )
        if stop:
            raise SettingError("--stop: a text with gaps has its end already, so leave it away")
        if searched:
            raise SettingError(f"--beams={beams}: gaps are filled one by one: leave it away")
        _fill(model, prompt, {**knobs, "temperature": temperature or 0.0}, json)
        return
    shown = prompt if model.task.echo_prompt else ""
    if samples == 1 and not json and not searched:
        steps = model.stream(prompt, **knobs)  # refuses a wrong knob before anything is written
        sys.stdout.write(for_terminal(shown))
        truncated = 0
        for step in steps:
            sys.stdout.write(for_terminal(step.text))
            sys.stdout.flush()
            truncated = step.prompt_truncated
        sys.stdout.write("\n")
        _tell_truncated(model, truncated)
        return
    made = model.generate_many([prompt] * samples, **knobs)
    rows = [
        {
            "text": each.text,
            "tokens": each.tokens,
            "seconds": round(each.seconds, 4),
            "tokens_per_second": round(each.tokens_per_second, 1),
            "finish_reason": each.finish_reason,
            "prompt_truncated": each.prompt_truncated,
        }
        for each in made
    ]
    data = rows[0] if samples == 1 else {**rows[0], "samples": rows}
    text = "\n---\n".join(shown + each.text for each in made)
    emit(data, for_terminal(text), json)
    if searched and not json:
        _tell_truncated(model, made[0].prompt_truncated)


def _searched(
    beams: int, length_penalty: float | None, temperature: float | None, samples: int
) -> dict[str, Any]:
    """The knobs of a beam search; none where nobody asked for one."""
    check_beams(beams, 1.0 if length_penalty is None else length_penalty)
    if beams == 1:
        if length_penalty is not None:
            raise SettingError(
                f"--length-penalty={length_penalty}: ranks the texts of a beam search: add "
                "--beams 4, or leave it away"
            )
        return {}
    if temperature:
        raise SettingError(
            f"--temperature={temperature}: a beam search draws nothing: leave it or --beams away"
        )
    if samples != 1:
        raise SettingError(
            f"--samples={samples}: a beam search finds one text: leave it or --beams away"
        )
    return {"beams": beams, "length_penalty": 1.0 if length_penalty is None else length_penalty}


def _tell_truncated(model: "Model", tokens: int) -> None:
    if tokens:
        part = "first" if model.task.echo_prompt else "last"
        note(f"the prompt is longer than the context: its {part} {tokens} tokens were left out")


def _fill(model: "Model", prompt: str, knobs: dict[str, Any], as_json: bool) -> None:
    """The text with its gaps filled, and what else could have stood there."""
    began = time.perf_counter()
    text, guesses = model.fill(prompt, **knobs)
    seconds = time.perf_counter() - began
    data = {
        "text": text,
        "tokens": len(guesses),
        "seconds": round(seconds, 4),
        "tokens_per_second": round(len(guesses) / seconds, 1),
        "finish_reason": "filled",
        "gaps": [asdict(guess) for guess in guesses],
    }
    rows = [
        (repr(guess.text), ", ".join(f"{text!r} {share:.0%}" for text, share in guess.likeliest))
        for guess in guesses
    ]
    emit(data, for_terminal(text + "\n\n" + table(rows)), as_json)
