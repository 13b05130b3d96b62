"""Translation, and any other rewriting of one text as another (Sutskever et al. 2014)."""

from typing import ClassVar

from .shared.answering import Rewriting
from .shared.columns import Column, text


class Translate(Rewriting):
    """source -> target; what is too long loses its end."""

    COLUMNS: ClassVar = {
        "source": Column(("source", "src", "input"), text),
        "target": Column(("target", "tgt", "translation"), text, answer=True),
    }
    TRUTH = "target"


Task = Translate
