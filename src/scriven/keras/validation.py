"""`validation_data`: a training text and a validation text as one folder of token files."""

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..config import cache_folder
from ..data.pipeline import TOKENIZER_FILES, choose_tokenizer, encode_split
from ..data.shards import is_prepared
from ..data.sources import Sources
from ..data.split import TRAIN, VALIDATION, SplitChunk, TextScan, normalise, scan
from ..errors import InputError
from ..files import file_lock, make_folder, write_file
from ..manifest import MANIFEST, hash_file, signed_json
from ..settings import DataSettings, TokenizerSettings
from ..tokenizers import Tokenizer, tokenizer_class, train_tokenizer


def prepare_parts(
    train: Sequence[str],
    validation: Sequence[str],
    data: DataSettings,
    tokenizer: TokenizerSettings,
    given: Tokenizer | None,
) -> Path:
    """Encodes both texts, the vocabulary being that of the training text alone.

    Args:
        train, validation: names of files, folders or built-in corpora.
        given: a tokenizer to use instead of a new one.

    Returns:
        A folder in the cache that a run reads like one of `scriven prepare`; its name is a digest
        of the texts and settings.

    Raises:
        InputError: a source that cannot be used, or an empty text.
    """
    with Sources(train, data) as training, Sources(validation, data) as held_out:
        # 1. read both once: content, alphabet, documents
        parts = {TRAIN: training, VALIDATION: held_out}
        scans = {part: scan(files.read(), lambda _: None) for part, files in parts.items()}
        for part, text in scans.items():
            if text.characters < 2:
                raise InputError(f"{parts[part].label} holds no text: give a file that has some")
        # 2. the folder of these texts and settings, made once
        settings, _ = choose_tokenizer(scans[TRAIN], tokenizer)
        facts = [scans[TRAIN].digest, scans[VALIDATION].digest]
        facts += [given.fingerprint] if given else [str(settings)]
        fingerprint = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        root = cache_folder() / "prepared"
        make_folder(root, "set SCRIVEN_CACHE to a folder that can be written")
        folder, work = root / f"parts-{fingerprint[:24]}", root / f"parts-{fingerprint[:24]}.work"
        with file_lock(root / f"{folder.name}.lock"):
            if not is_prepared(folder):
                shutil.rmtree(work, ignore_errors=True)
                work.mkdir()
                chosen = given or _train(settings, scans[TRAIN], training)
                _write(work, chosen, parts, scans, fingerprint)
                os.rename(work, folder)
    return folder


def _train(settings: TokenizerSettings, text: TextScan, training: Sources) -> Tokenizer:
    kind = settings.kind
    assert kind is not None
    texts: Iterator[str] = iter([text.alphabet])  # characters and bytes need no more
    if tokenizer_class(kind).has_words:
        texts = (chunk.text for chunk in normalise(training.read()))
    return train_tokenizer(kind, texts, settings)


def _write(
    folder: Path,
    tokenizer: Tokenizer,
    parts: dict[int, Sources],
    scans: dict[int, TextScan],
    fingerprint: str,
) -> None:
    characters = sum(text.characters for text in scans.values())
    documents = len(scans[TRAIN].lengths)
    chunks = itertools.chain.from_iterable(
        (SplitChunk(part, text, ends) for text, ends, *_ in normalise(files.read()))
        for part, files in parts.items()
    )
    facts = encode_split(chunks, tokenizer, folder, characters=characters, add_eos=documents > 1)
    tokenizer.save(folder)
    for name in TOKENIZER_FILES:
        facts["files"][name] = hash_file(folder / name)._asdict()
    facts |= {
        "fingerprint": fingerprint,
        "tokenizer": tokenizer.fingerprint,
        "characters": characters,
        "bytes": sum(text.bytes for text in scans.values()),
        "documents": documents,
    }
    write_file(folder / "plan.json", b'{"format": "parts"}\n')
    write_file(folder / MANIFEST, signed_json(facts))
