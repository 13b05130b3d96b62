"""config.json of transformers and the Config of an architecture: one table, read both ways.

An `HFClass` is a class of transformers (`GPT2LMHeadModel`): a row for each field of Config and of
config.json that hold the same, and the fields that have one value only. Another library's file is
read with distrust: a value that is missing, of another type or out of range raises a SettingError
that names it; `Unsupported` where it means a model that the architecture cannot express.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import SettingError
from ...nn.rope_scaling import OPTIONAL, REQUIRED, RopeScaling

HFConfig = Mapping[str, Any]
"""The content of a config.json."""
Fields = dict[str, Any]


class Unsupported(SettingError):
    """A model that could exist, and that no architecture here can express."""


@dataclass(frozen=True)
class Row:
    """Some fields of Config, and how config.json holds them."""

    names: tuple[str, ...]
    read: Callable[[HFConfig, Fields], Fields]
    """(config.json, fields of Config that are known so far) -> fields of Config."""
    write: Callable[[Any], Fields | None]
    """Config -> fields of config.json; None where the class cannot have such values."""


@dataclass(frozen=True)
class HFClass:
    """A class of transformers, and the Config of ours that is the same model."""

    name: str
    model_type: str
    rows: tuple[Row, ...]
    fields: Mapping[str, object] = field(default_factory=dict)
    """Fields of Config that have one value in this class."""
    hf_config: Mapping[str, object] = field(default_factory=dict)
    """Fields of config.json that must have one value, which is written; of a tuple of values the
    first is written and all are read."""
    written: Mapping[str, object] = field(default_factory=dict)
    """Fields that are written for its readers, whatever a file that is read has there."""
    hf_defaults: Mapping[str, object] = field(default_factory=dict)
    """Values of `hf_config` where a file is silent, if not the one that is needed."""


UNSTORED = ("dropout", "hf_class")
"""Fields of Config that a class need not have: they do not change what a model computes."""


def row(
    name: str,
    hf_name: str | tuple[str, ...],
    kind: Callable[..., Any] | None = None,
    default: Any = None,
    value: str | None = None,
) -> Row:
    """One field of Config and one of config.json.

    Args:
        name, hf_name: their names; of several names the first is written.
        kind: how it is read; `integer` by default.
        default: where the file is silent, or a function of the fields of Config; None: the file
            must have it.
        value: the property of Config that says what an open field amounts to.
    """
    names = (hf_name,) if isinstance(hf_name, str) else hf_name

    def read(hf_config: HFConfig, known: Fields) -> Fields:
        fallback = default(known) if callable(default) else default
        return {name: (kind or integer)(hf_config, *names, default=fallback)}

    return Row((name,), read, lambda config: {names[0]: getattr(config, value or name)})


_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "relu": "relu",
}
"""Names of activations there -> here (nn/block.py)."""


def activation_row(hf_name: str, default: str) -> Row:
    """The field `activation`, in `hf_name`; where a file is silent, it is `default`."""

    def read(hf_config: HFConfig, known: Fields) -> Fields:
        require(hf_config, **{hf_name: tuple(_ACTIVATIONS)})
        return {"activation": _ACTIVATIONS.get(str(hf_config.get(hf_name)), default)}

    def write(config: Any) -> Fields:
        return {hf_name: next(n for n, own in _ACTIVATIONS.items() if own == config.activation)}

    return Row(("activation",), read, write)


def read_hf_config(classes: Sequence[HFClass], hf_config: HFConfig) -> Fields | None:
    """The fields of Config that a config.json asks for; None where it is none of these classes.

    Raises:
        SettingError: a field that is missing or impossible. Unsupported: one that these classes of
            ours cannot express.
    """
    for each in classes:
        if is_model(hf_config, each.name, each.model_type):
            allowed = {
                name: value if isinstance(value, tuple) else (value,)
                for name, value in each.hf_config.items()
            }
            require({**each.hf_defaults, **hf_config}, **allowed)
            fields: Fields = dict(each.fields)
            if len(classes) > 1:
                fields["hf_class"] = each.name
            for one in each.rows:
                fields |= one.read(hf_config, fields)
            return fields
    return None


def write_hf_config(classes: Sequence[HFClass], config: Any) -> Fields | None:
    """The config.json of the class that has this Config: that of `hf_class`, or the first that can
    express it; None where none can."""
    wanted = getattr(config, "hf_class", None)
    for each in classes:
        if wanted not in (None, each.name):
            continue
        held = {name for one in each.rows for name in one.names} | {*each.fields, *UNSTORED}
        others = {one.name: one.default for one in dataclasses.fields(config)}
        needed = {name: default for name, default in others.items() if name not in held}
        if any(
            getattr(config, name) != value for name, value in (needed | {**each.fields}).items()
        ):
            continue
        written = [one.write(config) for one in each.rows]
        if None not in written:
            hf_config = {"architectures": [each.name], "model_type": each.model_type}
            for part in written:
                hf_config |= part or {}
            fixed = {
                name: value[0] if isinstance(value, tuple) else value
                for name, value in each.hf_config.items()
            }
            return {**hf_config, **fixed, **each.written}
    return None


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


def optional_number(hf_config: HFConfig, name: str, default: float | None = None) -> float | None:
    """The finite number under this name, or null; the default where it is not there at all."""
    value = hf_config.get(name, default)
    return None if value is None else number({name: value}, name)


def optional_integer(hf_config: HFConfig, name: str, default: int | None = None) -> int | None:
    """The whole number under this name, or null; the default where it is not there at all."""
    value = hf_config.get(name, default)
    return None if value is None else integer({name: value}, name)


def boolean(hf_config: HFConfig, name: str, default: bool = False) -> bool:
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
    if not isinstance(hf_config, Mapping):  # a section of the file
        raise SettingError(f"config.json: {_shorten(hf_config)} is where a section should be")
    for name, values in allowed.items():
        value = hf_config.get(name)
        # 1 == True: a truth value is compared with truth values alone, a number with numbers
        comparable = [one for one in values if isinstance(one, bool) == isinstance(value, bool)]
        if value is None or value in comparable:
            continue
        known = " or ".join(_shorten(one) for one in values)
        raise Unsupported(
            f"config.json: {name} is {_shorten(value)}, which this architecture does not have "
            f"here: only {known} can be imported"
        )


def read_rope(hf_config: HFConfig, theta: float = 10000.0, fraction: float = 1.0) -> Fields:
    """Base, scaling and rotated fraction of rotary positions, from `rope_theta`, `rope_scaling` and
    `partial_rotary_factor`, or from `rope_parameters`.

    transformers 5 writes the last, releases before it and other readers the others; readers of one
    differ from readers of the other where they disagree, so that is refused.

    Args:
        theta, fraction: where the file is silent.
    """
    # 1. the two places
    scaling, parameters = hf_config.get("rope_scaling"), hf_config.get("rope_parameters")
    for name, table in (("rope_scaling", scaling), ("rope_parameters", parameters)):
        if table is not None and not isinstance(table, Mapping):
            raise SettingError(f"config.json: {name} is {_shorten(table)}, not a table")
    if scaling is not None and not {"rope_type", "type"} & scaling.keys():
        raise SettingError("config.json: rope_scaling says no rope_type: remove it")
    if parameters is not None and "rope_theta" not in {**hf_config, **parameters}:
        raise SettingError("config.json: rope_parameters has no rope_theta")
    inner = {**(parameters or {}), **(scaling or {})}
    # 2. the base
    base = number({**hf_config, **inner}, "rope_theta", default=theta)
    if number(hf_config, "rope_theta", default=base) != base:
        raise SettingError(
            f"config.json: rope_theta is {_shorten(hf_config['rope_theta'])}, but rope_parameters "
            f"says {base:g}: make them equal"
        )
    # 3. the scaling and the fraction
    return {
        "rope_theta": base,
        "rope_scaling": _read_scaling(inner, hf_config),
        "rope_fraction": number({**hf_config, **inner}, "partial_rotary_factor", default=fraction),
    }


def _read_scaling(table: HFConfig, hf_config: HFConfig) -> str | None:
    require(table, rope_type=("default", *REQUIRED), type=("default", *REQUIRED))
    kind = table.get("rope_type") or table.get("type") or "default"
    if kind == "default":
        return None
    numbers: dict[str, float] = {}
    for name in (*REQUIRED[kind], *OPTIONAL.get(kind, ())):
        default = None
        if name == "original_max_position_embeddings":
            default = number(hf_config, name, "max_position_embeddings", default=1)
        if name == "truncate":
            numbers[name] = float(boolean(table, name, True))
        elif name in REQUIRED[kind] or table.get(name) is not None:
            numbers[name] = number(table, name, default=default)
    return str(RopeScaling.parse(str(RopeScaling(kind, numbers))))


def write_rope(theta: float, scaling: str | None, fraction: float = 1.0) -> Fields:
    """The inverse of `read_rope`: the old names and the new one."""
    kind, numbers = "default", {}
    if scaling is not None:
        parsed = RopeScaling.parse(scaling)
        kind, numbers = parsed.kind, dict(parsed.numbers)
    table: Fields = {"rope_type": kind, **numbers}
    if "truncate" in table:
        table["truncate"] = bool(table["truncate"])
    if "original_max_position_embeddings" in table:
        table["original_max_position_embeddings"] = int(table["original_max_position_embeddings"])
    if fraction != 1:
        table["partial_rotary_factor"] = fraction
    return {
        "rope_theta": theta,
        **({} if fraction == 1 else {"partial_rotary_factor": fraction}),
        **({} if scaling is None else {"rope_scaling": table}),
        "rope_parameters": {"rope_theta": theta, **table},
    }


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
