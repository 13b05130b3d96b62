"""Tiny Shakespeare (Karpathy 2015): the 1,115,394-character benchmark text, downloaded once."""

from collections.abc import Iterator
from pathlib import Path

from ...settings import DataSettings
from ..download import download
from ..formats.base import TextChunk, read_text
from ..shards import cache_folder

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
SIZE = 1_115_394


def read(settings: DataSettings) -> Iterator[TextChunk]:
    """The text as one document."""
    # the file is known, whatever encoding the user's own texts have
    return read_text(path(), DataSettings())


def path(url: str = URL) -> Path:
    """The downloaded file; raises as `download` does."""
    target = cache_folder() / "downloads" / "tinyshakespeare.txt"
    return download(url, target, SHA256, SIZE)
