"""Sampling: from logits to the next token, by logits processors in order and one draw per row.

Imports torch only when it samples, so a command or a server can check a request without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InputError, SettingError
from .logits.base import Candidates, LogitsProcessor, is_number, processor_classes

if TYPE_CHECKING:
    from torch import Tensor

MAX_SEED = 2**62
MAX_BEAMS = 64


@dataclass(frozen=True, init=False)
class SamplingParams:
    """The logits processors with their settings; `SamplingParams()` draws from the model's own
    distribution.

    Args:
        settings: by the name of a processor's field, such as `top_k=40` (`setting_names()`).

    Raises:
        SettingError: a value outside its range, or not a number. TypeError: no such setting.
    """

    processors: tuple[LogitsProcessor, ...]
    """All of them, in the order in which they run."""
    greedy: bool
    """Whether the likeliest token is always taken, so that nothing is drawn."""
    active: tuple[LogitsProcessor, ...]
    """The processors that change something, in the order in which they run."""

    def __init__(self, **settings: float) -> None:
        processors = []
        for kind in processor_classes():
            name = kind.setting().name
            processors.append(kind(**{name: settings.pop(name)} if name in settings else {}))
        if settings:
            raise TypeError(f"{next(iter(settings))}: known are {', '.join(setting_names())}")
        greedy = any(each.is_greedy for each in processors)
        active = [each for each in processors if each.is_active]
        # worked out once: every token asks for them
        object.__setattr__(self, "processors", tuple(processors))
        object.__setattr__(self, "greedy", greedy)
        object.__setattr__(
            self, "active", tuple(each for each in active if each.WHEN_GREEDY or not greedy)
        )

    @property
    def settings(self) -> dict[str, float]:
        """The value of each setting, by its name."""
        return {each.setting().name: each.value for each in self.processors}

    @property
    def needs_seen_tokens(self) -> bool:
        """Whether scores depend on the text so far, as a repetition penalty does."""
        return any(each.NEEDS_SEEN_TOKENS for each in self.active)


def setting_names() -> list[str]:
    """The names of all settings of `SamplingParams`."""
    return [kind.setting().name for kind in processor_classes()]


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
        params: the logits processors.
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
        name: settings.pop(name) for name in ("seed", "stop", "ignore_eos") if name in settings
    }
    max_new_tokens: int = settings.pop("max_new_tokens", 200)
    names = setting_names()
    for name in settings:
        if name not in names:
            known = ", ".join(["max_new_tokens", *names, "seed", "stop"])
            raise InputError(f"unknown parameter {name!r}: known are {known}")
    return SamplingParams(**settings), max_new_tokens, others


def check_beams(beams: object, length_penalty: float) -> None:
    """Refuses an impossible beam search.

    Raises:
        SettingError: names the flag and the range.
    """
    if not isinstance(beams, int) or isinstance(beams, bool) or not 1 <= beams <= MAX_BEAMS:
        raise SettingError(f"--beams={beams}: a whole number from 1 (greedy) to {MAX_BEAMS}")
    if not is_number(length_penalty) or not -10 <= length_penalty <= 10:
        raise SettingError(
            f"--length-penalty={length_penalty}: from -10 to 10; 0 is none, above prefers long "
            "texts"
        )


def check_int(flag: str, value: object, largest: int) -> None:
    """Refuses what is not a whole number from 0 to `largest`.

    Raises:
        SettingError: names the flag and the range.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise SettingError(f"--{flag}={value}: a whole number from 0 to {largest:,}")
