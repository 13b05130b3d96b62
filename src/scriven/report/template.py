"""The Jinja environment of the report: every value is escaped, unless it was rendered here.

The templates are ours and the values are not: run names, samples and labels can be anything.
"""

import re
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from .. import format

if TYPE_CHECKING:
    from jinja2 import Environment

PAGE, SECTIONS = "page.html.jinja", "sections.html.jinja"

# HTML allows no control characters, and UTF-8 no half of a surrogate pair
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def displayable(value: Any) -> Any:
    """A value as text that HTML can hold, what it cannot becomes U+FFFD; markup stays as it is."""
    if hasattr(value, "__html__"):
        return value
    text = str(value).replace("\r\n", "\n").replace("\r", "\n")
    return _UNPRINTABLE.sub("\ufffd", text)


@lru_cache(maxsize=1)
def environment() -> "Environment":
    """The sandboxed environment, with the number formats as filters; jinja2 is imported here, so
    that comparing runs does not load it."""
    from jinja2 import FunctionLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    made = ImmutableSandboxedEnvironment(
        loader=FunctionLoader(lambda name: files(__package__).joinpath(name).read_text("utf-8")),
        autoescape=True,
        finalize=displayable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("compact", "decimal", "duration", "integer", "percent"):
        made.filters[name] = getattr(format, name)
    return made


def render_page(**values: Any) -> str:
    """The page."""
    page: str = environment().get_template(PAGE).render(**values)
    return page


def render_macro(name: str, *values: Any) -> str:
    """A part of the page, as markup."""
    module: Any = environment().get_template(SECTIONS).module
    markup: str = getattr(module, name)(*values)
    return markup
