"""The model card of an export: the run's own, with what is true of these files.

The run's card may have been edited by its owner, so all of it is kept but the way of use.
"""

import re

_FRONT = re.compile(r"\A---\n(.*?\n)---\n+", re.DOTALL)
_USE = re.compile(r"^## Use\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)


def export_card(
    readme: str, library: str, dtype: str, usage: str, rows: list[tuple[str, str]] | None
) -> str:
    """README.md of an export.

    Args:
        readme: the run's own card.
        library: Hugging Face's word for the program.
        dtype: of the weights.
        usage: Markdown: how to load them.
        rows: what the check found, or None where there was none.
    """
    found = _FRONT.match(readme)
    front, body = (found[1], readme[found.end() :]) if found else ("", readme)
    front, count = re.subn(r"^library_name:.*$", f"library_name: {library}", front, flags=re.M)
    if not count:
        front = f"library_name: {library}\n{front}"
    use = f"## Use\n\nWeights: {dtype}.\n\n{usage}\n{_checked(rows)}\n\n"
    # a function, since the text may hold backslashes
    body, count = _USE.subn(lambda _: use, body, count=1)
    if not count:
        body = f"{body.rstrip()}\n\n{use}"
    return f"---\n{front}---\n{body.rstrip()}\n"


def _checked(rows: list[tuple[str, str]] | None) -> str:
    if rows is None:
        return "These files have not been compared with the run they were made from."
    lines = [f"| {name} | {value} |" for name, value in rows]
    opening = "Compared with the run that these files were made from:"
    return "\n".join([opening, "", "| | |", "|---|---|", *lines])
