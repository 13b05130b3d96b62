"""The second reading: text to ids, chunk by chunk, into one shard for each part.

Chunks end where every splitting pattern has a boundary, so the ids are those of the whole text.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..tokenizers import Tokenizer
from ..tokenizers.fast import Encoder
from ..tokenizers.patterns import CHUNK, cut
from .leakage import LeakageCheck
from .shards import TokenFileWriter, id_type
from .split import TRAIN, VALIDATION, SplitChunk

FILES = {TRAIN: "train.bin", VALIDATION: "validation.bin"}
_AT_ONCE = 1 << 20
_MOST_CHUNKS = 4096


def chunked(parts: Iterable[SplitChunk]) -> Iterator[SplitChunk]:
    """The same text in chunks of at most `CHUNK` characters, however it was cut before."""
    buffer, current = "", TRAIN
    for part, text, ends in parts:
        if part != current and buffer:
            yield SplitChunk(current, buffer, False)
            buffer = ""
        current = part
        buffer += text
        start = 0
        while len(buffer) - start > CHUNK:
            end = cut(buffer, start)
            yield SplitChunk(part, buffer[start:end], False)
            start = end
        buffer = buffer[start:]
        if ends:
            yield SplitChunk(part, buffer, True)
            buffer = ""
    if buffer:
        yield SplitChunk(current, buffer, False)


def batched(chunks: Iterable[SplitChunk]) -> Iterator[list[SplitChunk]]:
    """Chunks in groups of about a megabyte, enough to keep all cores busy."""
    group: list[SplitChunk] = []
    characters = 0
    for chunk in chunks:
        group.append(chunk)
        characters += len(chunk.text)
        if characters >= _AT_ONCE or len(group) >= _MOST_CHUNKS:
            yield group
            group, characters = [], 0
    if group:
        yield group


def sample(chunks: Iterable[SplitChunk], characters: int, limit: int) -> Iterator[str]:
    """Training chunks for a tokenizer: all of them, or evenly spread ones up to `limit`."""
    seen = taken = 0
    for part, text, _ in chunks:
        if part != TRAIN:
            continue
        seen += len(text)
        if characters <= limit or taken * characters < seen * limit:
            taken += len(text)
            yield text


def encode(
    parts: Iterable[SplitChunk],
    tokenizer: Tokenizer,
    folder: Path,
    *,
    characters: int,
    close_documents: bool,
    say: Callable[[str], None],
    encoder: Encoder | None = None,
    compare: bool = True,
) -> dict[str, object]:
    """Writes `train.bin` and `validation.bin`.

    Args:
        close_documents: whether EOS follows each document.
        encoder: makes the ids; the tokenizer itself by default.
        compare: whether to look for lines that are in both parts.

    Returns:
        facts for the manifest: files, tokens of each part, UTF-8 bytes of the validation text,
        and the overlap note or None.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    overlap = LeakageCheck(characters)
    encoder = encoder or tokenizer.encode_chunks
    dtype = id_type(tokenizer.vocab_size)
    eos = np.array([tokenizer.eos], dtype=np.int32)
    validation_bytes = read = told = 0
    with (
        TokenFileWriter(folder / FILES[TRAIN], dtype) as train,
        TokenFileWriter(folder / FILES[VALIDATION], dtype) as validation,
    ):
        writers = {TRAIN: train, VALIDATION: validation}
        for group in batched(chunked(parts)):
            made: dict[int, list[npt.NDArray[np.int32]]] = {TRAIN: [], VALIDATION: []}
            ids = encoder([chunk.text for chunk in group])
            for (part, text, ends), found in zip(group, ids, strict=True):
                made[part].append(found)
                if ends and close_documents:
                    made[part].append(eos)
                if part == VALIDATION:
                    validation_bytes += len(text.encode("utf-8"))
                if compare:
                    overlap.add(part, text)
                read += len(text)
            for part, arrays in made.items():
                if arrays:
                    writers[part].append(*arrays)
            if read - told >= 50_000_000:
                told = read
                say(f"encoded {read / max(1, characters):.0%} of {characters:,} characters")
        files = {FILES[part]: writer.finish() for part, writer in writers.items()}
    return {
        "files": files,
        "dtype": dtype,
        "train_tokens": train.tokens,
        "validation_tokens": validation.tokens,
        "validation_bytes": validation_bytes,
        "overlap": overlap.note(),
    }
