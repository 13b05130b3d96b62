"""The tokenizer: text to ids and back, for every kind, on top of the `tokenizers` library.

Any text survives `decode(encode(text))` unchanged, and text that looks like a special token is
plain text. Knows nothing of files (`files.py`) nor of how vocabularies are found (`kinds/`).
"""

import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

import tokenizers

from ..errors import InputError
from . import frame
from .alphabet import bytes_of_ids
from .layout import config_text
from .lookup import ByteLookup, CharacterLookup
from .patterns import chunks
from .special_tokens import EOS, MASK, PAD, SPECIAL_TOKENS, clean

Ids = npt.NDArray[np.int32]


class Tokenizer:
    """Text <-> ids.

    Args:
        backend: a `tokenizers` BPE, byte-level or characters with byte fallback.
        kind: char, byte, word or bpe.
        pattern: the name of the splitting pattern, `none` for char and byte.
        eos, pad: the special tokens that end a document and fill a batch.
        mask: the special token that stands for hidden text, where there is one.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        kind: str,
        pattern: str = "none",
        eos: str = EOS,
        pad: str = PAD,
        mask: str | None = None,
    ) -> None:
        # Only the template may write special tokens; in a user's text they are plain characters.
        backend.encode_special_tokens = True
        self.backend = backend
        self.kind = kind
        self.pattern = pattern
        self.eos_token, self.pad_token, self.mask_token = eos, pad, mask
        whole = backend.get_vocab(with_added_tokens=True)
        self.eos: int = whole[eos]
        self.pad: int = whole[pad]
        self.mask: int | None = None if mask is None else whole[mask]
        self.special = {
            token.content: number
            for number, token in backend.get_added_tokens_decoder().items()
            if token.special
        }
        self.vocab_size: int = max(whole.values()) + 1
        self.bytes_of = bytes_of_ids(whole, self.special, byte_level=kind != "char")
        self._lookup: CharacterLookup | ByteLookup | None = None
        if kind == "char":
            self._lookup = CharacterLookup(backend.get_vocab(with_added_tokens=False))
        elif kind == "byte":
            self._lookup = ByteLookup(backend.get_vocab(with_added_tokens=False))

    def with_special_tokens(self, *names: str) -> "Tokenizer":
        """The same tokenizer with more ids, at the end, for tokens of MARKS that it lacks.

        Those of labelled inputs come with their frame (`frame.py`); any others end without one.
        """
        missing = [name for name in names if name not in self.special_token_ids]
        framed = set(frame.NEEDS) <= set(names)
        if not missing and framed == frame.has_frame(self.backend):
            return self
        backend = tokenizers.Tokenizer.from_str(self.backend.to_str())
        backend.decoder = self.backend.decoder
        for name in missing:
            # a token that is a word brings the space before it, so the mask in its place does too
            spaced = name == "mask" and self.kind in ("bpe", "word")
            token = tokenizers.AddedToken(
                SPECIAL_TOKENS[name], special=True, normalized=False, lstrip=spaced
            )
            backend.add_special_tokens([token])
        frame.set_frame(backend, framed)
        mask = MASK if "mask" in missing else self.mask_token
        return Tokenizer(backend, self.kind, self.pattern, self.eos_token, self.pad_token, mask)

    @property
    def special_token_ids(self) -> dict[str, int]:
        """The ids of the tokens that are no text, by what they are for: eos, pad, and MARKS."""
        known = {
            name: self.special[mark]
            for name, mark in SPECIAL_TOKENS.items()
            if mark in self.special
        }
        ids = {**known, "eos": self.eos, "pad": self.pad}
        return ids if self.mask is None else {**ids, "mask": self.mask}

    def encode(self, text: str) -> list[int]:
        """Ids of a text. Text that spells a special token is plain text; lone surrogates become
        U+FFFD; nothing is added at either end."""
        ids: list[int] = self.encode_array(text).tolist()
        return ids

    def encode_array(self, text: str) -> Ids:
        """`encode`, as an array of shape (tokens,); the fast path for large texts."""
        text = clean(text)
        if self._lookup is not None:
            return self._lookup(text)
        return np.concatenate(self.encode_chunks(list(chunks(text))))

    def encode_chunks(self, texts: list[str]) -> list[Ids]:
        """Ids of several short texts, each taken whole, on all cores.

        Long texts must have been cut by `patterns.chunks`, and cleaned of lone surrogates.
        """
        if self._lookup is not None:
            return self._lookup.many(texts)
        found = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(each.ids, dtype=np.int32) for each in found]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids. Special ids are left out; bytes that are no UTF-8 become U+FFFD.

        Raises:
            InputError: an id outside the vocabulary.
        """
        return b"".join(self.spell(number) for number in ids).decode("utf-8", "replace")

    def spell(self, number: int) -> bytes:
        """The bytes of one id, none for a special one."""
        if not 0 <= number < self.vocab_size:
            raise InputError(f"token id {number} is outside the vocabulary of {self.vocab_size}")
        return self.bytes_of[number]

    def save(
        self, folder: Path, *, context_length: int | None = None, template: str | None = None
    ) -> None:
        """Writes tokenizer.json and tokenizer_config.json, as transformers reads them.

        Args:
            folder: exists already.
            context: the model's longest sequence, if it is known.
            template: the chat template (Jinja), if there is one.
        """
        text = config_text(
            kind=self.kind,
            pattern=self.pattern,
            eos=self.eos_token,
            pad=self.pad_token,
            mask=self.mask_token,
            context_length=context_length,
            template=template,
        )
        whole = self.backend.to_str(pretty=True)
        (folder / "tokenizer.json").write_text(whole, encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of tokenizer.json in a canonical spelling: the same means the same ids."""
        plain = json.loads(self.backend.to_str())
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
