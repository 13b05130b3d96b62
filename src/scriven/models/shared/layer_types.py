"""Layers of several kinds, as text: `sliding,sliding,full` is a pattern that repeats."""

from collections.abc import Sequence

from ...errors import SettingError


def expand(text: str, layers: int, known: Sequence[str]) -> list[str]:
    """The kind of each layer.

    Raises:
        SettingError: one that is not known.
    """
    pattern = [kind.strip() for kind in text.split(",")]
    for kind in pattern:
        if kind not in known:
            raise SettingError(
                f"--model.layer_types={text[:80]}: {kind[:40]!r} is no kind of layer; kinds are "
                f"{', '.join(known)}"
            )
    return [pattern[layer % len(pattern)] for layer in range(layers)]


def shorten(kinds: Sequence[str]) -> str:
    """The shortest pattern that repeats to these kinds."""
    for size in range(1, len(kinds)):
        if all(kind == kinds[place % size] for place, kind in enumerate(kinds)):
            return ",".join(kinds[:size])
    return ",".join(kinds) or "full"
