"""HTML elements as text, in which escaping is the rule and never a thing to remember (E10).

Knows nothing of reports: a child that is not itself the result of `element` is text.
"""

import re

VOID = frozenset({"br", "meta", "link", "circle", "line", "path", "rect"})

# A control character is not allowed in HTML, and half a surrogate pair is not allowed in UTF-8.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;", "`": "&#96;"}
)


class Markup(str):
    """Text that is HTML already, because `element`, `join` or `escape` made it."""


def escape(text: str) -> Markup:
    """Any text as HTML that shows exactly this text; what cannot be shown becomes U+FFFD."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return Markup(_CONTROL.sub("\ufffd", text).translate(_ESCAPES))


def join(*children: str) -> Markup:
    """Children one after another, escaped unless they are markup."""
    return Markup("".join(_html(child) for child in children))


def element(name: str, /, *children: str, **attributes: str | float | bool | None) -> Markup:
    """`<name attributes>children</name>`, everything that is not Markup escaped.

    Attributes: `class_` gives `class`, other underscores become hyphens; None and False leave the
    attribute out, True writes its bare name.
    """
    words = [name]
    for key, value in attributes.items():
        label = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(label)
        elif value is not None and value is not False:
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            words.append(f'{label}="{escape(shown)}"')
    opening = f"<{' '.join(words)}>"
    if name in VOID:
        # Inside SVG an element without an end tag swallows its followers, so close it at once.
        closed = name in ("br", "meta", "link")
        return Markup(opening if closed else f"{opening[:-1]}/>")
    return Markup(f"{opening}{join(*children)}</{name}>")


def _html(child: str) -> str:
    return child if isinstance(child, Markup) else escape(child)
