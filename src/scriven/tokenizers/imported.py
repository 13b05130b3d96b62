"""The tokenizer of another program's model, kept as its file has it.

Any normaliser, split and model that the `tokenizers` library knows: byte-level BPE with a split of
its own, SentencePiece's BPE and Unigram, WordPiece. Text that such a vocabulary cannot spell gets
its unknown token, or none where it has none; that is how the model learnt it.
"""

import json
import re
from functools import cached_property
from typing import Any

import numpy as np

import tokenizers

from . import base
from .base import Ids, clean, parts
from .patterns import chunks

SPACE = "\u2581"
"""How SentencePiece spells a space."""

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_CROSSES = re.compile(rb"\S |\n\S")
"""A token with such bytes reaches over a place where `patterns.chunks` cuts a text."""
_NEVER_TEXT = {*range(0x20), 0x7F, 0xC0, 0xC1, 0xF1, 0xF2, *range(0xF5, 0x100)} - {9, 10, 13}
"""Bytes that UTF-8 does not have, control characters, and planes of Unicode without characters."""


class ImportedTokenizer(base.Tokenizer):
    """Encodes through the library, with nothing of the file changed."""

    kind = "imported"

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        silent = (number for number, spelled in enumerate(self.bytes_of) if not spelled)
        self.gaps = frozenset(silent) - frozenset(self.special.values())

    def _spelling(self, token: str) -> bytes:
        decoders = self._decoders
        if "ByteLevel" in decoders:
            return super()._spelling(token)
        if "ByteFallback" in decoders and (byte := _BYTE.fullmatch(token)):
            return bytes([int(byte[1], 16)])
        if "WordPiece" in decoders:
            prefix = decoders["WordPiece"].get("prefix") or "##"
            token = token[len(prefix) :] if token.startswith(prefix) else f" {token}"
        if "BPEDecoder" in decoders:
            token = token.replace(decoders["BPEDecoder"].get("suffix") or "</w>", " ")
        return token.replace(SPACE, " ").encode("utf-8", "replace")

    @cached_property
    def _decoders(self) -> dict[str, dict[str, Any]]:
        state = self.backend.decoder and self.backend.decoder.__getstate__()
        steps = parts({"decoder": json.loads(state) if state else None}, "decoder")
        return {str(step.get("type")): step for step in steps}

    @cached_property
    def _writes_prefix(self) -> bool:
        """Whether a text begins with a space that decoding takes away again."""
        metaspace = self._decoders.get("Metaspace")
        if metaspace is not None:
            return bool(metaspace.get("prepend_scheme", "always") != "never")
        return "Strip" in self._decoders or "WordPiece" in self._decoders

    @cached_property
    def _inner(self) -> tokenizers.Tokenizer:
        """The library's tokenizer for the middle of a text, where no space is put before it."""
        plain = json.loads(self.backend.to_str())
        changed = False
        normalizers = parts(plain, "normalizer")
        kept = [step for step in normalizers if step.get("type") != "Prepend"]
        if len(kept) < len(normalizers):
            plain["normalizer"] = {"type": "Sequence", "normalizers": kept} if kept else None
            changed = True
        for step in parts(plain, "pre_tokenizer"):
            if step.get("type") == "Metaspace" and step.get("prepend_scheme") != "never":
                step["prepend_scheme"], changed = "never", True
            if step.get("type") == "ByteLevel" and step.get("add_prefix_space"):
                step["add_prefix_space"], changed = False, True
        if not changed:
            return self.backend
        inner = tokenizers.Tokenizer.from_str(json.dumps(plain))
        inner.encode_special_tokens = True
        return inner

    @cached_property
    def _can_be_cut(self) -> bool:
        """Whether no token reaches over a place where a long text is cut."""
        return not any(_CROSSES.search(spelled) for spelled in self.bytes_of)

    def encode_array(self, text: str) -> Ids:
        text = clean(text)
        pieces = list(chunks(text)) if self._can_be_cut else [text]
        (first,) = self.backend.encode_batch_fast(pieces[:1], add_special_tokens=False)
        ids = np.array(first.ids, dtype=np.int32)
        if len(pieces) == 1:  # `_inner` takes a moment to build
            return ids
        return np.concatenate([ids, *self.encode_chunks(pieces[1:])])

    def encode_chunks(self, texts: list[str]) -> list[Ids]:
        encodings = self._inner.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(each.ids, dtype=np.int32) for each in encodings]

    def decode(self, ids: Any) -> str:
        text = super().decode(ids)
        return text[1:] if self._writes_prefix and text.startswith(" ") else text

    @property
    def lost_bytes(self) -> list[int]:
        """Bytes of UTF-8 that a byte-level vocabulary has no token for: texts lose them."""
        if "ByteLevel" not in self._decoders or self.unk_token is not None:
            return []
        known = {spelled for spelled in self.bytes_of if len(spelled) == 1}
        return [
            byte for byte in range(256) if byte not in _NEVER_TEXT and bytes([byte]) not in known
        ]
