"""Another library's config.json, read with distrust: one value at a time, or refused by its name.

What `foreign` writes, the `adopt` of an architecture reads back with these. Knows no architecture.
"""

import math
from collections.abc import Mapping
from typing import Any

from ...errors import SettingError

Theirs = Mapping[str, Any]
"""The content of a config.json, as somebody else wrote it."""


def is_kind(theirs: Theirs, name: str, kind: str) -> bool:
    """Whether this is the class `name` (`GPT2LMHeadModel`) of the model type `kind` (`gpt2`).

    The class decides; where none is named, the model type does.
    """
    named = theirs.get("architectures")
    if isinstance(named, list) and named:
        return bool(named[0] == name)
    return bool(theirs.get("model_type") == kind)


def whole(theirs: Theirs, *names: str, default: int | None = None) -> int:
    """The whole number under the first of these names that is there.

    Raises:
        SettingError: it is none, or is missing and has no default.
    """
    value = _first(theirs, names, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise SettingError(f"config.json: {names[0]} is {_short(value)}, not a whole number")
    if abs(value) >= 1 << 63:
        raise SettingError(f"config.json: {names[0]} is too large a number")
    return value


def number(theirs: Theirs, *names: str, default: float | None = None) -> float:
    """The finite number under the first of these names that is there.

    Raises:
        SettingError: it is none, or is missing and has no default.
    """
    value = _first(theirs, names, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SettingError(f"config.json: {names[0]} is {_short(value)}, not a number")
    if abs(value) > 1e300 or math.isnan(value):  # also a whole number too long for a float
        raise SettingError(f"config.json: {names[0]} is {_short(value)}, not a finite number")
    return float(value)


def flag(theirs: Theirs, name: str, default: bool) -> bool:
    """True or false.

    Raises:
        SettingError: it is neither.
    """
    value = theirs.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise SettingError(f"config.json: {name} is {_short(value)}, neither true nor false")
    return value


def only(theirs: Theirs, **allowed: tuple[object, ...]) -> None:
    """Refuses what an architecture of ours cannot express; a field that is not there is fine.

    Raises:
        SettingError: names the field, its value, and the values that can be imported.
    """
    for name, values in allowed.items():
        value = theirs.get(name)
        # 1 == True and 1.0 == 1, so types are compared too, but for numbers
        if value is None or any(value == one and _alike(value, one) for one in values):
            continue
        known = " or ".join(_short(one) for one in values)
        raise SettingError(
            f"config.json: {name} is {_short(value)}, which this architecture does not have here: "
            f"only {known} can be imported"
        )


def rope_theta(theirs: Theirs) -> float:
    """The base of plain rotary positions, from `rope_theta` or `rope_parameters`.

    transformers 5 writes the second, releases before it and other readers the first; readers of
    one differ from readers of the other where they disagree, so that is refused.

    Raises:
        SettingError: positions are scaled, or the two disagree.
    """
    only_plain = ("default",)
    scaling = theirs.get("rope_scaling")
    if scaling is not None:
        if not isinstance(scaling, Mapping):
            raise SettingError(f"config.json: rope_scaling is {_short(scaling)}, not a table")
        only(scaling, rope_type=only_plain, type=only_plain)
        if not {"rope_type", "type"} & scaling.keys():
            raise SettingError("config.json: rope_scaling says no rope_type: remove it")
    only(theirs, partial_rotary_factor=(1,))
    parameters = theirs.get("rope_parameters")
    if parameters is None:
        return number(theirs, "rope_theta", default=10000.0)
    if not isinstance(parameters, Mapping):
        raise SettingError(f"config.json: rope_parameters is {_short(parameters)}, not a table")
    only(parameters, rope_type=only_plain, type=only_plain, partial_rotary_factor=(1,))
    if "rope_theta" not in parameters and "rope_theta" not in theirs:
        raise SettingError("config.json: rope_parameters has no rope_theta")
    base = number({**theirs, **parameters}, "rope_theta")
    if number(theirs, "rope_theta", default=base) != base:
        raise SettingError(
            f"config.json: rope_theta is {_short(theirs['rope_theta'])}, but rope_parameters says "
            f"{base:g}: make them equal"
        )
    return base


def _first(theirs: Theirs, names: tuple[str, ...], default: Any) -> Any:
    for name in names:
        if theirs.get(name) is not None:
            return theirs[name]
    if default is None:
        raise SettingError(f"config.json has no {names[0]}")
    return default


def _alike(value: object, one: object) -> bool:
    return isinstance(value, bool) == isinstance(one, bool)


def _short(value: object) -> str:
    """A value for one line of text."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 1 << 64 else "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."
