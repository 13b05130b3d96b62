"""Sampling: from logits to the next token, by logits processors in order and one draw per row.

The files of `logits/` hold the processors, and each is one setting: its command-line flag, its
Python argument, its help and its range follow from its class. Imports torch only when it samples,
so that `scriven --help` is instant and a server can check a request without it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from .. import registry
from ..errors import InputError, SettingError

if TYPE_CHECKING:
    from torch import Tensor

MAX_BEAMS = 64
NOT_FINITE = "the model's weights give NaN or infinite logits"
SAMPLED: dict[str, Any] = {"temperature": 0.8}
"""What is not said, where a text is drawn."""
GREEDY: dict[str, Any] = {"temperature": 0.0}
"""The same, where an input has one right answer."""
PROCESSORS = f"{__package__}.logits"
NATIVE = {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "top_k": 0.0}
"""Settings that compiled code knows (native/library.py), in its order, and what turns them off."""


@dataclass(frozen=True)
class Candidates:
    """The tokens that may still be drawn, while logits processors run."""

    scores: "Tensor"
    """(B, N) raw logits, then scores after the temperature; -inf for what must not be drawn."""
    seen: "Tensor | None" = None
    """(B, V) bool, the tokens already in the text; only if a processor needs them."""
    ids: "Tensor | None" = None
    """(B, N) int64 token ids of the scores; None: score i belongs to token i."""

    def pick(self, scores: "Tensor", columns: "Tensor") -> "Candidates":
        """Only the candidates in `columns` (B, n), with these `scores` (B, n)."""
        ids = columns if self.ids is None else self.ids.gather(-1, columns)
        return replace(self, scores=scores, ids=ids)


def setting(
    default: float, help: str, *, low: float, high: float | None = None, above: bool = False
) -> Any:
    """The field of a processor, which does nothing at its `default`; `above`: `low` itself is not
    allowed."""
    metadata = {"help": help, "low": low, "high": high, "above": above}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class LogitsProcessor:
    """Changes the scores of the next token: a frozen dataclass with a single `setting`, which
    raises SettingError for a value out of its range."""

    ORDER: ClassVar[int] = 100
    """Processors run in rising order; those of transformers come in its order, from 10 to 50."""
    ALWAYS_ACTIVE: ClassVar[bool] = False  # whether it runs at the default of its setting, too
    WHEN_GREEDY: ClassVar[bool] = False
    """Whether it can change which token is the likeliest, so that greedy decoding needs it too."""
    NEEDS_SEEN_TOKENS: ClassVar[bool] = False
    """Whether it depends on the text so far. Speculative decoding is then off: several tokens are
    scored at once there, and each of them would change the scores of the next."""

    def __post_init__(self) -> None:
        (own,) = fields(self)
        value, whole = getattr(self, own.name), own.type is int
        low, high, above = (own.metadata[key] for key in ("low", "high", "above"))
        valid = is_number(value) and (low < value if above else low <= value)
        if not valid or (high is not None and value > high) or (whole and value != int(value)):
            kind = "a whole number" if whole else "a number"
            range_ = f"above {low:g}" if above else f"from {low:g}"
            if high is not None:
                range_ += f" and at most {high:g}" if above else f" to {high:g}"
            flag = own.name.replace("_", "-")
            raise SettingError(f"--{flag}={value}: {kind} {range_}; {own.default:g} by default")

    @property
    def is_greedy(self) -> bool:
        """Whether this setting alone leaves only the likeliest token to choose."""
        return False

    def __call__(self, candidates: Candidates) -> Candidates:
        """The candidates (B, N) that are left, with their new scores."""
        raise NotImplementedError


def processor_classes() -> dict[str, type[LogitsProcessor]]:
    """The classes in the files of `logits/` by the name of their setting, in running order."""
    modules = [registry.module(PROCESSORS, name) for name in registry.names(PROCESSORS)]
    classes = [
        each
        for module in modules
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, LogitsProcessor)
        if each is not LogitsProcessor
    ]
    return {fields(kind)[0].name: kind for kind in sorted(classes, key=lambda kind: kind.ORDER)}


@dataclass(frozen=True, init=False)
class SamplingParams:
    """The logits processors with their settings; `SamplingParams()` draws from the model's own
    distribution.

    Args:
        settings: by the name of a processor's field, such as `top_k=40` (`processor_classes()`).

    Raises:
        SettingError: a value outside its range, or not a number. TypeError: no such setting.
    """

    processors: tuple[LogitsProcessor, ...]  # all of them, in the order in which they run
    active: tuple[LogitsProcessor, ...]
    """The processors that change something, in the order in which they run."""
    greedy: bool  # whether the likeliest token is always taken, so that nothing is drawn
    needs_seen_tokens: bool
    """Whether scores depend on the text so far, as with a repetition penalty."""
    native: tuple[float, float, float, int] | None
    """Temperature, top-p, min-p and top-k where no other processor is active, for compiled code."""

    def __init__(self, **settings: float) -> None:
        processors, active = [], []
        for name, kind in processor_classes().items():
            processor = kind(**{name: settings.pop(name)} if name in settings else {})
            processors.append(processor)
            # a dataclass keeps the default of a field as an attribute of the class
            if kind.ALWAYS_ACTIVE or getattr(processor, name) != getattr(kind, name):
                active.append(processor)
        if settings:
            raise TypeError(f"{next(iter(settings))}: known are {', '.join(processor_classes())}")
        greedy = any(each.is_greedy for each in active)
        if greedy:
            active = [each for each in active if each.WHEN_GREEDY]
        values = {name: value for each in active for name, value in asdict(each).items()}
        numbers = [float(values.pop(name, off)) for name, off in NATIVE.items()]
        temperature, top_p, min_p, top_k = numbers
        native = (0.0 if greedy else temperature, top_p, min_p, int(top_k))
        # worked out once, as every token needs them; a frozen dataclass forbids plain assignment
        vars(self).update(
            processors=tuple(processors),
            active=tuple(active),
            greedy=greedy,
            needs_seen_tokens=any(each.NEEDS_SEEN_TOKENS for each in active),
            native=None if values else native,
        )

    @property
    def settings(self) -> dict[str, float]:
        """The value of each setting, by its name."""
        return {name: value for each in self.processors for name, value in asdict(each).items()}


def sample(
    logits: "Tensor",
    params: SamplingParams,
    uniforms: Sequence[float],
    seen: "Tensor | None" = None,
) -> "Tensor":
    """The next token of each row.

    A row's token depends on its own logits and its own random number alone, so a text does not
    depend on the others in its batch.

    Args:
        logits: (B, V); -inf for tokens that must never be chosen.
        uniforms: for each row one number drawn evenly from [0, 1), in double precision; not needed
            when greedy.
        seen: (B, V) bool, the tokens already in the text; for a repetition penalty.

    Returns:
        (B,) int64 token ids.
    """
    import torch

    # 1. each logits processor changes scores, or drops candidates        (B, V) -> (B, N)
    candidates = process_logits(logits, params, seen)
    scores, ids = candidates.scores, candidates.ids
    if params.greedy:
        columns = scores.argmax(dim=-1, keepdim=True)  # (B, 1)
    else:
        # 2. inverse transform sampling: the first candidate whose cumulative probability exceeds
        #    the uniform number
        cumulative = scores.softmax(dim=-1).cumsum(dim=-1)  # (B, N)
        uniform = torch.tensor(uniforms, dtype=torch.float64, device=logits.device)  # (B,)
        threshold = uniform[:, None] * cumulative[:, -1:]  # the sum is 1 only up to rounding
        columns = torch.searchsorted(cumulative, threshold, right=True)  # (B, 1)
        columns = columns.clamp_(max=scores.shape[-1] - 1)
    # 3. back from columns of the candidates to token ids
    return (columns if ids is None else ids.gather(-1, columns))[:, 0]


def sample_rows(
    logits: "Tensor",
    params: Sequence[SamplingParams],
    uniforms: Sequence[float],
    seen: "Sequence[Tensor | None] | None" = None,
) -> list[int]:
    """The next token of each row, with settings of its own; compiled code draws it where it can.

    Args:
        logits: (B, V); params, uniforms: of each row, as for `sample`.
        seen: (V,) of each row that needs it.

    Raises:
        InputError: a row without finite logits.
    """
    from ..native.library import sample_natively

    # 1. all rows in one call
    settings = [each.native for each in params if each.native is not None]
    if len(settings) == len(params):
        tokens = sample_natively(logits, settings, uniforms)
        if tokens is not None:
            if -1 in tokens:
                raise InputError(NOT_FINITE)
            return tokens
    # 2. or those with the same settings together
    import torch

    rows_of: dict[SamplingParams, list[int]] = {}
    for row, each in enumerate(params):
        rows_of.setdefault(each, []).append(row)
    found = [0] * len(params)
    for each, rows in rows_of.items():
        masks = [mask for row in rows if seen and (mask := seen[row]) is not None]
        own = logits if len(rows) == len(params) else logits[rows]
        numbers = [uniforms[row] for row in rows]
        chosen = sample(own, each, numbers, torch.stack(masks) if masks else None)
        for row, token in zip(rows, chosen.tolist(), strict=True):
            found[row] = token
    return found


def process_logits(
    logits: "Tensor", params: SamplingParams, seen: "Tensor | None" = None
) -> Candidates:
    """The candidates that are left after all active processors. Arguments as for `sample`."""
    candidates = Candidates(logits, seen)
    for processor in params.active:
        candidates = processor(candidates)
    return candidates


def parse_generation_args(args: Mapping[str, Any]) -> tuple[SamplingParams, int, dict[str, Any]]:
    """(sampling, max_new_tokens, the other arguments of `Engine.generate`) from Python keywords.

    Raises:
        InputError: an unknown keyword. SettingError: a value outside its range.
    """
    settings = dict(args)
    others: dict[str, Any] = {
        key: settings.pop(key) for key in ("seed", "stop", "ignore_eos") if key in settings
    }
    max_new_tokens: int = settings.pop("max_new_tokens", 200)
    known = processor_classes()
    for name in settings:
        if name not in known:
            names = ", ".join(["max_new_tokens", *known, "seed", "stop"])
            raise InputError(f"unknown parameter {name!r}: known are {names}")
    return SamplingParams(**settings), max_new_tokens, others


def check_beams(beams: object, length_penalty: float) -> None:
    """Raises SettingError for an impossible beam search."""
    if not isinstance(beams, int) or isinstance(beams, bool) or not 1 <= beams <= MAX_BEAMS:
        raise SettingError(f"--beams={beams}: a whole number from 1 (greedy) to {MAX_BEAMS}")
    if not is_number(length_penalty) or not -10 <= length_penalty <= 10:
        raise SettingError(
            f"--length-penalty={length_penalty}: from -10 to 10; 0 is none, above prefers long "
            "texts"
        )


def is_number(value: object) -> bool:
    """Whether `value` is a finite number; True and False are not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < math.inf  # false for NaN too
