"""What commands share: parameters, and how a result is printed."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import field, fields, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ..format import CONTROL, clean, escape_control_characters, plural, print_message

if TYPE_CHECKING:
    from ..model import Model

# Parameters that several commands share, with the help text that all of them show.
Run = Annotated[
    str,
    Parameter(
        help="A run folder, a name under runs/, or latest (RUN@STEP is a checkpoint); or a Hugging "
        "Face folder, an adapter folder, a .gguf file, or hf:ORG/NAME."
    ),
]
UserArch = Annotated[
    str | None,
    Parameter(help="The file of your own architecture, where the run was trained with one."),
]
Precision = Annotated[
    Literal["float32", "bfloat16", "int8", "int4"] | None,
    Parameter(
        help="Precision of the matrix multiplications. By default bfloat16 for models of more than "
        "four million weights on CPUs that are fast at it; int8 and int4 are faster and round more."
    ),
]
Seed = Annotated[int | None, Parameter(help="Random seed (0 by default).")]
Size = Annotated[
    str | None,
    Parameter(
        help="Model size: tiny, small, medium, base, large, or a number of parameters such as 12M; "
        "by default what suits the machine."
    ),
]
Beams = Annotated[
    int,
    Parameter(
        help="For generated answers: beam width of a beam search; 1 is greedy decoding: the most "
        "likely token each time."
    ),
]
LengthPenalty = Annotated[
    float,
    Parameter(help="For a beam search: above 1 favours long answers, below 1 short ones."),
]
Quiet = Annotated[bool, Parameter(help="No progress on standard error.")]
Json = Annotated[bool, Parameter(help="One JSON object on standard output.")]
NO_ANSWER = "(no answer)"
"""What is shown where a context has no answer to a question."""
Settings = Annotated[dict[str, object] | None, Parameter(parse=False)]
"""The settings given as --section.key=value, which the command line collects before cyclopts."""


def emit(data: dict[str, Any], text: str, as_json: bool, *, styled: bool = False) -> None:
    """Prints the result on standard output: one JSON object, or a text for a person.

    styled: the text has escape sequences of ours, and others' are escaped in it already.
    """
    if as_json:
        print(to_json(data, allow_nan=False), flush=True)
    else:
        print(text if styled else for_terminal(text), flush=True)


def to_json(data: dict[str, Any], **options: Any) -> str:
    """One line of JSON; escaped where the encoding of standard output lacks characters."""
    is_unicode = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    line = clean(json.dumps(data, ensure_ascii=not is_unicode, default=str, **options))
    # JSON itself allows those from \x7f on, which a terminal would obey
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def add_sampling_flags(
    command: Callable[..., None], notes: Mapping[str, str] | None = None, **defaults: object
) -> None:
    """Gives a command one flag for each logits processor, as its parameter `sampling`.

    Flag, type and help come from the processor's field, so a new processor needs no change here.

    Args:
        command: a function with a keyword `sampling`.
        notes: more help for a flag, by the name of its setting.
        defaults: defaults of this command, where they differ from the processor's.
    """
    # only commands that sample import the processors
    from ..generate.sampling import processor_classes

    flags_of: list[tuple[str, Any, Any]] = []
    for kind in processor_classes().values():
        (setting,) = fields(kind)
        default = defaults.get(setting.name, setting.default)
        type_ = setting.type if default is not None else setting.type | None  # type: ignore[operator]
        text = " ".join(filter(None, [setting.metadata["help"], (notes or {}).get(setting.name)]))
        flag = Annotated[type_, Parameter(help=text)]  # type: ignore[valid-type]
        flags_of.append((setting.name, flag, field(default=default)))
    flags = make_dataclass("SamplingFlags", flags_of, frozen=True)
    flags.__module__ = __name__  # cyclopts flattens no class of the standard library
    command.__annotations__["sampling"] = Annotated[flags, Parameter(name="*")]
    assert command.__kwdefaults__ is not None
    command.__kwdefaults__["sampling"] = flags()


def open_model(run: str, arch: str | None, dtype: str | None = None) -> "Model":
    """Loads the model of a run, with its warnings on standard error."""
    from ..model import load

    model = load(run, arch=arch, dtype=dtype)
    for warning in model.warnings:
        print_message(warning)
    return model


def truncated(rows: int) -> str:
    """The message on rows that lost a part."""
    one = "row was longer than the context and was truncated"
    return plural(rows, one, "rows were longer than the context and were truncated")


def for_terminal(text: str) -> str:
    """Text without control characters where standard output is a terminal."""
    return escape_control_characters(text) if sys.stdout.isatty() else text


note = print_message
