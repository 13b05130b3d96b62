"""Numbers as people write them. Knows nothing of runs."""

import math

ABSENT = "–"


def whole(value: float | None) -> str:
    """1234567 -> 1,234,567."""
    return ABSENT if value is None else f"{value:,.0f}"


def decimal(value: float | None, digits: int = 3) -> str:
    """1.46931 -> 1.469; a value too large to be read that way gets an exponent."""
    if value is None:
        return ABSENT
    return f"{value:,.{digits}f}" if abs(value) < 1e5 else f"{value:.2e}"


def significant(value: float | None) -> str:
    """Three digits that count, without an exponent where it can be helped: 4.33, 0.0123, 1,230."""
    if value is None:
        return ABSENT
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2e}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def short(value: float | None) -> str:
    """810000 -> 810 k, 4096000 -> 4.1 M; for counts."""
    if value is None:
        return ABSENT
    for size, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        # 999,960 reads 1.0 M, not 1000.0 k.
        if abs(value) >= 0.99995 * size:
            scaled = value / size
            return f"{scaled:.1f} {suffix}" if scaled < 99.95 else f"{scaled:.0f} {suffix}"
    return f"{value:.0f}"


def percent(value: float | None, digits: int = 1) -> str:
    """0.5612 -> 56.1 %."""
    return ABSENT if value is None else f"{100 * value:.{digits}f}\u00a0%"


def duration(seconds: float | None) -> str:
    """192.3 -> 3 min 12 s."""
    if seconds is None:
        return ABSENT
    if seconds < 10:
        return f"{seconds:.1f}\u00a0s"
    total = round(seconds)
    if total < 60:
        return f"{total}\u00a0s"
    parts = [(total // 86400, "d"), (total // 3600 % 24, "h"), (total // 60 % 60, "min")]
    parts.append((total % 60, "s"))
    while parts[0][0] == 0:
        parts.pop(0)
    return " ".join(f"{count}\u00a0{unit}" for count, unit in parts[:2] if count)


def plural(count: float, noun: str) -> str:
    """3, "step" -> 3 steps."""
    return f"{whole(count)} {noun}" if count == 1 else f"{whole(count)} {noun}s"
