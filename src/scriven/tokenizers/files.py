"""Loading tokenizer.json and tokenizer_config.json with care; `Tokenizer.save` writes them.

A folder may come from anybody, so nothing in it is believed before it is checked; a vocabulary
with gaps or a splitting pattern that we do not know would give a model other ids than it learnt.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers.decoders import ByteFallback, Fuse, Sequence

import tokenizers

from ..errors import DamagedError, InputError
from .base import BYTE_TO_CHARACTER, BYTE_TOKENS, Tokenizer, kinds, tokenizer_class
from .patterns import PATTERNS
from .special_tokens import EOS, PAD

FILE_LIMIT = 256 * 1024 * 1024
"""Bytes of tokenizer.json."""


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a run folder, or of a folder in the Hugging Face layout.

    Byte-level BPE with a pattern we know, and character vocabularies of our own, are understood.

    Raises:
        InputError: a file is missing, or the tokenizer is of a kind we do not know.
        DamagedError: a file is not what a tokenizer writes.
    """
    path = folder / "tokenizer.json"
    text, plain = _read(path)
    _, config = _read(folder / "tokenizer_config.json")
    if not isinstance(plain.get("model"), dict) or not isinstance(
        plain["model"].get("vocab"), dict
    ):
        raise InputError(f"{path} holds no BPE vocabulary: only BPE tokenizers can be used")
    ids = _check_ids(plain, path)
    # 1. what the parts of the file say; byte, word and other kinds of ours look like bpe
    kind, pattern = _kind_and_pattern(plain, path)
    kind_class = tokenizer_class(kind)
    declared = config.get("scriven_kind")
    if declared in kinds():
        declared_class = tokenizer_class(declared)
        if declared_class.is_byte_level == kind_class.is_byte_level:
            kind_class = declared_class
    # 2. the special tokens
    # ours, or those of an imported model; a padding token of its own is not needed
    eos = _special(config, "eos_token", ids) or (EOS if EOS in ids else None)
    if eos is None:
        raise InputError(f"{folder / 'tokenizer_config.json'} names no eos_token of {path.name}")
    pad = _special(config, "pad_token", ids) or (PAD if PAD in ids else eos)
    _check_alphabet(plain["model"]["vocab"], kind, path)
    # 3. the library
    try:
        backend = tokenizers.Tokenizer.from_str(text)
        if kind == "char":
            backend.decoder = Sequence([ByteFallback(), Fuse()])
        mask = _special(config, "mask_token", ids)
        return kind_class(backend, pattern, eos, pad, mask)
    except Exception as error:  # the library raises plain Exception for whatever it dislikes
        raise DamagedError(f"{path} is no tokenizer: {_one_line(error)}") from error


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    """The text and the JSON object of a file."""
    try:
        if path.stat().st_size > FILE_LIMIT:
            raise DamagedError(f"{path} is too large for a tokenizer file")
        text = path.read_text(encoding="utf-8")
        plain = json.loads(text)
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: is {path.parent} a run folder?") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is not JSON: {_one_line(error)}; restore the file") from error
    if not isinstance(plain, dict):
        raise DamagedError(f"{path} is not a JSON object; restore the file")
    return text, plain


def _check_ids(plain: dict[str, Any], path: Path) -> dict[str, int]:
    """Token -> id of the whole file, when the ids are 0 .. n-1 without gap or repetition."""
    # special tokens and others added after training, whose ids may repeat those of the vocabulary
    added = plain.get("added_tokens")
    if not isinstance(added, list) or not all(isinstance(each, dict) for each in added):
        raise DamagedError(f"{path} lists no added tokens; restore the file")
    ids: dict[str, int] = dict(plain["model"]["vocab"])
    for each in added:
        name, number = each.get("content"), each.get("id")
        if not isinstance(name, str) or ids.get(name, number) != number:
            raise DamagedError(f"{path}: the added token {name!r} has two ids; restore the file")
        ids[name] = number
    numbers = list(ids.values())
    if any(type(number) is not int for number in numbers):
        raise DamagedError(f"{path} has an id that is no whole number; restore the file")
    # the rows of the embedding matrix are 0 .. n-1
    if sorted(numbers) != list(range(len(numbers))):
        raise DamagedError(
            f"{path}: the ids of {len(numbers)} tokens are not 0 to {len(numbers) - 1};"
            " restore the file"
        )
    return ids


def _kind_and_pattern(plain: dict[str, Any], path: Path) -> tuple[str, str]:
    """(kind, pattern) of the tokenizer that the file describes, from its parts alone."""
    model = plain["model"]
    steps = _steps(plain.get("pre_tokenizer"), "pretokenizers")
    decoders = [step.get("type") for step in _steps(plain.get("decoder"), "decoders")]
    if model.get("type", "BPE") != "BPE" or plain.get("normalizer") is not None:
        raise InputError(f"{path} is not a plain BPE: only byte-level BPE and char can be used")
    # 1. characters with byte fallback
    if decoders == ["ByteFallback", "Fuse"] and not steps:
        if model.get("byte_fallback") is not True or model.get("merges"):
            raise DamagedError(f"{path} is no character vocabulary with bytes; restore the file")
        return "char", "none"
    # 2. byte-level BPE: GPT-2's own pattern, or a split by one of ours
    types = [step.get("type") for step in steps]
    plain_levels = bool(steps) and steps[-1].get("add_prefix_space") is False
    if decoders == ["ByteLevel"] and plain_levels:
        if types == ["ByteLevel"]:
            return "bpe", "gpt2" if steps[0].get("use_regex", True) else "none"
        if types == ["Split", "ByteLevel"] and steps[1].get("use_regex") is False:
            split = steps[0].get("pattern")
            regex = split.get("Regex") if isinstance(split, dict) else None
            whole = steps[0].get("behavior") == "Isolated" and steps[0].get("invert") is False
            # compared as text: a pattern of a stranger is never compiled
            names = [name for name, known in PATTERNS.items() if known == regex and whole]
            if names:
                return "bpe", names[0]
    raise InputError(f"{path} splits text in a way that is not known here; use llama3, gpt2, qwen2")


def _steps(part: object, inner: str) -> list[dict[str, Any]]:
    """The parts of a pre-tokenizer or decoder, whether it is one or a sequence of them."""
    if not isinstance(part, dict):
        return []
    steps = part.get(inner) if part.get("type") == "Sequence" else [part]
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []


def _check_alphabet(vocabulary: dict[str, int], kind: str, path: Path) -> None:
    """Every byte must have an id, or some text could not be written down."""
    for byte, token in (BYTE_TOKENS if kind == "char" else BYTE_TO_CHARACTER).items():
        if token not in vocabulary:
            raise DamagedError(f"{path} has no token for the byte {byte}; restore the file")


def _special(config: dict[str, Any], name: str, ids: dict[str, int]) -> str | None:
    """A special token of tokenizer_config.json, written as text or as an object."""
    value = config.get(name)
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) and text in ids else None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
