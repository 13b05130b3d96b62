"""`scriven predict`: answers of a fine-tuned model to the rows of a table."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .base import Settings, UserArch, emit, note, open_model

DEFAULTS = ("data",)
"""What scriven.toml and SCRIVEN_* variables may set of this command."""


def predict(
    run: str,
    *data: str,
    output: Annotated[str | None, Parameter(name=("--output", "-o"))] = None,
    beams: int = 1,
    length_penalty: float = 1.0,
    max_new_tokens: int = 256,
    arch: UserArch = None,
    json: bool = False,
    settings: Settings = None,
) -> None:
    """Predict the answers to the rows of a table with a fine-tuned model.

    Every column stays, and `prediction` comes after them; with labels and choices also
    `probability` and the probability of each. Any number of rows, in constant memory; right
    answers may be there and are not looked at.

    Parameters
    ----------
    run
        A fine-tuned run: a folder, a name under runs/, or latest.
    data
        Tables (.csv, .tsv, .jsonl, .parquet), a built-in one (its test part), or - for lines of
        text or JSON objects on standard input. A row that cannot be used stops the command;
        --skip-bad leaves such rows out and counts them.
    output
        The table to write (.csv, .tsv or .jsonl); JSON lines on standard output by default.
    beams
        For written answers: beginnings that a beam search keeps; 1 always takes the likeliest
        token.
    length_penalty
        For a beam search: above 1 favours long answers, below 1 short ones.
    max_new_tokens
        For written answers: the longest, in tokens.
    json
        One JSON object with the counts on standard output; needs --output.
    """
    from ..errors import InputError, SettingError
    from ..generate.predict_table import write_predictions

    if not data:
        raise InputError("no data: name a table, or - for standard input")
    if json and output is None:
        raise SettingError("--json: name a file with -o, as the answers go to standard output")
    model = open_model(run, arch)
    answers = model.predict_table(
        *data,
        settings=settings or {},
        beams=beams,
        length_penalty=length_penalty,
        max_new_tokens=max_new_tokens,
    )
    write_predictions(answers, None if output is None else Path(output), sys.stdout.write)
    if answers.skipped:
        note(f"{answers.skipped:,} rows were skipped, first {answers.first_skipped}")
    if answers.cut:
        note(f"{answers.cut:,} rows were longer than the context and were cut")
    counts = {
        "run": str(model.folder),
        "rows": answers.rows,
        "skipped": answers.skipped,
        "cut": answers.cut,
        "output": output,
    }
    if output is not None:
        emit(counts, f"{answers.rows:,} answers in {output}", json)
