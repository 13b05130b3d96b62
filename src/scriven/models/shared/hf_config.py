"""Reads another library's config.json with distrust: one value at a time, or refused by its name.

A value that is missing, of another type or out of range raises a SettingError that names it.
What `to_hf_config` of an architecture writes, its `from_hf_config` reads back with these.
"""

import math
from collections.abc import Mapping
from typing import Any

from ...errors import SettingError

HFConfig = Mapping[str, Any]
"""The content of a config.json."""


def is_model(hf_config: HFConfig, name: str, model_type: str) -> bool:
    """Whether this is the class `name` (`GPT2LMHeadModel`) of a `model_type` (`gpt2`).

    The class decides; where none is named, the model type does.
    """
    named = hf_config.get("architectures")
    if isinstance(named, list) and named:
        return bool(named[0] == name)
    return bool(hf_config.get("model_type") == model_type)


def integer(hf_config: HFConfig, *names: str, default: int | None = None) -> int:
    """The whole number under the first of these names that is there."""
    value = _first(hf_config, names, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise SettingError(f"config.json: {names[0]} is {_shorten(value)}, not a whole number")
    if abs(value) >= 1 << 63:
        raise SettingError(f"config.json: {names[0]} is too large a number")
    return value


def number(hf_config: HFConfig, *names: str, default: float | None = None) -> float:
    """The finite number under the first of these names that is there."""
    value = _first(hf_config, names, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SettingError(f"config.json: {names[0]} is {_shorten(value)}, not a number")
    if abs(value) > 1e300 or math.isnan(value):  # also a whole number too long for a float
        raise SettingError(f"config.json: {names[0]} is {_shorten(value)}, but must be finite")
    return float(value)


def boolean(hf_config: HFConfig, name: str, default: bool) -> bool:
    """The truth value under this name."""
    value = hf_config.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise SettingError(f"config.json: {name} is {_shorten(value)}, neither true nor false")
    return value


def require(hf_config: HFConfig, **allowed: tuple[object, ...]) -> None:
    """Refuses what an architecture of ours cannot express, naming the values that can be imported;
    a field that is not there is fine."""
    for name, values in allowed.items():
        value = hf_config.get(name)
        # 1 == True: a truth value is compared with truth values alone, a number with numbers
        comparable = [one for one in values if isinstance(one, bool) == isinstance(value, bool)]
        if value is None or value in comparable:
            continue
        known = " or ".join(_shorten(one) for one in values)
        raise SettingError(
            f"config.json: {name} is {_shorten(value)}, which this architecture does not have "
            f"here: only {known} can be imported"
        )


def rope_theta(hf_config: HFConfig) -> float:
    """The base of plain rotary positions, from `rope_theta` or `rope_parameters`.

    transformers 5 writes the second, releases before it and other readers the first; readers of
    one differ from readers of the other where they disagree, so that is refused, and so are scaled
    positions.
    """
    unscaled = ("default",)
    scaling = hf_config.get("rope_scaling")
    if scaling is not None:
        if not isinstance(scaling, Mapping):
            raise SettingError(f"config.json: rope_scaling is {_shorten(scaling)}, not a table")
        require(scaling, rope_type=unscaled, type=unscaled)
        if not {"rope_type", "type"} & scaling.keys():
            raise SettingError("config.json: rope_scaling says no rope_type: remove it")
    require(hf_config, partial_rotary_factor=(1,))
    parameters = hf_config.get("rope_parameters")
    if parameters is None:
        return number(hf_config, "rope_theta", default=10000.0)
    if not isinstance(parameters, Mapping):
        raise SettingError(f"config.json: rope_parameters is {_shorten(parameters)}, not a table")
    require(parameters, rope_type=unscaled, type=unscaled, partial_rotary_factor=(1,))
    if "rope_theta" not in parameters and "rope_theta" not in hf_config:
        raise SettingError("config.json: rope_parameters has no rope_theta")
    base = number({**hf_config, **parameters}, "rope_theta")
    if number(hf_config, "rope_theta", default=base) != base:
        raise SettingError(
            f"config.json: rope_theta is {_shorten(hf_config['rope_theta'])}, but rope_parameters "
            f"says {base:g}: make them equal"
        )
    return base


def _first(hf_config: HFConfig, names: tuple[str, ...], default: Any) -> Any:
    for name in names:
        if hf_config.get(name) is not None:
            return hf_config[name]
    if default is None:
        raise SettingError(f"config.json has no {names[0]}")
    return default


def _shorten(value: object) -> str:
    """A value for one line of text."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 1 << 64 else "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."
