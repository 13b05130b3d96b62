"""Numbers as people read them (counts, bytes, durations), and text made safe for a terminal or as
the name of a file."""

import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import InputError

ABSENT = "–"


def integer(value: float | None) -> str:
    """1234567 -> 1,234,567."""
    return ABSENT if value is None else f"{value:,.0f}"


def decimal(value: float | None, digits: int = 3) -> str:
    """1.46931 -> 1.469; from 100,000 on with an exponent."""
    if value is None:
        return ABSENT
    return f"{value:,.{digits}f}" if abs(value) < 1e5 else f"{value:.2e}"


def significant(value: float | None) -> str:
    """Three significant digits, without an exponent where possible: 4.33, 0.0123, 1,230."""
    if value is None:
        return ABSENT
    if value == 0:  # has no logarithm
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2e}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    """0.5612 -> 56.1 %."""
    return ABSENT if value is None else f"{100 * value:.{digits}f}\u00a0%"


def plural(count: float, one: str, several: str | None = None) -> str:
    """3, "step" -> 3 steps; 2, "row was read", "rows were read" -> 2 rows were read."""
    return f"{integer(count)} {one if count == 1 else several or one + 's'}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lines of text with aligned columns, as many in each row."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def skipped_rows(count: int, first: str) -> str:
    """3, "t.csv row 7 ..." -> 3 rows were skipped, first t.csv row 7 ..."""
    return (
        f"1 row was skipped: {first}"
        if count == 1
        else f"{count:,} rows were skipped, first {first}"
    )


def heading(name: str) -> str:
    """train_tokens -> Train tokens."""
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def compact(value: float | None, space: str = " ") -> str:
    """810000 -> 810 k, 4096000 -> 4.1 M, 2.1e9 -> 2.1 B."""
    if value is None:
        return ABSENT
    for factor, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        # 999,960 is 1.0 M, not 1000.0 k
        if abs(value) >= 0.99995 * factor:
            scaled = value / factor
            digits = 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f}{space}{letter}"
    return f"{value:.0f}"


def si(value: float) -> str:
    """Three significant digits before a unit: 1.2e9 -> `1.2 G`, 45 -> `45 `."""
    for factor, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        # 999.6 is 1 k, not 1e+03
        if value >= 0.9995 * factor:
            return f"{value / factor:.3g} {letter}"
    return f"{value:.3g} "


def format_bytes(size: float) -> str:
    """1536 -> `1.54 kB`, 3.4e9 -> `3.4 GB`."""
    return f"{size:.0f} bytes" if size < 999.5 else f"{si(size)}B"


def model_size(parameters: float) -> str:
    """A number of parameters as `--size` reads it, to two digits: 1.1e9 -> `1.1B`."""
    units = ((1e9, "B"), (1e6, "M"))
    factor, letter = next((unit for unit in units if parameters >= 0.995 * unit[0]), (1e3, "k"))
    number = max(1.0, parameters / factor)
    digits = 1 - math.floor(math.log10(number))
    return f"{round(number, digits):.10g}{letter}"


def duration(seconds: float | None) -> str:
    """192.3 -> 3 min 12 s."""
    if seconds is None:
        return ABSENT
    if seconds < 10:
        return f"{seconds:.1f}\u00a0s"
    # rounded once, so that 59.7 is 1 min and not 60 s
    total = round(seconds)
    if total < 60:
        return f"{total}\u00a0s"
    parts = [(total // 86400, "d"), (total // 3600 % 24, "h"), (total // 60 % 60, "min")]
    parts.append((total % 60, "s"))
    # the two largest units say enough
    while parts[0][0] == 0:
        parts.pop(0)
    return " ".join(f"{amount}\u00a0{unit}" for amount, unit in parts[:2] if amount)


def rough_duration(seconds: float) -> str:
    """One unit and three digits, from microseconds to days: `3.2 h`, `12 ms`."""
    for size, name in ((172_800, "days"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")):
        if seconds >= size:
            amount = seconds / (86400 if name == "days" else size)
            return f"{amount:,.0f} {name}" if amount >= 100 else f"{amount:.3g} {name}"
    return f"{seconds * 1e6:.3g} µs"


def clock(seconds: float) -> str:
    """130 -> `0:02:10`."""
    total = max(0, round(seconds))
    return f"{total // 3600}:{total // 60 % 60:02d}:{total % 60:02d}"


def clean(text: str) -> str:
    """Text without lone surrogates: pairs become their character, single ones U+FFFD.

    A Python string may hold half a surrogate pair (JSON's "\\ud83d" makes one), which no UTF-8
    file can. Text that is already fine is returned as it is.
    """
    if text.isascii():  # much cheaper than encoding, and true of most texts
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, changes of the writing direction, and halves of surrogate pairs."""


def escape_control_characters(text: str, keep: str = "\n\t") -> str:
    """Text as a terminal may show it: what would rule the terminal becomes an escape, `\\x1b`.

    Names, labels and messages of others may hold anything, and an untrained model writes any bytes
    at all. keep: control characters that stay; of a line's end `\\r\\n`, the line feed.
    """
    text = text.replace("\r\n", "\n") if "\n" in keep else text
    return CONTROL.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)


def print_message(text: str) -> None:
    """Prints a message on standard error, its control characters escaped."""
    print(escape_control_characters(text), file=sys.stderr, flush=True)


DEVICES = re.compile("con|prn|aux|nul|(?:com|lpt)[0-9¹²³]", re.I)
"""Names of devices of Windows, in any folder and with any suffix."""
ON_WINDOWS = os.name == "nt"


def portable_name(text: str, otherwise: str, length: int = 80) -> str:
    """A name that every file system takes, Windows' too, after a text of any kind.

    Args:
        otherwise: the name of a text that gives none, and the prefix of one that is reserved.
        length: characters at most; a file system counts bytes, of which a name may have 255.
    """
    name = re.sub(r"[^\w.-]+", "-", text).strip("-.")[:length]
    name = name.encode("utf-8", "ignore")[:200].decode("utf-8", "ignore").strip("-.")
    if not name:
        return otherwise
    return f"{otherwise}-{name}" if reserved_on_windows(name) else name


def reserved_on_windows(name: str) -> str | None:
    """Why Windows gives no file or folder this name, or silently another; None where it does."""
    if DEVICES.fullmatch(name.partition(".")[0].strip()):
        return "it is the name of a device"
    if re.search(r'[<>:"|?*\x00-\x1f]', name):
        return '< > : " | ? * and control characters have other meanings'
    return "it ends in a dot or space" if name.rstrip(". ") != name else None


def check_name(path: Path) -> None:
    """Refuses a name that Windows would change or give to a device, where that is the system.

    Raises:
        InputError: says why.
    """
    reason = reserved_on_windows(path.name) if ON_WINDOWS else None
    if reason is not None:  # some of these names would be taken, and be those of something else
        where = escape_control_characters(str(path), keep="")
        raise InputError(
            f"{where} cannot be the name of a file or folder ({reason}): choose another"
        )
