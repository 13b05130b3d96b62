"""Question answering in the JSON of SQuAD 1.1 and 2.0; a question is a row.

Columns: `id`, `title`, `context`, `question` and `answers` (objects with `text` and `answer_start`;
none for an impossible question), as the hub's copies have them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...settings import DataSettings
from .base import Record, missing_column, skip_or_raise
from .json import load_document

NAME = "Questions in the JSON of SQuAD"
SUFFIXES = (".squad",)
COLUMNS = ("id", "title", "context", "question", "answers")


def records(path: Path, settings: DataSettings, columns: Sequence[str] = ()) -> Iterator[Record]:
    """Every question, counted from 1.

    Raises:
        InputError: not JSON, or without the objects of SQuAD.
    """
    for column in columns:
        if column not in COLUMNS:
            raise InputError(missing_column(path, 1, column, COLUMNS, columns))
    document = load_document(path, settings)
    articles = document.get("data") if isinstance(document, dict) else None
    if not isinstance(articles, list):
        raise InputError(f'{path} is no SQuAD file: it needs {{"data": [...]}}')
    number = 0
    for article in articles:
        for title, context, found in _questions(article):
            number += 1
            if isinstance(found, dict) and isinstance(found.get("question"), str):
                answers = [] if found.get("is_impossible") else found.get("answers") or []
                row = (found.get("id"), title, context, found["question"], answers)
                yield Record(dict(zip(COLUMNS, row, strict=True)), number)
                continue
            message = f"{path} row {number} is no question of SQuAD"
            yield Record({}, number, skip_or_raise(message, settings.skip_bad))


def _questions(article: Any) -> Iterator[tuple[Any, Any, Any]]:
    """(title, context, question) of an article; one question of None where it has another form."""
    paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
    for paragraph in paragraphs if isinstance(paragraphs, list) else [None]:
        known: dict[str, Any] = paragraph if isinstance(paragraph, dict) else {}
        questions = known.get("qas")
        for question in questions if isinstance(questions, list) else [None]:
            title = article.get("title") if isinstance(article, dict) else None
            yield title, known.get("context"), question
