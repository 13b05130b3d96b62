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
    rows += [
        ("total", f"{data['parameters']:,} parameters"),
        ("", ""),
        (
            "FLOPs per token",
            f"{data['flops_forward']:,} forward, {data['flops_training']:,} training",
        ),
        (
            "training memory",
            f"about {format_bytes(data['training_bytes'])} at 2,048 tokens per step",
        ),
        ("cache memory", f"{format_bytes(data['cache_bytes'])} per sequence of full length"),
    ]
    if not data["cache_bytes"]:
        rows[-1] = ("cache memory", "none: it does not generate text")
    emit(data, table(rows), json)
