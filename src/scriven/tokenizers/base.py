"""The tokenizer: text to ids and back, for every kind, on top of the `tokenizers` library.

Any text survives `decode(encode(text))` unchanged, and text that looks like a special token is
plain text. Which kind and vocabulary suit a text is chosen here too; each kind's file trains it,
and `files.py` loads what `save` writes.
"""

import codecs
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from tokenizers.processors import TemplateProcessing

import tokenizers

from .. import registry
from ..errors import InputError
from ..format import clean as clean
from ..settings import TokenizerSettings
from .patterns import chunks

Ids = npt.NDArray[np.int32]

NOT_KINDS = {
    "chat_template", "fast", "files", "imported", "jinja_template", "patterns", "sentencepiece",
}  # fmt: skip
"""Files of this folder that are no kind of tokenizer."""

EOS = "<|endoftext|>"
PAD = "<|pad|>"
MASK = "<mask>"
"""Stands for hidden text; only tokenizers of models that fill gaps have it."""
SPECIAL_TOKENS = {
    "mask": MASK,
    # the beginning, the border between two parts and the end of a labelled input (GPT-1, 3.3)
    "start": "<|start|>",
    "delimiter": "<|delimiter|>",
    "extract": "<|extract|>",
    # the beginning and the end of a turn in a dialogue (ChatML)
    "turn": "<|im_start|>",
    "end": "<|im_end|>",
}
"""Special tokens that a task may need, by what they are for."""
_INPUT_TOKENS = ("start", "delimiter", "extract")

SMALL_TEXT = 2_000_000
"""Characters. A shorter text is too small to teach longer pieces than characters."""
MANY_DOCUMENTS, SHORT_DOCUMENT = 500, 1000
"""Documents, and their characters on average, from which they are rows and not one text."""
FEW_CHARACTERS = 512
"""Different characters that a character vocabulary may have."""
VOCAB_SIZES = [(5e6, 1024), (20e6, 2048), (100e6, 4096), (1e9, 8192), (4e9, 16_384)]
"""(text of fewer characters than this, vocabulary)"""
MAX_VOCAB_SIZE = 32_768

UNLIMITED = 10**30
"""How transformers writes that the tokenizer itself sets no maximum length."""

CACHED_PART = 1 << 15
"""Characters encoded at once by table look-up, so that the arrays stay in the CPU cache."""

# GPT-2 writes each byte as one printable character: itself, or one from U+0100 on
# (Radford et al. 2019, bytes_to_unicode).
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
BYTE_TO_CHARACTER = {byte: chr(byte) for byte in _PRINTABLE} | {
    byte: chr(256 + index) for index, byte in enumerate(_OTHERS)
}
CHARACTER_TO_BYTE = {character: byte for byte, character in BYTE_TO_CHARACTER.items()}
# other characters of Latin-1 stand for none, so they become one that Latin-1 does not have
_TO_LATIN_1 = dict.fromkeys(range(256), 65535) | {
    ord(character): byte for character, byte in CHARACTER_TO_BYTE.items()
}

BYTE_TOKENS = {byte: f"<0x{byte:02X}>" for byte in range(256)}
"""The names of bytes in a character vocabulary: 0xE2 -> `<0xE2>`."""
_TOKEN_TO_BYTE = {token: bytes([byte]) for byte, token in BYTE_TOKENS.items()}


def kinds() -> list[str]:
    """The kinds of tokenizers: every other file of this folder."""
    return registry.names("scriven.tokenizers", exclude=NOT_KINDS)


def tokenizer_class(kind: str) -> type["Tokenizer"]:
    """The class of a kind.

    Raises:
        InputError: no such kind.
    """
    module = registry.module("scriven.tokenizers", kind, exclude=NOT_KINDS)
    kind_class: type[Tokenizer] = module.Tokenizer
    return kind_class


