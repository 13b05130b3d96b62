"""SentencePiece models as tokenizer.json describes them: from `tokenizer.model`, or from GGUF.

A model is a list of pieces with scores. SentencePiece's BPE joins the pair whose piece has the best
score; the `tokenizers` library has a list of merges instead, which follows from the scores.
Source of the format: https://github.com/google/sentencepiece, src/sentencepiece_model.proto
"""

import base64
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

SPACE = "\u2581"
UNIGRAM, BPE = 1, 2
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


@dataclass
class SentencePieceModel:
    """What a tokenizer.model holds, as far as it matters here."""

    pieces: list[str]
    scores: Sequence[float]
    types: Sequence[int]
    kind: int = UNIGRAM
    prefix: bool = True
    """Whether a space is put before a text."""
    unk: int = 0
    charsmap: bytes = b""
    """The compiled normaliser; empty: text is taken as it is."""


def parse_model(data: bytes) -> SentencePieceModel:
    """Reads tokenizer.model, a message of Protocol Buffers, without running anything.

    Raises:
        ValueError: it is none.
    """
    model = SentencePieceModel([], [], [])
    scores, types = [], []
    for field, value in _fields(data):
        if field == 1:
            piece: dict[int, Any] = {2: 0.0, 3: NORMAL, **dict(_fields(value))}
            model.pieces.append(piece[1].decode("utf-8"))
            scores.append(piece[2])
            types.append(piece[3])
        elif field == 2:
            trained = dict(_fields(value))
            model.kind, model.unk = trained.get(3, UNIGRAM), trained.get(40, 0)
        elif field == 3:
            normalizer = dict(_fields(value))
            model.charsmap = normalizer.get(2, b"")
            model.prefix = bool(normalizer.get(3, 1))
    if not model.pieces or model.kind not in (UNIGRAM, BPE):
        raise ValueError("it holds no pieces of a BPE or Unigram model")
    model.scores, model.types = scores, types
    return model


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of each field of a message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
        elif kind == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("a field reaches beyond its end")
            yield tag >> 3, data[at : at + length]
            at += length
        elif kind == 5 and at + 4 <= len(data):
            yield tag >> 3, struct.unpack_from("<f", data, at)[0]
            at += 4
        elif kind == 1:
            at += 8
        else:
            raise ValueError("it is no message of Protocol Buffers")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("it ends in the middle of a number")


def tokenizer_json(model: SentencePieceModel) -> dict[str, Any]:
    """The content of tokenizer.json for a model."""
    added = [
        {
            "id": number, "content": piece, "special": kind != USER_DEFINED, "single_word": False,
            "lstrip": False, "rstrip": False, "normalized": False,
        }
        for number, (piece, kind) in enumerate(zip(model.pieces, model.types, strict=True))
        if kind in (UNKNOWN, CONTROL, USER_DEFINED)
    ]  # fmt: skip
    unigram = model.kind == UNIGRAM
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if model.prefix else []
    space = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    prepend = [{"type": "Prepend", "prepend": SPACE}] if model.prefix else []
    charsmap = []
    if model.charsmap:
        text = base64.b64encode(model.charsmap).decode()
        charsmap = [{"type": "Precompiled", "precompiled_charsmap": text}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [*charsmap, *prepend, space]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *strip,
            ],
        },
        "model": _unigram(model) if unigram else _bpe(model),
    }


def _unigram(model: SentencePieceModel) -> dict[str, Any]:
    vocab = [[piece, float(score)] for piece, score in zip(model.pieces, model.scores, strict=True)]
    has_bytes = BYTE in model.types
    return {"type": "Unigram", "unk_id": model.unk, "vocab": vocab, "byte_fallback": has_bytes}


def _bpe(model: SentencePieceModel) -> dict[str, Any]:
    ids = {piece: number for number, piece in enumerate(model.pieces)}
    merges: list[tuple[float, int, int, str, str]] = []
    for number, (piece, score) in enumerate(zip(model.pieces, model.scores, strict=True)):
        if model.types[number] != NORMAL:
            continue
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in ids and right in ids:
                merges.append((-float(score), ids[left], ids[right], left, right))
    # the best score first; of equal ones the pair of the smallest ids, as transformers orders them
    merges.sort()
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": model.pieces[model.unk] if 0 <= model.unk < len(model.pieces) else None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": BYTE in model.types,
        "ignore_merges": False,
        "vocab": ids,
        "merges": [[left, right] for *_, left, right in merges],
    }
