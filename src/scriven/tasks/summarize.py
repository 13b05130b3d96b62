"""Summaries and headlines: a long text becomes a short one (Rush et al. 2015, section 2)."""

from typing import ClassVar

from .shared.columns import Column, text
from .translate import Translate


class Summarize(Translate):
    """text -> summary; a text that is too long loses its end, as what matters stands first."""

    COLUMNS: ClassVar = {
        # `source` and `target` alone do not say that a table holds summaries
        "source": Column(("document", "article", "text"), text, also=("source",)),
        "target": Column(("summary", "title", "headline"), text, also=("target",), answer=True),
    }


Task = Summarize
