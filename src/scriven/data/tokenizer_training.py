"""The tokenizer of a corpus larger than memory: learned from a seeded sample, or taken from a file.

The sample is bounded, so a rare character may be missing from it: then its bytes spell it.
"""

import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..settings import TokenizerSettings
from ..tokenizers import Tokenizer, clean, load_tokenizer, tokenizer_class, train_tokenizer
from ..tokenizers.patterns import CHUNK
from .pipeline import TOKENIZER_FILES, TOKENIZER_SAMPLE, choose_tokenizer
from .prepare_jobs import is_held_out, read_job
from .prepare_plan import PreparePlan
from .split import CODE_POINTS, VALIDATION, TextScan


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a folder (a run, or a prepared one), or of a tokenizer.json alone.

    Raises:
        InputError, DamagedError: as `load_tokenizer`.
    """
    if path.is_dir():
        return load_tokenizer(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist: name a tokenizer.json, a run or a folder of one")
    config, tokenizer = TOKENIZER_FILES
    if path.name == tokenizer and (path.parent / config).exists():
        return load_tokenizer(path.parent)
    # a tokenizer.json alone: its configuration is optional
    with tempfile.TemporaryDirectory(prefix="scriven-") as place:
        shutil.copyfile(path, Path(place) / tokenizer)
        (Path(place) / config).write_text("{}", encoding="utf-8")
        return load_tokenizer(Path(place))


def learn_tokenizer(plan: PreparePlan, settings: TokenizerSettings) -> Tokenizer:
    """A tokenizer for the training text, from at most `TOKENIZER_SAMPLE` characters of it.

    Raises:
        InputError: a source cannot be read, or the sample holds no text.
    """
    if settings.kind == "byte":  # needs no text
        return train_tokenizer("byte", iter(()), settings)
    # 1. the sample, at most 20 million characters
    texts = list(sample_jobs(plan))
    characters = sum(map(len, texts))
    if not characters:
        raise InputError(f"{plan.files[0].label} holds no text to learn a tokenizer from")
    # 2. its characters stand for those of the whole text, and its size is scaled up
    seen = np.zeros(CODE_POINTS, dtype=np.bool_)
    for text in texts:
        seen[np.frombuffer(text.encode("utf-32-le"), dtype="<u4")] = True
    scanned = TextScan(alphabet="".join(map(chr, np.flatnonzero(seen).tolist())))
    characters_per_byte = characters / max(1, sum(len(text.encode("utf-8")) for text in texts))
    scanned.characters = max(characters, int(characters_per_byte * plan.text_bytes))
    # 3. choose and train as for a text that was read whole
    chosen, _ = choose_tokenizer(scanned, settings)
    assert chosen.kind is not None
    corpus = iter(texts) if tokenizer_class(chosen.kind).has_words else iter([scanned.alphabet])
    return train_tokenizer(chosen.kind, corpus, chosen)


def sample_jobs(plan: PreparePlan, limit: int = TOKENIZER_SAMPLE) -> Iterator[str]:
    """Training text, up to `limit` characters: all of it, or the beginnings of seeded jobs."""
    jobs = [number for number, job in enumerate(plan.jobs) if job.part != VALIDATION]
    quota = limit
    if plan.text_bytes > limit or not all(file.size for file in plan.files):
        # so few jobs that each gives at least four chunks of text
        most = max(1, limit // (4 * CHUNK))
        random.Random(json.dumps(["sample", plan.seed])).shuffle(jobs)
        jobs = sorted(jobs[:most])
        quota = limit // len(jobs) if jobs else 0
    for job in jobs:
        taken = row = 0
        for chunk in read_job(plan, job):
            # validation text must not shape the vocabulary
            text = clean(chunk.text)[: quota - taken]
            if text and not is_held_out(plan, job, row):
                taken += len(text)
                yield text
            row += chunk.ends or bool(chunk.skipped)
            if taken >= quota:
                break
