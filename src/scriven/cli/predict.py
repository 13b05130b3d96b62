"""`scriven predict`: answers of a fine-tuned model to the rows of a table."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..format import plural, skipped_rows
from .base import (
    Beams,
    LengthPenalty,
    Settings,
    UserArch,
    emit,
    note,
    open_model,
    to_json,
    truncated,
)

DEFAULTS = ("data",)


def predict(
    run: str,
    *data: str,
    output: Annotated[str | None, Parameter(name=("--output", "-o"))] = None,
    beams: Beams = 1,
    length_penalty: LengthPenalty = 1.0,
    max_new_tokens: int = 256,
    arch: UserArch = None,
    json: bool = False,
    settings: Settings = None,
) -> None:
    """Predict the answers to the rows of a table with a fine-tuned model.

    The output has every column of the input, then `prediction`; for labels and choices also
    `probability` and the probability of each. Memory is constant in the number of rows; a column
    with the right answers is ignored.

    Parameters
    ----------
    run
        A fine-tuned run: a folder, a name under runs/, or latest.
    data
        Tables (.csv, .tsv, .jsonl, .parquet), a built-in one (its test part), or - for lines of
        text or JSON objects on standard input. A malformed row stops the command; --skip-bad
        skips and counts such rows.
    output
        The table to write (.csv, .tsv or .jsonl); JSON lines on standard output by default.
    max_new_tokens
        For generated answers: their largest length, in tokens.
    json
        One JSON object with the counts on standard output; needs --output.
    """
    from ..errors import InputError, SettingError
    from ..generate.predict import check_output, write_predictions

    if not data:
        raise InputError("no data: name a table, or - for standard input")
    if json and output is None:
        raise SettingError("--json: name a file with -o, as the answers go to standard output")
    out = None if output is None else check_output(Path(output))
    model = open_model(run, arch)
    decoding = {"beams": beams, "length_penalty": length_penalty, "max_new_tokens": max_new_tokens}
    answers = model.predict_table(*data, settings=settings, **decoding)
    write_predictions(answers, out, lambda row: sys.stdout.write(to_json(row) + "\n"))
    if answers.renamed:
        note(f"the table has such columns already: the answers are in {answers.renamed}")
    if answers.skipped:
        note(skipped_rows(answers.skipped, answers.first_skipped))
    if answers.cut:
        note(truncated(answers.cut))
    counts = {name: getattr(answers, name) for name in ("rows", "skipped", "cut")}
    counts = {"run": str(model.folder), **counts, "output": output}
    if output is not None:
        emit(counts, f"{plural(answers.rows, 'answer')} in {output}", json)