def train_tokenizer(kind: str, pieces: Iterator[str], settings: TokenizerSettings) -> "Tokenizer":
    """A tokenizer of one kind (a file of this folder), its vocabulary trained on the pieces.

    Raises:
        InputError: no such kind.
    """
    module = registry.module("scriven.tokenizers", kind, exclude=NOT_KINDS)
    trained: Tokenizer = module.train(pieces, settings)
    return trained


def choose_kind(characters: int, distinct: int, documents: int = 1) -> tuple[str, int, str]:
    """(kind, vocabulary, reason) for a text of so many characters, so many of them different.

    Many short documents, such as the rows of a table, get pieces of words at any size: what is
    asked of them later, such as a label, depends on words, which characters alone do not show.

    A token must be seen often to be learnt, so the vocabulary grows with the text: 1024 up to
    5 million characters, 2048 up to 20 million, then 4096, 8192, 16384 and 32768.
    """
    is_rows = documents >= MANY_DOCUMENTS and characters < SHORT_DOCUMENT * documents
    if characters < SMALL_TEXT and distinct <= FEW_CHARACTERS and not is_rows:
        reason = f"char: a text of {characters:,} characters is too small to teach longer pieces"
        return "char", distinct + 258, reason
    size = choose_vocab_size(characters)
    if is_rows and characters < SMALL_TEXT:
        reason = f"bpe with {size}: in {documents:,} short texts the words matter"
    elif characters < SMALL_TEXT:
        reason = f"bpe with {size}: {distinct:,} different characters are too many for one id each"
    else:
        reason = f"bpe with {size}: {characters:,} characters show each piece often enough"
    return "bpe", size, reason


def choose_vocab_size(characters: int) -> int:
    """The vocabulary that a text of so many characters can support."""
    return next((size for limit, size in VOCAB_SIZES if characters < limit), MAX_VOCAB_SIZE)


