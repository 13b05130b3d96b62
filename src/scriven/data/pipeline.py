"""From sources to a dataset in the cache: read, scan, split, learn a tokenizer, encode, write.

The folder of a dataset is named by the fingerprint of its text and settings, so nothing is prepared
twice. One process works on it, in a folder beside it that is renamed when it is complete; others
wait and then use the result. Memory stays flat: the text is read as a stream, once to scan it and
once or twice to encode it.

`prepare.py` runs the same stages over corpora larger than memory. It is a pipeline of its own since
it cannot read everything before it decides: it splits by file sizes instead of by content, learns
from a sample, and leaves many token files in place of two.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import Timeout

from ..config import cache_folder
from ..errors import DamagedError, InputError
from ..files import disk_errors, file_lock, make_folder, remove_leftovers, sync_folder, write_file
from ..format import skipped_rows
from ..manifest import MANIFEST, hash_file, signed_json
from ..settings import DataSettings, TokenizerSettings
from ..tokenizers import Tokenizer, choose_kind, load_tokenizer, tokenizer_class, train_tokenizer
from ..tokenizers.base import choose_vocab_size
from ..tokenizers.fast import Encoder
from ..tokenizers.patterns import CHUNK, cut
from .pairs import PairDataset
from .shards import (
    TokenDataset,
    TokenFileWriter,
    id_type,
    is_prepared,
    open_dataset,
    read_dataset_manifest,
)
from .sources import PairSources, Sources, run_name
from .split import (
    MIN_DOCUMENTS,
    TRAIN,
    VALIDATION,
    LeakageCheck,
    Split,
    SplitChunk,
    TextScan,
    choose_split,
    normalise,
    scan,
    split_chunks,
)

_FINGERPRINT_FORMAT = 1
FILES = {TRAIN: "train.bin", VALIDATION: "validation.bin"}
TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json")
"""In the order they are written: where the last one is, both are whole."""
TOKENIZER_SAMPLE = 20_000_000
"""Characters that a vocabulary is learned from, at most."""

_Dataset = tuple[Path, dict[str, Any], Tokenizer | None]
_BATCH_CHARACTERS = 1 << 20
_BATCH_CHUNKS = 4096
_LEFTOVER_SECONDS = 24 * 3600.0
_REMEDY = "set SCRIVEN_CACHE to a folder with more room"


def load_dataset(
    sources: Sequence[str],
    data: DataSettings,
    tokenizer: TokenizerSettings,
    *,
    seed: int,
    pairs: bool = False,
    given: Tokenizer | None = None,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> TokenDataset:
    """Reads texts, chooses and trains a tokenizer, splits and encodes; or opens what is prepared.

    In a text of several documents EOS ends each; a single one has no EOS, since nothing follows it.

    Args:
        sources: files, folders, globs, `-` or names of built-in corpora; or one folder that
            `scriven prepare` made.
        seed: draws the documents that are held out; a text split by position does not use it.
        pairs: whether the sources are tables of pairs.
        given: the tokenizer of a model that is trained further, instead of a new one.
        cache: the cache folder, `cache_folder()` by default.
        say: called with a sentence about the progress now and then.

    Raises:
        InputError: a source cannot be used, or there is too little text.
        MissingExtra: a source needs a package that is not installed.
        ResourceError: the disk is full.
    """
    if tokenizer.kind is not None:
        tokenizer_class(tokenizer.kind)  # an unknown kind is refused before any text is read
    prepared = [source for source in sources if is_prepared(Path(source))]
    if prepared:
        return _open_prepared(sources, Path(prepared[0]), tokenizer, pairs, given)
    root = (cache or cache_folder()) / "prepared"
    make_folder(root, "set SCRIVEN_CACHE to a folder that can be written")
    with (PairSources if pairs else Sources)(sources, data) as files:
        # 1. read everything once: size, characters, documents and a digest of the content
        text = scan(files.read(), say)
        if not text.characters:
            raise InputError(f"{files.label} holds no text: give a file that has some")
        # 2. decide what is held out, and which tokenizer suits the text
        lengths = np.frombuffer(text.lengths, dtype=np.uint64).astype(np.int64)
        split = choose_split(lengths, data.val_fraction, seed, pairs=pairs)
        settings, notes = choose_tokenizer(text, tokenizer) if given is None else (tokenizer, [])
        skipped = [skipped_rows(text.skipped, text.first_skipped)] if text.skipped else []
        notes = [*files.notes, *text.notes, *notes, *skipped]
        # 3. read again and encode, unless the same text was encoded with the same settings before;
        # the seed counts only where it may draw documents
        drawn = len(lengths) >= MIN_DOCUMENTS and not pairs
        job = _EncodeJob(files, text, split, data, settings, given, say)
        folder, facts, made = job.run_once(root, seed if drawn else None)
    dataset = open_dataset(
        folder, name=files.name, sources=sources, notes=notes, given=given or made, facts=facts
    )
    if not pairs:
        return dataset
    held_out = PairDataset(dataset.validation, dataset.tokenizer.eos)
    size = held_out.target_bytes(dataset.tokenizer)
    return dataclasses.replace(dataset, pairs=True, validation_bytes=size)


def _open_prepared(
    sources: Sequence[str],
    folder: Path,
    settings: TokenizerSettings,
    pairs: bool,
    given: Tokenizer | None,
) -> TokenDataset:
    """A folder that `scriven prepare` made; settings it was not made with are refused."""
    if len(sources) > 1:
        raise InputError(f"{folder} is prepared already: give it alone, or all its sources")
    if pairs:
        raise InputError(f"{folder} holds texts, not pairs: give tables of pairs")
    dataset = open_dataset(folder, name=run_name([str(folder)]), sources=sources)
    tokenizer = dataset.tokenizer
    if given is not None and tokenizer.fingerprint != given.fingerprint:
        raise InputError(
            f"{folder} was prepared with another tokenizer than the model's: give its texts instead"
        )
    sizes = (None, tokenizer.vocab_size, choose_vocab_size(dataset.characters))
    if settings.kind not in (None, tokenizer.kind) or settings.vocab_size not in sizes:
        raise InputError(
            f"{folder} was prepared with a {tokenizer.kind} tokenizer of {tokenizer.vocab_size}"
            " tokens: leave --tokenizer settings away, or prepare again"
        )
    return dataset


def choose_tokenizer(
    text: TextScan, settings: TokenizerSettings
) -> tuple[TokenizerSettings, list[str]]:
    """The settings with kind and vocabulary size filled in, and the reasons."""
    # what was set wins over what suits the text; a reason is given only for our own choice
    kind, vocab_size, reason = choose_kind(text.characters, len(text.alphabet), len(text.lengths))
    notes = [f"tokenizer {reason}"]
    if settings.kind is not None:
        kind, notes = settings.kind, []
    elif settings.vocab_size is not None:
        kind, notes = "bpe", []
    if not tokenizer_class(kind).has_words:
        return TokenizerSettings(kind, None, "llama3"), notes
    vocab_size = settings.vocab_size or choose_vocab_size(text.characters)
    pattern = settings.pattern if kind == "bpe" else "llama3"
    return TokenizerSettings(kind, vocab_size, pattern), notes


@dataclasses.dataclass(frozen=True)
class _EncodeJob:
    """Encodes a scanned text, in a work folder that only this process touches."""

    sources: Sources
    text: TextScan
    split: Split
    data: DataSettings
    settings: TokenizerSettings
    given: Tokenizer | None
    say: Callable[[str], None]

    def run_once(self, root: Path, seed: int | None) -> _Dataset:
        """The folder of the dataset and its manifest, made unless they are there and undamaged;
        other processes wait meanwhile. The tokenizer too, if it was made now."""
        # 1. a digest of the content and of every setting that changes the ids names the folder
        s, given = self.settings, self.given
        facts: dict[str, object] = {
            "format": _FINGERPRINT_FORMAT,
            "content": self.text.digest,
            "validation": self.data.val_fraction,
            "seed": seed,
            "tokenizer": [given.fingerprint] if given else [s.kind, s.vocab_size, s.pattern],
            **({"pairs": True} if isinstance(self.sources, PairSources) else {}),
        }
        fingerprint = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        folder = root / fingerprint[:32]
        with disk_errors(root, 2 * self.text.characters, _REMEDY):
            # 2. remove work folders of killed processes; whoever still works there holds the lock
            for work in root.glob("*.work"):
                with contextlib.suppress(OSError, Timeout):
                    if time.time() - work.stat().st_mtime >= _LEFTOVER_SECONDS:
                        with file_lock(work.with_suffix(".lock"), wait=False):
                            shutil.rmtree(work)
            with file_lock(root / f"{folder.name}.lock"):
                # 3. what an earlier command prepared, if it is still whole
                if folder.exists():
                    try:
                        return folder, read_dataset_manifest(folder), None
                    except (DamagedError, InputError) as error:
                        self.say(f"prepared again, since {error}")
                        shutil.rmtree(folder)
                # 4. an error leaves no work folder; a kill leaves one with a tokenizer to reuse
                work = root / f"{folder.name}.work"
                work.mkdir(exist_ok=True)
                remove_leftovers(work)
                try:
                    tokenizer, manifest = self._encode(work, fingerprint)
                    os.rename(work, folder)
                except (OSError, InputError):
                    shutil.rmtree(work, ignore_errors=True)
                    raise
                sync_folder(root)
        return folder, manifest, tokenizer

    def _encode(self, work: Path, fingerprint: str) -> tuple[Tokenizer, dict[str, Any]]:
        # 1. the tokenizer, then ids; the digest shows a source that changed in between
        tokenizer = self._tokenizer(work)
        digest = hashlib.sha256()
        facts = encode_split(
            split_chunks(normalise(self.sources.read(), digest), self.split),
            tokenizer,
            work,
            characters=self.text.characters,
            add_eos=len(self.text.lengths) > 1,
            say=self.say,
        )
        if digest.hexdigest() != self.text.digest:
            raise InputError(f"{self.sources.label} changed while it was read: try again")
        for part in ("train", "validation"):
            if facts[f"{part}_tokens"] < 2:
                raise InputError(
                    f"{self.sources.label} is too short: its {part} part has fewer than 2 tokens;"
                    " give more text, a larger --data.val_fraction, or --tokenizer.kind=char"
                )
        # 2. the manifest, written last
        for name in TOKENIZER_FILES:
            facts["files"][name] = hash_file(work / name)._asdict()
        facts |= {
            "fingerprint": fingerprint,
            "tokenizer": tokenizer.fingerprint,
            "characters": self.text.characters,
            "bytes": self.text.bytes,
            "documents": len(self.text.lengths),
        }
        write_file(work / MANIFEST, signed_json(facts))
        return tokenizer, facts

    def _tokenizer(self, work: Path) -> Tokenizer:
        """Trains the tokenizer, or loads the one that a killed process had finished."""
        if self.given is not None:
            self.given.save(work)
            return self.given
        # learning may take minutes, so it is done once
        if (work / TOKENIZER_FILES[-1]).exists():
            with contextlib.suppress(InputError, DamagedError):
                return load_tokenizer(work)
        kind = self.settings.kind or ""  # chosen before
        # characters and bytes need no text, only the alphabet
        texts: Iterator[str] = iter([self.text.alphabet])
        if tokenizer_class(kind).has_words:
            self.say(f"learning a vocabulary of {self.settings.vocab_size}")
            chunks = split_chunks(normalise(self.sources.read()), self.split)
            texts = self._training_sample(chunks)
        tokenizer = train_tokenizer(kind, texts, self.settings)
        files = tokenizer.to_files()
        for name in TOKENIZER_FILES:
            write_file(work / name, files[name])
        return tokenizer

    def _training_sample(self, chunks: Iterable[SplitChunk]) -> Iterator[str]:
        """Training chunks for a tokenizer: all of them, or evenly spaced ones of a long text."""
        characters = max(self.text.characters, TOKENIZER_SAMPLE)
        seen = taken = 0
        for part, text, _ in itertools.chain.from_iterable(chunk_batches(chunks)):
            if part == TRAIN:
                seen += len(text)
                if taken * characters < seen * TOKENIZER_SAMPLE:  # less than the share of a sample
                    taken += len(text)
                    yield text


def chunk_batches(chunks: Iterable[SplitChunk]) -> Iterator[list[SplitChunk]]:
    """The same text in chunks of at most `CHUNK` characters, however it was cut before, in batches
    of about a megabyte, which keep all cores busy.

    Chunks end where every pre-tokenizer pattern has a boundary, so that their ids are those of the
    whole text.
    """
    batch: list[SplitChunk] = []
    buffer, current, characters = "", TRAIN, 0  # characters of the batch
    for part, text, ends in chunks:
        if part != current and buffer:  # the border between training and validation text
            batch.append(SplitChunk(current, buffer, False))
            buffer = ""
        current = part
        buffer += text
        start = 0
        while len(buffer) - start > CHUNK:  # more may come, so the last CHUNK characters wait
            end = cut(buffer, start)
            batch.append(SplitChunk(part, buffer[start:end], False))
            start = end
        buffer = buffer[start:]
        if ends:
            batch.append(SplitChunk(part, buffer, True))
            buffer = ""
        characters += len(text)
        if batch and (characters >= _BATCH_CHARACTERS or len(batch) >= _BATCH_CHUNKS):
            yield batch
            batch, characters = [], 0
    if buffer:
        batch.append(SplitChunk(current, buffer, False))
    if batch:
        yield batch


def encode_split(
    chunks: Iterable[SplitChunk],
    tokenizer: Tokenizer,
    folder: Path,
    *,
    characters: int,
    add_eos: bool,
    say: Callable[[str], None] = lambda _: None,
    encoder: Encoder | None = None,
    check_leakage: bool = True,
) -> dict[str, Any]:
    """Writes the token files `train.bin` and `validation.bin`.

    Args:
        characters: of the whole text, for the progress.
        add_eos: whether EOS follows each document.
        encoder: makes the ids; the tokenizer itself by default.
        check_leakage: whether to look for lines that are in both parts.

    Returns:
        facts for the manifest; `overlap` is a note about leakage or None.
    """
    # EOS is an id like any other; storage is as wide as the vocabulary needs
    leakage = LeakageCheck(characters)
    encoder, dtype = encoder or tokenizer.encode_chunks, id_type(tokenizer.vocab_size)
    eos = np.array([tokenizer.eos], dtype=np.int32)
    validation_bytes = read = said = 0
    with (
        (folder / FILES[TRAIN]).open("wb") as train_file,
        (folder / FILES[VALIDATION]).open("wb") as validation_file,
    ):
        files = {TRAIN: train_file, VALIDATION: validation_file}
        writers = {part: TokenFileWriter(file, dtype) for part, file in files.items()}
        # a batch of chunks at a time, which the tokenizer encodes on all cores
        for batch in chunk_batches(chunks):
            arrays: dict[int, list[npt.NDArray[np.int32]]] = {TRAIN: [], VALIDATION: []}
            batch_ids = encoder([chunk.text for chunk in batch])
            for (part, text, ends), ids in zip(batch, batch_ids, strict=True):
                arrays[part].append(ids)
                if ends and add_eos:
                    arrays[part].append(eos)
                if part == VALIDATION:
                    validation_bytes += len(text.encode("utf-8"))
                if check_leakage:
                    leakage.add(part, text)
                read += len(text)
            for part in (part for part, part_arrays in arrays.items() if part_arrays):
                writers[part].append(*arrays[part])
            if read - said >= 50_000_000:
                say(f"encoded {read / max(1, characters):.0%} of {characters:,} characters")
                said = read
        entries = {FILES[part]: writer.finish() for part, writer in writers.items()}
    return {
        "files": entries,
        "dtype": dtype,
        "train_tokens": writers[TRAIN].tokens,
        "validation_tokens": writers[VALIDATION].tokens,
        "validation_bytes": validation_bytes,
        "overlap": leakage.note(),
    }
