"""Tagged words in the columns of CoNLL; a sentence is a row with the columns `tokens` and `tags`.

A line is a word and what is known of it, separated by spaces or tabs; an empty line ends a
sentence. The first column is the word and the last its tag, as in CoNLL-2003. Ten columns separated
by tabs are CoNLL-U: the second is the word and the fourth its part of speech (UPOS).
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import InputError
from ...settings import DataSettings
from ..decoding import decode
from .base import Record, missing_column, skip_or_raise, split_lines, translate

NAME = "Tagged words in the columns of CoNLL"
SUFFIXES = (".conll", ".conllu", ".bio", ".iob", ".iob2")
COLUMNS = ("tokens", "tags")
_UNIVERSAL = 10  # columns of CoNLL-U


def records(path: Path, settings: DataSettings, columns: Sequence[str] = ()) -> Iterator[Record]:
    """Every sentence, counted from 1.

    Raises:
        InputError: a line of one column.
    """
    for column in columns:
        if column not in COLUMNS:
            raise InputError(missing_column(path, 1, column, COLUMNS, columns))
    tokens, tags, wrong, number = list[str](), list[str](), "", 0
    lines = split_lines(translate(decode(path, settings.encoding), settings), path)
    for place, line in enumerate(itertools.chain(lines, ["\n"]), 1):
        if line.strip():
            fields = _fields(line)
            if fields is None:
                continue
            if len(fields) < 2:
                wrong = (
                    wrong or f"{path} line {place} has one column: a word and its tag are needed"
                )
            tokens.append(fields[0])
            tags.append(fields[-1])
            continue
        if tokens:
            number += 1
            if wrong:
                yield Record({}, number, skip_or_raise(wrong, settings.skip_bad))
            else:
                yield Record({"tokens": tokens, "tags": tags}, number)
        tokens, tags, wrong = [], [], ""


def _fields(line: str) -> list[str] | None:
    """The word, what else is known of it, and its tag; None for what is no word."""
    universal = line.rstrip("\n").split("\t")
    if len(universal) == _UNIVERSAL:
        # 3-4 is a word that is written together, 8.1 one that is left out
        return [universal[1], universal[3]] if universal[0].isdecimal() else None
    fields = line.split()
    is_comment = fields[0] == "-DOCSTART-" or (fields[0] == "#" and fields[2:3] == ["="])
    return None if is_comment else fields