class Tokenizer:
    """Text <-> ids. Each kind is a subclass in a file of its own.

    Args:
        backend: a `tokenizers` BPE, byte-level or characters with byte fallback.
        pattern: the name of the splitting pattern, `none` for char and byte.
        eos, pad: the special tokens that end a document and fill a batch.
        mask: the special token that stands for hidden text, where there is one.
    """

    kind = ""
    """The name of its file: char, byte, word or bpe."""
    is_byte_level = True
    """Whether a token spells its bytes as GPT-2 does; else characters and `<0xE2>`."""
    bos_token: str | None = None
    """The token that an imported model's texts begin with."""
    unk_token: str | None = None
    """What an imported vocabulary has for text that it cannot spell."""
    chat_template: str | None = None
    """The Jinja template of an imported model's conversations; None for ours, or none."""
    turn_ids: Mapping[str, int] = MappingProxyType({})
    """The special tokens that begin and end a turn there, by role: turn, end."""
    gaps: frozenset[int] = frozenset()
    """Ids below the largest that no token of an imported vocabulary has."""
    has_words = True
    """Whether tokens are pieces of words with the space before them, learned from running text;
    else the characters that occur are enough to train it."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        pattern: str = "none",
        eos: str = EOS,
        pad: str = PAD,
        mask: str | None = None,
    ) -> None:
        # Only the template may write special tokens; in a user's text they are plain characters.
        backend.encode_special_tokens = True
        self.backend = backend
        self.pattern = pattern
        self.eos_token, self.pad_token, self.mask_token = eos, pad, mask
        # token -> id, special tokens included
        vocabulary = backend.get_vocab(with_added_tokens=True)
        self.eos: int = vocabulary[eos]
        self.pad: int = vocabulary[pad]
        self.mask: int | None = None if mask is None else vocabulary[mask]
        added = backend.get_added_tokens_decoder().items()
        self.special = {token.content: number for number, token in added if token.special}
        # ids may have gaps in an imported file, so the largest id counts
        self.vocab_size: int = max(vocabulary.values()) + 1
        self.bytes_of = [b""] * self.vocab_size
        """What each id writes; special ids and gaps write nothing."""
        for token, number in vocabulary.items():
            if token in self.special:
                continue
            self.bytes_of[number] = self._spelling(token)
        self._build_tables(backend.get_vocab(with_added_tokens=False))

    def _spelling(self, token: str) -> bytes:
        """The bytes that a token writes."""
        if not self.is_byte_level:
            return _TOKEN_TO_BYTE.get(token) or token.encode("utf-8")
        try:
            return token.translate(_TO_LATIN_1).encode("latin-1")
        except UnicodeEncodeError:  # a token that was added to the vocabulary is plain text
            return token.encode("utf-8", "replace")

    def _build_tables(self, vocabulary: Mapping[str, int]) -> None:
        """Whatever a kind needs to encode faster than the library."""

    def with_special_tokens(self, *names: str) -> Self:
        """The same tokenizer with more ids, at the end, for tokens of SPECIAL_TOKENS it lacks.

        Those of labelled inputs come with a post-processor for other programs: `tokenizer(text)` or
        `tokenizer(text, pair)` there puts start, delimiter and extract tokens where our own tasks
        do. `encode` adds nothing, with or without it.
        """
        # 1. is there anything to do?
        missing = [name for name in names if name not in self.special_token_ids]
        is_labelled = set(_INPUT_TOKENS) <= set(names)
        # an imported tokenizer may have a post-processor of its own
        processor = json.dumps(json.loads(self.backend.to_str())["post_processor"])
        has_ours = SPECIAL_TOKENS["start"] in processor
        if not missing and is_labelled == has_ours:
            return self
        # 2. a copy of the library's tokenizer, with the new tokens at the end; ids that exist stay
        backend = tokenizers.Tokenizer.from_str(self.backend.to_str())
        backend.decoder = self.backend.decoder
        for name in missing:
            # a token that is a word brings the space before it, so the mask in its place does too
            with_leading_space = name == "mask" and self.has_words
            token = tokenizers.AddedToken(
                SPECIAL_TOKENS[name], special=True, normalized=False, lstrip=with_leading_space
            )
            backend.add_special_tokens([token])
        # 3. for labelled inputs, what other programs put around a text
        if is_labelled:
            tokens = [SPECIAL_TOKENS[name] for name in _INPUT_TOKENS]
            start, delimiter, extract = tokens
            backend.post_processor = TemplateProcessing(
                single=f"{start} $A {extract}",
                pair=f"{start} $A {delimiter} $B {extract}",
                special_tokens=[(token, backend.token_to_id(token)) for token in tokens],
            )
        elif has_ours:
            backend.post_processor = None
        mask = MASK if "mask" in missing else self.mask_token
        new = type(self)(backend, self.pattern, self.eos_token, self.pad_token, mask)
        new.bos_token, new.unk_token = self.bos_token, self.unk_token
        new.chat_template, new.turn_ids = self.chat_template, self.turn_ids
        return new

    @property
    def special_token_ids(self) -> dict[str, int]:
        """The ids of the tokens that are no text, by role: eos, pad, and SPECIAL_TOKENS."""
        special = self.special
        ids = {role: special[token] for role, token in SPECIAL_TOKENS.items() if token in special}
        ids |= {"eos": self.eos, "pad": self.pad, **self.turn_ids}
        if self.bos_token is not None:
            ids |= self._bos
        return ids if self.mask is None else {**ids, "mask": self.mask}

    @cached_property
    def _bos(self) -> dict[str, int]:
        """The token that an imported model's own tokenizer puts before a text."""
        bos = self.special.get(self.bos_token or "", -1)
        return {"bos": bos} if self.backend.encode("a").ids[:1] == [bos] else {}

    def encode(self, text: str) -> list[int]:
        """Ids of a text. Text that spells a special token is plain text; lone surrogates become
        U+FFFD; nothing is added at either end."""
        ids: list[int] = self.encode_array(text).tolist()
        return ids

    def encode_array(self, text: str) -> Ids:
        """`encode`, as an array of shape (tokens,); the fast path for large texts."""
        return np.concatenate(self.encode_chunks(list(chunks(clean(text)))))

    def encode_chunks(self, texts: list[str]) -> list[Ids]:
        """Ids of several short texts, each taken whole, on all cores.

        Long texts must have been cut by `patterns.chunks`, and cleaned of lone surrogates.
        """
        # "fast" leaves out the offsets of tokens in the text
        encodings = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(each.ids, dtype=np.int32) for each in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids. Special ids are left out; bytes that are no UTF-8 become U+FFFD.

        Raises:
            InputError: an id outside the vocabulary.
        """
        # bytes are joined first: a character may be spread over several ids
        return b"".join(self.spell(number) for number in ids).decode("utf-8", "replace")

    def spell(self, number: int) -> bytes:
        """The bytes of one id, none for a special one."""
        if not 0 <= number < self.vocab_size:
            raise InputError(f"token id {number} is outside the vocabulary of {self.vocab_size}")
        return self.bytes_of[number]

    def save(self, folder: Path) -> None:
        """Writes `to_files` into a folder that exists and is not published yet."""
        for name, content in self.to_files().items():
            (folder / name).write_bytes(content)

    def to_files(
        self, *, context_length: int | None = None, template: str | None = None
    ) -> dict[str, bytes]:
        """tokenizer.json and tokenizer_config.json, as transformers reads them.

        `context_length` is the model's longest sequence, `template` its chat template (Jinja).
        """
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": context_length or UNLIMITED,
            "bos_token": self.bos_token,
            "eos_token": self.eos_token,
            "pad_token": self.pad_token,
            "unk_token": self.unk_token,
            "clean_up_tokenization_spaces": False,
            "scriven_kind": self.kind,
            "scriven_pattern": self.pattern,
        }
        if self.mask_token is not None:
            config["mask_token"] = self.mask_token
        if self.bos_token is None:  # else what is added is in tokenizer.json
            config |= {"add_bos_token": False, "add_eos_token": False}
        if template is not None:
            config["chat_template"] = template
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        whole = self.backend.to_str(pretty=True)
        return {"tokenizer.json": whole.encode(), "tokenizer_config.json": text.encode()}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of tokenizer.json in a canonical spelling: the same means the same ids."""
        # versions of the library order and indent the file differently
        plain = json.loads(self.backend.to_str())
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


