"""The plays that the built-in tables train on (`data/tables`), as the corpus `shakespeare`.

A model that is pre-trained on this has not seen a line of the plays it is tested on.
"""

from collections.abc import Iterator

from ...settings import DataSettings
from ..formats.base import TextChunk, document_chunks
from ..tables import base


def read(settings: DataSettings) -> Iterator[TextChunk]:
    """Every play for training as one document."""
    for play in base.plays_of("train"):
        yield from document_chunks(play.text)
