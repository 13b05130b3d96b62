"""What a logits processor is: one setting, and what that does to the scores of the next token."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from ... import registry
from ...errors import SettingError

if TYPE_CHECKING:
    from torch import Tensor


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


@dataclass(frozen=True)
class LogitsProcessor:
    """A file of this folder holds one subclass: a frozen dataclass with a single `setting`.

    Raises:
        SettingError: a value outside the setting's range, or not a number.
    """

    ORDER: ClassVar[int] = 100
    """Processors run in rising order; those of transformers come in its order, from 10 to 50."""
    WHEN_GREEDY: ClassVar[bool] = False
    """Whether it can change which token is the likeliest, so that greedy decoding needs it too."""
    NEEDS_SEEN_TOKENS: ClassVar[bool] = False
    """Whether it depends on the text so far. Speculative decoding is then off: several tokens are
    scored at once there, and each of them would change the scores of the next."""

    def __post_init__(self) -> None:
        field = self.setting()
        low, high, above = (field.metadata[key] for key in ("low", "high", "above"))
        value, whole = self.value, field.type is int
        valid = is_number(value) and (low < value if above else low <= value)
        if not valid or (high is not None and value > high) or (whole and value != int(value)):
            kind = "a whole number" if whole else "a number"
            range_ = f"above {low:g}" if above else f"from {low:g}"
            if high is not None:
                range_ += f" and at most {high:g}" if above else f" to {high:g}"
            flag = field.name.replace("_", "-")
            raise SettingError(f"--{flag}={value}: {kind} {range_}; {field.default:g} by default")

    @classmethod
    def setting(cls) -> "dataclasses.Field[Any]":
        """The dataclass field that holds the setting."""
        (field,) = dataclasses.fields(cls)
        return field

    @property
    def value(self) -> float:
        """The setting's value."""
        value: float = getattr(self, self.setting().name)
        return value

    @property
    def is_active(self) -> bool:
        """Whether it changes anything; at its default a processor does nothing."""
        return self.value != self.setting().default

    @property
    def is_greedy(self) -> bool:
        """Whether this setting alone leaves only the likeliest token to choose."""
        return False

    def __call__(self, candidates: Candidates) -> Candidates:
        """The candidates (B, N) that are left, with their new scores."""
        raise NotImplementedError


def setting(
    default: float, help: str, *, low: float, high: float | None = None, above: bool = False
) -> Any:
    """The field of a processor.

    Args:
        default: the value at which the processor does nothing.
        help: one or two sentences, shown by `--help`.
        low, high: the range of its values; None: no upper limit.
        above: whether `low` itself is not allowed.
    """
    metadata = {"help": help, "low": low, "high": high, "above": above}
    return dataclasses.field(default=default, metadata=metadata)


def processor_classes() -> list[type[LogitsProcessor]]:
    """The processors of this folder, in the order in which they run."""
    return sorted(_find_classes(), key=lambda kind: kind.ORDER)


def _find_classes() -> Iterator[type[LogitsProcessor]]:
    package = __name__.rpartition(".")[0]
    for name in registry.names(package):
        for each in vars(registry.module(package, name)).values():
            if isinstance(each, type) and issubclass(each, LogitsProcessor):
                if each is not LogitsProcessor:
                    yield each


def is_number(value: object) -> bool:
    """Whether `value` is a finite number; True and False are not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < float("inf")  # false for NaN too
