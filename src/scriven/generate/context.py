"""Questions about a text of the user's own: `--context FILE` of generate and chat.

A model for `answer` takes the answer out of the text. Any other model reads the text above the
question, as the task `instruct` writes a context, and generates.
"""

from pathlib import Path
from typing import Any

from ..data.formats.base import read_documents
from ..errors import InputError
from ..files import printable
from ..settings import DataSettings
from ..tasks.answer import Answer


def read_context(name: str) -> str:
    """The text of a file in any format that `train` reads.

    Raises:
        InputError: no such file, or nothing in it.
    """
    path = Path(name)
    if not path.is_file():
        raise InputError(f"--context {printable(path)} is no file: name one with a text")
    text = "".join(chunk.text for chunk in read_documents(path, DataSettings())).strip()
    if not text:
        raise InputError(f"--context {printable(path)} is empty: name a file with a text")
    return text


def takes_spans(task: Any) -> bool:
    """Whether a model answers with a part of the context."""
    return isinstance(task, Answer)
