"""`scriven inspect`: counts the parameters, FLOPs and memory of a run or a preset."""

from ..format import format_bytes, table
from .base import Json, Settings, emit


def inspect(
    target: str,
    *,
    arch: str | None = None,
    json: Json = False,
    settings: Settings = None,
) -> None:
    """Count parameters, FLOPs per token and memory of a run or a preset.

    Parameters
    ----------
    target
        A run, a preset's name or TOML file, or an architecture's name.
    arch
        The architecture, where the preset names none.
    """
    from ..inspect import inspect as look

    data = look(target, arch=arch, settings=settings or {})
    rows = [("architecture", str(data["architecture"]))]
    rows += [(name, str(value)) for name, value in data["model"].items() if value is not None]
    rows.append(("", ""))
    rows += [(part, f"{count:,} parameters") for part, count in data["parts"].items()]
    flops = f"{data['flops_forward']:,} forward, {data['flops_training']:,} training"
    training = f"about {format_bytes(data['training_bytes'])} at 2,048 tokens per step"
    cache = "none: it does not generate text"
    if data["cache_bytes"]:
        cache = f"{format_bytes(data['cache_bytes'])} per sequence of full length"
    rows += [
        ("total", f"{data['parameters']:,} parameters"),
        ("", ""),
        ("FLOPs per token", flops),
        ("training memory", training),
        ("cache memory", cache),
    ]
    emit(data, table(rows), json)
