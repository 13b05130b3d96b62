"""`scriven generate`: generates text with a trained model."""

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..errors import InputError, SettingError
from ..format import clean, plural, table
from ..generate.sampling import check_beams
from .base import (
    NO_ANSWER,
    Json,
    Precision,
    Run,
    UserArch,
    add_sampling_flags,
    emit,
    for_terminal,
    note,
    open_model,
)

if TYPE_CHECKING:
    from ..model import Model

MAX_SAMPLES = 10_000


def generate(
    run: Run,
    prompt: str = "",
    *,
    max_new_tokens: int = 200,
    sampling: Any = None,
    seed: int = 0,
    stop: tuple[str, ...] = (),
    samples: int = 1,
    context: str | None = None,
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
        The beginning of the text, or a text with `<mask>` tokens; - reads standard input.
    max_new_tokens
        Largest number of tokens to generate.
    seed
        The same seed gives the same text.
    stop
        Stop before this string; may be given several times.
    samples
        Number of texts.
    context
        A file with a text that the prompt asks about: a model for `answer` takes the answer out of
        it, any other reads it before the prompt.
    beams
        Beam width of a beam search, which keeps this many hypotheses and returns the most likely.
    length_penalty
        For a beam search: hypotheses are ranked by log-probability / tokens ** this. 1 by default;
        above 1 favours long texts, below 1 short ones.
    """
    if not 1 <= samples <= MAX_SAMPLES:
        raise SettingError(f"--samples={samples}: from 1 to {MAX_SAMPLES:,}")
    settings = asdict(sampling)
    temperature = settings["temperature"]
    beam_settings: dict[str, Any] = {}
    if beams != 1 or length_penalty is not None:
        beam_settings = _beam_settings(beams, length_penalty, temperature, samples)
    model = open_model(run, arch, dtype)
    # bytes of a command line that are no UTF-8 arrive as lone surrogates
    prompt = clean(sys.stdin.read() if prompt == "-" else prompt)
    if context is not None:
        from ..generate.chat import read_context, takes_spans

        text = read_context(context)
        if takes_spans(model.task):
            _answer(model, prompt, text, json)
            return
        prompt = f"{text}\n{prompt}"
    if beam_settings:
        settings |= {**beam_settings, "temperature": 0.0}
    elif temperature is None:  # greedy where an input has one right answer
        settings["temperature"] = 0.8 if model.task.echo_prompt else 0.0
    settings |= {"max_new_tokens": max_new_tokens, "seed": seed, "stop": stop}
    if model.task.is_masked_lm:
        _check_fill(samples, stop, beams)
        _fill(model, prompt, {**settings, "temperature": temperature or 0.0}, json)
        return
    if samples == 1 and not json and not beam_settings:  # printed while it is generated
        truncated = _stream(model, prompt, settings)
    else:
        truncated = _generate(model, prompt, samples, settings, json)
    if truncated:
        # a decoder keeps the end of its prompt, an encoder the beginning of its source
        part = "first" if model.task.echo_prompt else "last"
        dropped = plural(truncated, "token was dropped", "tokens were dropped")
        note(f"the prompt is longer than the context: its {part} {dropped}")


add_sampling_flags(
    generate,
    {"temperature": "0.8 by default; 0 where masks are filled or a target is generated."},
    temperature=None,
)


def _answer(model: "Model", question: str, context: str, as_json: bool) -> None:
    """Prints the part of a context that answers a question."""
    if not question.strip():
        raise InputError("there is no question: write it after the name of the run")
    start = time.perf_counter()
    ((text, probability),) = model.predict([(context, question)])
    data = {
        "text": text,
        "probability": probability,
        "seconds": round(time.perf_counter() - start, 4),
        "finish_reason": "answered" if text else "no answer",
    }
    emit(data, for_terminal(text or NO_ANSWER), as_json)


def _beam_settings(
    beams: int, length_penalty: float | None, temperature: float | None, samples: int
) -> dict[str, Any]:
    """The settings of a beam search."""
    penalty = 1.0 if length_penalty is None else length_penalty
    check_beams(beams, penalty)
    if beams == 1:
        raise SettingError(
            f"--length-penalty={length_penalty} ranks the hypotheses of a beam search: add "
            "--beams 4, or leave it out"
        )
    if temperature:
        raise SettingError(
            f"--temperature={temperature}: a beam search does not sample: leave it or --beams out"
        )
    if samples != 1:
        raise SettingError(
            f"--samples={samples}: a beam search returns one text: leave it or --beams out"
        )
    return {"beams": beams, "length_penalty": penalty}


def _check_fill(samples: int, stop: tuple[str, ...], beams: int) -> None:
    """Refuses what a masked language model cannot do."""
    if samples != 1:
        raise SettingError(
            f"--samples={samples}: masks are filled once: for another text set a --temperature "
            "above 0 and another --seed"
        )
    if stop:
        raise SettingError("--stop: a masked language model fills masks alone: leave it out")
    if beams > 1:
        raise SettingError(f"--beams={beams}: masks are filled one by one: leave it out")


def _stream(model: "Model", prompt: str, settings: dict[str, Any]) -> int:
    """Prints one text while it is generated; returns how many tokens of the prompt were dropped."""
    chunks = model.stream(prompt, **settings)  # refuses a wrong setting before anything is printed
    sys.stdout.write(for_terminal(prompt if model.task.echo_prompt else ""))
    truncated = 0
    for chunk in chunks:
        sys.stdout.write(for_terminal(chunk.text))
        sys.stdout.flush()
        truncated = chunk.prompt_truncated
    sys.stdout.write("\n")
    return truncated


def _generate(
    model: "Model", prompt: str, samples: int, settings: dict[str, Any], as_json: bool
) -> int:
    """Prints texts that are generated in batches; returns as `_stream` does."""
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
    return 0 if as_json else results[0].prompt_truncated  # JSON has it as a field


def _fill(model: "Model", prompt: str, settings: dict[str, Any], as_json: bool) -> None:
    """Prints the text with its masks filled, and the most likely tokens for each."""
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