class StreamDecoder:
    """Ids to text one at a time: a character is returned once all of its bytes are there.

    The parts joined, `flush` included, are what `Tokenizer.decode` gives for all ids at once.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: int) -> str:
        """The text that is certain now; often empty within a character of several bytes."""
        return self._decoder.decode(self._tokenizer.spell(id))

    def flush(self) -> str:
        """What is left: U+FFFD for an unfinished character. The decoder can then be used again."""
        # an unfinished character becomes U+FFFD, as in Tokenizer.decode
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest


def in_groups(texts: list[str]) -> Iterator[list[str]]:
    """Texts in groups of about `CACHED_PART` characters: each look-up costs as much as a short
    text, so short texts share one."""
    group: list[str] = []
    characters = 0
    for text in texts:
        group.append(text)
        characters += len(text)
        if characters >= CACHED_PART:
            yield group
            group, characters = [], 0
    if group:
        yield group


def split_ids(ids: Ids, lengths: list[int]) -> list[Ids]:
    """The ids (N,) of a group as one array per text, of these lengths."""
    # views of one array, not copies
    ends = itertools.accumulate(lengths)
    return [ids[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def parts(plain: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The steps of a part of tokenizer.json: itself, or those of a sequence."""
    part = plain.get(name)
    inner = {"pre_tokenizer": "pretokenizers", "decoder": "decoders", "normalizer": "normalizers"}
    if isinstance(part, dict) and part.get("type") == "Sequence":
        steps = part.get(inner[name])
        return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    return [part] if isinstance(part, dict) else []
