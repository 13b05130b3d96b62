"""`scriven evaluate`: loss, perplexity, bits per byte and accuracy on a text, or the scores of a
fine-tuned model's task on a table."""

from typing import Any

from ..format import plural, table
from .base import (
    Beams,
    Json,
    LengthPenalty,
    Run,
    Settings,
    UserArch,
    emit,
    note,
    open_model,
    truncated,
)
from .finetune import scores_table

DEFAULTS = ("data",)


def evaluate(
    run: Run,
    *data: str,
    arch: UserArch = None,
    memory: int | None = None,
    sequence_length: int | None = None,
    beams: Beams = 1,
    length_penalty: LengthPenalty = 1.0,
    json: Json = False,
    settings: Settings = None,
) -> None:
    """Evaluate a model on its validation set, or on other texts or tables.

    Parameters
    ----------
    data
        Texts, each read as a whole. For a fine-tuned model: labelled tables, or a built-in one
        (its test part). By default the validation set of the run.
    memory
        Earlier positions that a recurrent model attends to; 0 for none.
    sequence_length
        Tokens of a window, which is read without the text before it. By default as many as in a
        row of the training: models are compared in windows of the same length.
    """
    model = open_model(run, arch)
    result = model.evaluate(
        *data, settings=settings, memory=memory, sequence_length=sequence_length, beams=beams,
        length_penalty=length_penalty,
    )  # fmt: skip
    if "scores" in result:
        _emit_scores(result, json)
        return
    for sentence in result.get("notes", ()):
        note(sentence)
    unit = model.task.loss_unit.removeprefix("next ")
    rows = [
        ("loss", f"{result['loss']:.4f} nats per {unit}"),
        ("perplexity", f"{result['perplexity']:.3f}"),
        ("bits per byte", f"{result['bits_per_byte']:.4f}"),
        ("accuracy", f"{result['accuracy']:.2%}"),
        ("tokens", f"{result['tokens']:,}"),
    ]
    if length := result.get("sequence_length"):
        rows[-1] = "tokens", f"{result['tokens']:,} in windows of {length:,}"
    if result.get("ngram_loss") is not None:
        rows.insert(1, ("counting n-grams", f"{result['ngram_loss']:.4f} nats per {unit}"))
    emit(result, table(rows), json)


def _emit_scores(result: dict[str, Any], json: bool) -> None:
    for sentence in result["notes"]:
        note(sentence)
    if result["cut"]:
        note(truncated(result["cut"]))
    shown = {"val_scores": result["scores"], "baseline": result["baseline"]}
    emit(result, f"{table(scores_table(shown))}\n\non {plural(result['rows'], 'row')}", json)
