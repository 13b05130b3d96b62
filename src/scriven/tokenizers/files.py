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
from .base import BYTE_TO_CHARACTER, BYTE_TOKENS, EOS, PAD, Tokenizer, kinds, tokenizer_class
from .patterns import PATTERNS

FILE_LIMIT = 256 * 1024 * 1024
"""Bytes of tokenizer.json."""


def load_tokenizer(place: Path) -> Tokenizer:
    """The tokenizer of a run folder, or of a folder in the Hugging Face layout.

    Byte-level BPE with a pattern we know, and character vocabularies of our own, are understood.

    Args:
        place: the folder, or its tokenizer.json, which may stand alone.

    Raises:
        InputError: a file is missing, or the tokenizer is of a kind we do not know.
        DamagedError: a file is not what a tokenizer writes.
    """
    if not place.exists():
        raise InputError(f"{place} does not exist: name a run, a folder or a tokenizer.json")
    path = place / "tokenizer.json" if place.is_dir() else place
    text, plain = _read(path)
    config_path = path.with_name("tokenizer_config.json")
    config = _read(config_path)[1] if path != place or config_path.exists() else {}
    model = plain.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        raise InputError(f"{path} holds no BPE vocabulary: only BPE tokenizers can be used")
    # 1. what the parts of the file say; byte, word and other kinds of ours look like bpe
    kind, pattern = _kind_and_pattern(plain, path)
    kind_class, declared = tokenizer_class(kind), config.get("scriven_kind")
    if declared in kinds():
        declared_class = tokenizer_class(declared)
        if declared_class.is_byte_level == kind_class.is_byte_level:
            kind_class = declared_class
    ids = _check_vocabulary(plain, kind, path)
    # 2. the special tokens, each written as text or as an object
    special: dict[str, str] = {}
    for role in ("eos", "pad", "mask"):
        token = config.get(f"{role}_token")
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str) and token in ids:
            special[role] = token
    # ours, or those of an imported model; a padding token of its own is not needed
    eos = special.get("eos") or (EOS if EOS in ids else None)
    if eos is None:
        raise InputError(f"{config_path} names no eos_token of {path.name}")
    pad = special.get("pad") or (PAD if PAD in ids else eos)
    # 3. the library
    try:
        backend = tokenizers.Tokenizer.from_str(text)
        if kind == "char":
            backend.decoder = Sequence([ByteFallback(), Fuse()])
        return kind_class(backend, pattern, eos, pad, special.get("mask"))
    except Exception as error:  # the library raises plain Exception for whatever it dislikes
        reason = " ".join(str(error).split())[:200]
        raise DamagedError(f"{path} is no tokenizer: {reason}") from error


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
        reason = " ".join(str(error).split())[:200]
        raise DamagedError(f"{path} is not JSON: {reason}; restore the file") from error
    if not isinstance(plain, dict):
        raise DamagedError(f"{path} is not a JSON object; restore the file")
    return text, plain


def _kind_and_pattern(plain: dict[str, Any], path: Path) -> tuple[str, str]:
    """(kind, pattern) of the tokenizer that the file describes, from its parts alone."""
    model = plain["model"]
    # 1. pre-tokenizer and decoder are one step, or a sequence of them
    parts: list[list[dict[str, Any]]] = []
    for name, inner in (("pre_tokenizer", "pretokenizers"), ("decoder", "decoders")):
        part = plain.get(name)
        listed = [part]
        if isinstance(part, dict) and part.get("type") == "Sequence":
            listed = part[inner] if isinstance(part.get(inner), list) else []
        parts.append([step for step in listed if isinstance(step, dict)])
    steps, decoders = parts[0], [step.get("type") for step in parts[1]]
    if model.get("type", "BPE") != "BPE" or plain.get("normalizer") is not None:
        raise InputError(f"{path} is not a plain BPE: only byte-level BPE and char can be used")
    # 2. characters with byte fallback
    if decoders == ["ByteFallback", "Fuse"] and not steps:
        if model.get("byte_fallback") is not True or model.get("merges"):
            raise DamagedError(f"{path} is no character vocabulary with bytes; restore the file")
        return "char", "none"
    # 3. byte-level BPE: GPT-2's own pattern, or a split by one of ours
    types = [step.get("type") for step in steps]
    if decoders == ["ByteLevel"] and steps and steps[-1].get("add_prefix_space") is False:
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


def _check_vocabulary(plain: dict[str, Any], kind: str, path: Path) -> dict[str, int]:
    """Token -> id of the whole file, when the ids are 0 .. n-1 and every byte has one."""
    # 1. special tokens and others added after training may repeat those of the vocabulary
    added = plain.get("added_tokens")
    if not isinstance(added, list) or not all(isinstance(each, dict) for each in added):
        raise DamagedError(f"{path} lists no added tokens; restore the file")
    vocabulary: dict[str, int] = plain["model"]["vocab"]
    ids = dict(vocabulary)
    for each in added:
        name, number = each.get("content"), each.get("id")
        if not isinstance(name, str) or ids.get(name, number) != number:
            raise DamagedError(f"{path}: the added token {name!r} has two ids; restore the file")
        ids[name] = number
    # 2. the rows of the embedding matrix are 0 .. n-1
    if any(type(number) is not int for number in ids.values()):
        raise DamagedError(f"{path} has an id that is no whole number; restore the file")
    if sorted(ids.values()) != list(range(len(ids))):
        raise DamagedError(
            f"{path}: the ids of {len(ids)} tokens are not 0 to {len(ids) - 1}; restore the file"
        )
    # 3. without an id for every byte, some text could not be written down
    for byte, token in (BYTE_TOKENS if kind == "char" else BYTE_TO_CHARACTER).items():
        if token not in vocabulary:
            raise DamagedError(f"{path} has no token for the byte {byte}; restore the file")
    return ids
