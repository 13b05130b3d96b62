"""`scriven generate`: text from a trained model."""

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..errors import SettingError
from ..generate.sampling import check_beams
from .base import (
    Json,
    Precision,
    Run,
    UserArch,
    emit,
    for_terminal,
    note,
    open_model,
    sampling_flags,
    table,
)

if TYPE_CHECKING:
    from ..model import Model

MAX_SAMPLES = 10_000


@sampling_flags(
    {"temperature": "0.8 by default; 0 where gaps are filled or a target is generated."},
    temperature=None,
)
def generate(
    run: Run,
    prompt: str = "",
    *,
    max_new_tokens: int = 200,
    sampling: Any = None,
    seed: int = 0,
    stop: tuple[str, ...] = (),
    samples: int = 1,
    beams: int = 1,
    length_penalty: float | None = None,
    dtype: Precision = None,
    arch: UserArch = None,
    json: Json = False,
) -> None:
    """Generate text with a trained model.

    Parameters
    ----------
    prompt
        What the text begins with; - reads it from standard input. For a masked language model, a
        text with `<mask>` in place of the gaps.
    max_new_tokens
        Longest text, in tokens.
    seed
        The same seed gives the same text.
    stop
        End where this string would come; may be given several times.
    samples
        Number of texts.
    beams
        Beam search: keep this many beginnings and search for the likeliest text, instead of the
        likeliest token each time.
    length_penalty
        For a beam search: texts are ranked by log-probability / tokens ** this. 1 by default;
        above it long texts rank higher, below it short ones.
    """
    if not 1 <= samples <= MAX_SAMPLES:
        raise SettingError(f"--samples={samples}: from 1 to {MAX_SAMPLES:,}")
    settings = asdict(sampling)
    temperature = settings["temperature"]
    beam_settings = _beam_settings(beams, length_penalty, temperature, samples)
    model = open_model(run, arch, dtype)
    if prompt == "-":
        prompt = sys.stdin.read()
    if beam_settings:
        settings |= beam_settings | {"temperature": 0.0}
    elif temperature is None:
        # sampled where a text goes on, greedy where an input has one right answer
        settings["temperature"] = 0.8 if model.task.echo_prompt else 0.0
    settings |= {"max_new_tokens": max_new_tokens, "seed": seed, "stop": stop}
    if model.task.is_masked_lm:
        _check_fill(samples, stop, beams)
        _fill(model, prompt, {**settings, "temperature": temperature or 0.0}, json)
    elif samples == 1 and not json and not beam_settings:
        _stream(model, prompt, settings)
    else:
        _generate(model, prompt, samples, settings, json)


def _beam_settings(
    beams: int, length_penalty: float | None, temperature: float | None, samples: int
) -> dict[str, Any]:
    """The settings of a beam search; empty without one."""
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
            f"--temperature={temperature}: a beam search samples nothing: leave it or --beams away"
        )
    if samples != 1:
        raise SettingError(
            f"--samples={samples}: a beam search finds one text: leave it or --beams away"
        )
    return {"beams": beams, "length_penalty": 1.0 if length_penalty is None else length_penalty}


def _check_fill(samples: int, stop: tuple[str, ...], beams: int) -> None:
    """Refuses what a masked language model cannot do."""
    if samples != 1:
        raise SettingError(
            f"--samples={samples}: gaps are filled once; for another text ask again with a "
            "--temperature above 0 and another --seed"
        )
    if stop:
        raise SettingError("--stop: a text with gaps has its end already, so leave it away")
    if beams > 1:
        raise SettingError(f"--beams={beams}: gaps are filled one by one: leave it away")


def _stream(model: "Model", prompt: str, settings: dict[str, Any]) -> None:
    """Prints one text while it is generated."""
    chunks = model.stream(prompt, **settings)  # refuses a wrong setting before anything is printed
    sys.stdout.write(for_terminal(prompt if model.task.echo_prompt else ""))
    truncated = 0
    for chunk in chunks:
        sys.stdout.write(for_terminal(chunk.text))
        sys.stdout.flush()
        truncated = chunk.prompt_truncated
    sys.stdout.write("\n")
    _warn_truncated(model, truncated)


def _generate(
    model: "Model", prompt: str, samples: int, settings: dict[str, Any], as_json: bool
) -> None:
    """Prints texts that are generated in batches."""
    results = model.generate_many([prompt] * samples, **settings)
    rows = [
        {
            "text": result.text,
            "tokens": result.tokens,
            "seconds": round(result.seconds, 4),
            "tokens_per_second": round(result.tokens_per_second, 1),
            "finish_reason": result.finish_reason,
            "prompt_truncated": result.prompt_truncated,
        }
        for result in results
    ]
    data = rows[0] if samples == 1 else {**rows[0], "samples": rows}
    shown = prompt if model.task.echo_prompt else ""
    text = "\n---\n".join(shown + result.text for result in results)
    emit(data, for_terminal(text), as_json)
    if "beams" in settings and not as_json:
        _warn_truncated(model, results[0].prompt_truncated)


def _warn_truncated(model: "Model", tokens: int) -> None:
    if tokens:
        part = "first" if model.task.echo_prompt else "last"
        note(f"the prompt is longer than the context: its {part} {tokens} tokens were left out")


def _fill(model: "Model", prompt: str, settings: dict[str, Any], as_json: bool) -> None:
    """Prints the text with its gaps filled, and the alternatives of each."""
    start = time.perf_counter()
    text, predictions = model.fill(prompt, **settings)
    seconds = time.perf_counter() - start
    data = {
        "text": text,
        "tokens": len(predictions),
        "seconds": round(seconds, 4),
        "tokens_per_second": round(len(predictions) / seconds, 1),
        "finish_reason": "filled",
        "gaps": [asdict(prediction) for prediction in predictions],
    }
    rows = [
        (
            repr(prediction.text),
            ", ".join(f"{token!r} {share:.0%}" for token, share in prediction.likeliest),
        )
        for prediction in predictions
    ]
    emit(data, for_terminal(text + "\n\n" + table(rows)), as_json)
