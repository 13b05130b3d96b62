"""From sources to a prepared folder: read, choose, encode, close; nothing is done twice.

The folder's name is the fingerprint of text and settings. Work happens in a folder beside it that
is renamed when it is whole; one process at a time works on it, the others wait and then use it.
Memory stays flat: the text is read as a stream, once to look and once or twice to encode.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from ..errors import DamagedError, InputError
from ..settings import DataSettings, TokenizerSettings
from ..tokenizers import Tokenizer, choose_kind, load_tokenizer, train_tokenizer
from ..tokenizers.choose import vocabulary_for
from .cache import cache_folder, disk_errors, make_folder, sync_file, sync_folder, write_whole
from .encode import chunked, encode, sample
from .formats.base import TextChunk
from .pairs import PairDataset, PairSources, decide_pairs
from .shards import (
    FORMAT,
    TokenDataset,
    entry,
    is_prepared,
    open_dataset,
    open_prepared,
    write_manifest,
)
from .sources import Sources, run_name
from .split import FEWEST_DOCUMENTS, Split, assign, decide
from .survey import Digest, Survey, cleaned, look

SAMPLE = 20_000_000
"""Characters a vocabulary is learnt from, at most."""
_OLD = 24 * 3600.0
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def load_dataset(
    sources: Sequence[str],
    data: DataSettings,
    tokenizer: TokenizerSettings,
    *,
    seed: int,
    pairs: bool = False,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> TokenDataset:
    """Reads texts, chooses and trains a tokenizer, splits and encodes; or finds it all done.

    A text of a single document has no EOS, since nothing follows it; of several, EOS ends each.

    Args:
        sources: files, folders, globs, `-` or names of built-in corpora; or one folder that
            `scriven prepare` made, which is opened as it is.
        seed: draws the documents that are held out; a text split by position does not use it.
        pairs: whether the sources are tables of pairs.
        cache: the cache folder, `cache_folder()` by default.
        say: told how far it is, one sentence at a time.

    Raises:
        InputError: a source cannot be used, or there is too little text.
        MissingExtra: a source needs a package that is not installed.
        ResourceError: the disk is full.
    """
    ready = [source for source in sources if is_prepared(Path(source))]
    if ready:
        if len(sources) > 1:
            raise InputError(f"{ready[0]} is prepared already: give it alone, or all its sources")
        return _ready(Path(ready[0]), tokenizer, pairs)
    root = make_folder((cache or cache_folder()) / "prepared")
    with PairSources(sources) if pairs else Sources(sources) as found:
        survey = look(found.read(data), say)
        if not survey.characters:
            raise InputError(f"{found.label} holds no text: give a file that has some")
        lengths = np.frombuffer(survey.lengths, dtype=np.uint64).astype(np.int64)
        if pairs:
            split = decide_pairs(len(lengths), data.val_fraction)
        else:
            split = decide(lengths, data.val_fraction, seed)
        chosen, notes = choose(survey, tokenizer)
        if survey.skipped:
            notes.append(f"{survey.skipped:,} rows were skipped, first {survey.first_skipped}")
        fingerprint = _fingerprint(survey, data, chosen, seed, pairs)
        folder = root / fingerprint[:32]
        with disk_errors(root, 2 * survey.characters, "preparing the text"):
            _clean(root)
            with FileLock(root / f"{folder.name}.lock"):
                job = _Job(found, survey, split, data, chosen, fingerprint, folder, say)
                if not job.is_whole():
                    job.run()
    corpus = open_dataset(folder, name=found.name, sources=list(sources), notes=notes)
    if not pairs:
        return corpus
    held_out = PairDataset(corpus.validation, corpus.tokenizer.eos)
    size = held_out.target_bytes(corpus.tokenizer)
    return dataclasses.replace(corpus, pairs=True, validation_bytes=size)


def _ready(folder: Path, asked: TokenizerSettings, pairs: bool) -> TokenDataset:
    """A folder that `scriven prepare` made; settings it was not made with are refused."""
    if pairs:
        raise InputError(f"{folder} holds texts, not pairs: give tables of pairs")
    corpus = open_prepared(folder, name=run_name([str(folder)]))
    found = corpus.tokenizer
    sizes = (None, found.vocab_size, vocabulary_for(corpus.characters))
    if asked.kind not in (None, found.kind) or asked.vocab_size not in sizes:
        raise InputError(
            f"{folder} was prepared with a {found.kind} tokenizer of {found.vocab_size} tokens:"
            " leave --tokenizer settings away, or prepare again"
        )
    return corpus


class _Job:
    """One preparation, in a work folder that only it touches."""

    def __init__(
        self,
        sources: Sources,
        survey: Survey,
        split: Split,
        data: DataSettings,
        tokenizer: TokenizerSettings,
        fingerprint: str,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self.sources, self.survey, self.split = sources, survey, split
        self.data, self.settings, self.fingerprint = data, tokenizer, fingerprint
        self.folder, self.say = folder, say
        self.work = folder.with_name(f"{folder.name}.work")

    def is_whole(self) -> bool:
        """Whether it was done before, and is still what it was; a damaged folder is removed."""
        if not self.folder.exists():
            return False
        try:
            corpus = open_dataset(self.folder, name="", sources=[], notes=[])
        except (DamagedError, InputError) as error:
            self.say(f"prepared anew, since {error}")
            shutil.rmtree(self.folder)
            return False
        corpus.train.close()
        corpus.validation.close()
        return True

    def run(self) -> None:
        """Fills the work folder and moves it to its place; after an error no half file is left."""
        self.work.mkdir(exist_ok=True)
        try:
            tokenizer = self._tokenizer()
            digest = Digest()
            facts = encode(
                assign(_watched(cleaned(self.sources.read(self.data)), digest), self.split),
                tokenizer,
                self.work,
                characters=self.survey.characters,
                close_documents=self.survey.documents > 1,
                say=self.say,
            )
            if digest.text() != self.survey.digest:
                raise InputError(f"{self.sources.label} changed while it was read: try again")
            self._close(facts, tokenizer)
        except (OSError, InputError):
            shutil.rmtree(self.work, ignore_errors=True)
            raise

    def _close(self, facts: dict[str, object], tokenizer: Tokenizer) -> None:
        for part in ("train", "validation"):
            if int(str(facts[f"{part}_tokens"])) < 2:
                raise InputError(
                    f"{self.sources.label} is too short: its {part} part has fewer than 2 tokens;"
                    " give more text, a larger --data.val_fraction, or --tokenizer.kind=char"
                )
        files = {name: entry(self.work / name) for name in _TOKENIZER}
        for name in _TOKENIZER:
            sync_file(self.work / name)
        assert isinstance(facts["files"], dict)
        whole = {
            **facts,
            "files": facts["files"] | files,
            "fingerprint": self.fingerprint,
            "tokenizer": tokenizer.fingerprint,
            "characters": self.survey.characters,
            "bytes": self.survey.bytes,
            "documents": self.survey.documents,
        }
        write_manifest(self.work, whole)
        os.rename(self.work, self.folder)
        sync_folder(self.folder.parent)

    def _tokenizer(self) -> Tokenizer:
        """The tokenizer; one that a killed process had finished is used again."""
        mark = self.work / "tokenizer.done"
        with contextlib.suppress(OSError, InputError, DamagedError):
            done = load_tokenizer(self.work)
            if mark.read_text(encoding="utf-8") == done.fingerprint:
                return done
        kind = self.settings.kind
        assert kind is not None
        pieces: Iterator[str] = iter([self.survey.alphabet])
        if kind in ("bpe", "word"):
            self.say(f"learning a vocabulary of {self.settings.vocab_size}")
            parts = assign(cleaned(self.sources.read(self.data)), self.split)
            pieces = sample(chunked(parts), self.survey.characters, SAMPLE)
        made = train_tokenizer(kind, pieces, self.settings)
        made.save(self.work)
        write_whole(mark, made.fingerprint.encode())
        return made


def choose(survey: Survey, asked: TokenizerSettings) -> tuple[TokenizerSettings, list[str]]:
    """The settings with kind and vocabulary filled in, and why."""
    kind, vocab_size, reason = choose_kind(survey.characters, len(survey.alphabet))
    notes = [f"tokenizer {reason}"]
    if asked.kind is not None:
        kind, notes = asked.kind, []
    elif asked.vocab_size is not None:
        kind, notes = "bpe", []
    if kind in ("char", "byte"):
        return TokenizerSettings(kind, None, "llama3"), notes  # type: ignore[arg-type]
    vocab_size = asked.vocab_size or vocabulary_for(survey.characters)
    pattern = asked.pattern if kind == "bpe" else "llama3"
    return TokenizerSettings(kind, vocab_size, pattern), notes  # type: ignore[arg-type]


def _fingerprint(
    survey: Survey, data: DataSettings, tokenizer: TokenizerSettings, seed: int, pairs: bool
) -> str:
    drawn = survey.documents >= FEWEST_DOCUMENTS and not pairs
    facts = {
        "format": FORMAT,
        "content": survey.digest,
        "validation": data.val_fraction,
        "seed": seed if drawn else None,
        "tokenizer": [tokenizer.kind, tokenizer.vocab_size, tokenizer.pattern],
        **({"pairs": True} if pairs else {}),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _watched(pieces: Iterator[TextChunk], digest: Digest) -> Iterator[TextChunk]:
    for piece in pieces:
        digest.add(piece)
        yield piece


def _clean(root: Path) -> None:
    """Removes what killed preparations left more than a day ago and nobody works on."""
    for work in root.glob("*.work"):
        with contextlib.suppress(OSError, Timeout):
            if time.time() - work.stat().st_mtime < _OLD:
                continue
            with FileLock(work.with_suffix(".lock"), timeout=0):
                shutil.rmtree(work)
