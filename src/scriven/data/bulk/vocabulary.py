"""The tokenizer of a corpus larger than memory: learnt from a seeded sample, or taken from a file.

The sample is bounded, so a rare character may be missing from it: then its bytes spell it.
"""

import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...settings import TokenizerSettings
from ...tokenizers import Tokenizer, clean, load_tokenizer, train_tokenizer
from ...tokenizers.patterns import CHUNK
from ..cache import write_whole
from ..compression import COMPRESSED
from ..pipeline import SAMPLE, choose
from ..survey import UNICODE, Survey
from .piece import is_held_out, pieces_of
from .plan import Plan

FILES = ("tokenizer_config.json", "tokenizer.json")
"""In the order they are written: where the last one is, both are whole."""
_PACKED = 4
"""How many times its size a compressed file holds, about."""


def read_from(path: Path) -> Tokenizer:
    """The tokenizer of a folder (a run, or a prepared one), or of a tokenizer.json alone.

    Raises:
        InputError, DamagedError: as `load_tokenizer`.
    """
    if path.is_dir():
        return load_tokenizer(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist: name a tokenizer.json, a run or a folder of one")
    if path.name == FILES[1] and (path.parent / FILES[0]).exists():
        return load_tokenizer(path.parent)
    with tempfile.TemporaryDirectory(prefix="scriven-") as place:
        shutil.copyfile(path, Path(place) / FILES[1])
        (Path(place) / FILES[0]).write_text("{}", encoding="utf-8")
        return load_tokenizer(Path(place))


def learn(plan: Plan, asked: TokenizerSettings) -> Tokenizer:
    """A tokenizer for the training text, from at most `SAMPLE` characters of it.

    Raises:
        InputError: a source cannot be read, or the sample holds no text.
    """
    if asked.kind == "byte":
        return train_tokenizer("byte", iter(()), asked)
    texts = list(sample(plan))
    characters = sum(map(len, texts))
    if not characters:
        raise InputError(f"{plan.files[0].label} holds no text to learn a tokenizer from")
    seen = np.zeros(UNICODE, dtype=np.bool_)
    for text in texts:
        seen[np.frombuffer(text.encode("utf-32-le"), dtype="<u4")] = True
    survey = Survey(alphabet="".join(map(chr, np.flatnonzero(seen).tolist())))
    share = characters / max(1, sum(len(text.encode("utf-8")) for text in texts))
    survey.characters = max(characters, int(share * size(plan)))
    settings, _ = choose(survey, asked)
    assert settings.kind is not None
    pieces = iter(texts) if settings.kind in ("bpe", "word") else iter([survey.alphabet])
    return train_tokenizer(settings.kind, pieces, settings)


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes the two files, each whole or absent."""
    with tempfile.TemporaryDirectory(prefix="scriven-") as place:
        tokenizer.save(Path(place))
        for name in FILES:
            write_whole(folder / name, (Path(place) / name).read_bytes())


def size(plan: Plan) -> int:
    """Bytes of text, about."""
    return sum(
        file.size * (_PACKED if file.label.lower().endswith((*COMPRESSED, ".parquet")) else 1)
        for file in plan.files
    )


def sample(plan: Plan, limit: int = SAMPLE) -> Iterator[str]:
    """Training text, up to `limit` characters: all of it, or the beginnings of seeded jobs."""
    numbers = [number for number, job in enumerate(plan.jobs) if job.part != 1]
    known = all(file.size for file in plan.files)
    quota = limit
    if not known or size(plan) > limit:
        most = max(1, limit // (4 * CHUNK))
        random.Random(json.dumps(["sample", plan.seed])).shuffle(numbers)
        numbers = sorted(numbers[:most])
        quota = limit // len(numbers) if numbers else 0
    for number in numbers:
        taken = row = 0
        for piece in pieces_of(plan, number):
            text = clean(piece.text)[: quota - taken]
            if text and not is_held_out(plan, number, row):
                taken += len(text)
                yield text
            row += piece.ends or bool(piece.skipped)
            if taken >= quota:
                break
