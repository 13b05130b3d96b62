"""Translation, and any other rewriting of one text as another (Sutskever et al. 2014)."""

from typing import ClassVar

from .shared.columns import Column, text
from .shared.text_generation import TextToText


class Translate(TextToText):
    """source -> target; what is too long loses its end."""

    COLUMNS: ClassVar = {
        "source": Column(("source", "src", "input"), text),
        "target": Column(("target", "tgt", "translation"), text, answer=True),
    }
    ANSWER_COLUMN = "target"


Task = Translate
