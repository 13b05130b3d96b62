"""What commands share: how a result is printed."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from ..model import Model

Settings = Annotated[dict[str, object] | None, Parameter(parse=False)]
"""The settings given as --section.key=value, which the command line collects before cyclopts."""


def emit(data: dict[str, Any], text: str, as_json: bool) -> None:
    """The result on standard output: one JSON object, or a text for a person."""
    if as_json:
        print(json.dumps(data, ensure_ascii=False, allow_nan=False, default=str), flush=True)
    else:
        print(text, flush=True)


Precision = Literal["float32", "bfloat16", "int8"]
"""Of the products while a model writes."""


def open_model(run: str, arch: str | None, dtype: str | None = None) -> "Model":
    """A run, loaded; what the user should know about it goes to standard error."""
    from ..model import load

    model = load(run, arch=arch, dtype=dtype)
    for warning in model.warnings:
        note(warning)
    return model


def table(rows: list[tuple[str, str]]) -> str:
    """Two columns, aligned."""
    width = max((len(left) for left, _ in rows), default=0)
    return "\n".join(f"{left:<{width}}  {right}".rstrip() for left, right in rows)


def for_terminal(text: str) -> str:
    """What a model wrote, harmless where a terminal shows it; as it is for a file or a pipe."""
    from ..tokenizers.special_tokens import replace_control_characters

    return replace_control_characters(text) if sys.stdout.isatty() else text


def note(text: str) -> None:
    """A sentence on standard error."""
    print(text, file=sys.stderr, flush=True)
