"""Loading tokenizer.json and tokenizer_config.json with care; `Tokenizer.save` writes them.

A folder may come from anybody, so nothing in it is believed before it is checked; a vocabulary
with gaps or a splitting pattern that we do not know would give a model other ids than it learnt.
"""

import json
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers.decoders import ByteFallback, ByteLevel, Fuse, Sequence
from tokenizers.models import BPE

import tokenizers

from ..errors import DamagedError, InputError
from ..manifest import read_file
from .base import BYTE_TO_CHARACTER, BYTE_TOKENS, EOS, PAD, Tokenizer, kinds, parts, tokenizer_class
from .chat_template import TEMPLATE, TEMPLATE_FILE
from .imported import ImportedTokenizer
from .jinja_template import turn_tokens
from .patterns import PATTERNS, pre_tokenizer
from .sentencepiece import parse_model, tokenizer_json

MODEL_FILE = "tokenizer.model"
USUAL_EOS = ("</s>", "<|im_end|>", "<eos>", "[SEP]")
"""What ends a text where no file says so."""
_SPECIAL = re.compile(r"<\|?[a-z_]+\|?>|</s>|\[[A-Z]+\]")

FILE_LIMIT = 256 * 1024 * 1024
"""Bytes of tokenizer.json."""


def load_tokenizer(place: Path) -> Tokenizer:
    """The tokenizer of a run folder, or of a folder in the Hugging Face layout.

    Kinds of our own are recognised by their parts; any other is kept as the file has it. Without a
    tokenizer.json, `vocab.json` with `merges.txt` and SentencePiece's `tokenizer.model` are read.

    Args:
        place: the folder, or its tokenizer.json, which may stand alone.

    Raises:
        InputError: a file is missing, or the tokenizer is of a kind we do not know.
        DamagedError: a file is not what a tokenizer writes.
    """
    if not place.exists():
        raise InputError(f"{place} does not exist: name a run, a folder or a tokenizer.json")
    path = place / "tokenizer.json" if place.is_dir() else place
    other = _other_format(path.parent) if not path.exists() else None
    text, plain = _read(path) if other is None else (json.dumps(other), other)
    config: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if path.with_name(name).exists():
            config |= _read(path.with_name(name))[1]
    if path != place and other is None and not path.with_name("tokenizer_config.json").exists():
        _read(path.with_name("tokenizer_config.json"))  # says that it is missing
    template = path.with_name(TEMPLATE_FILE)
    if template.is_file():
        config["chat_template"] = read_file(template, FILE_LIMIT).decode("utf-8", "replace")
    return build_tokenizer(text, plain, config, path)


def build_tokenizer(
    text: str, plain: dict[str, Any], config: Mapping[str, Any], path: Path
) -> Tokenizer:
    """A tokenizer from the content of its files.

    Args:
        text: of tokenizer.json. plain: the same, parsed.
        config: the content of tokenizer_config.json.
        path: for messages.

    Raises:
        InputError, DamagedError: as `load_tokenizer`.
    """
    # 1. what the parts of the file say; byte, word and other kinds of ours look like bpe
    ids = _vocabulary(plain, path)
    found = _kind_and_pattern(plain, ids, path)
    kind, pattern = found or ("imported", "none")
    kind_class = ImportedTokenizer if found is None else tokenizer_class(kind)
    declared = config.get("scriven_kind")
    if declared in kinds():
        if found is None:
            raise DamagedError(f"{path} is no tokenizer of the kind {declared}: restore the file")
        declared_class = tokenizer_class(str(declared))
        if declared_class.is_byte_level == kind_class.is_byte_level:
            kind_class = declared_class
    # 2. the special tokens; ours, or those of an imported model
    special = _special_tokens(config, ids, path)
    # 3. the library
    try:
        backend = tokenizers.Tokenizer.from_str(text)
        if kind == "char":
            backend.decoder = Sequence([ByteFallback(), Fuse()])
        tokenizer = kind_class(
            backend, pattern, special["eos"], special["pad"], special.get("mask")
        )
    except BaseException as error:  # it raises plain Exception, or what a panic of Rust becomes
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split())[:200]
        raise DamagedError(f"{path} is no tokenizer: {reason}") from error
    # 4. what only imported models have
    tokenizer.bos_token, tokenizer.unk_token = special.get("bos"), special.get("unk")
    template = config.get("chat_template")
    if isinstance(template, list):  # several, of which one is named default
        named = [each for each in template if isinstance(each, dict)]
        default = (each.get("template") for each in named if each.get("name") == "default")
        template = next(default, None)
    if isinstance(template, str) and template != TEMPLATE:
        tokenizer.chat_template = template
        tokenizer.turn_ids = turn_tokens(tokenizer)
    return tokenizer


def _special_tokens(
    config: Mapping[str, Any], ids: Mapping[str, int], path: Path
) -> dict[str, str]:
    """The special tokens of a vocabulary by their role; `eos` and `pad` are always among them.

    Raises:
        InputError: nothing says which token ends a text.
    """
    special: dict[str, str] = {}
    for role in ("eos", "pad", "mask", "bos", "unk"):
        token = config.get(f"{role}_token")
        token = token.get("content") if isinstance(token, dict) else token  # or an object
        if isinstance(token, str) and token in ids:
            special[role] = token
    if "eos" not in special:
        usual = [each for each in (EOS, *USUAL_EOS) if each in ids]
        if not usual:
            raise InputError(
                f"{path.with_name('tokenizer_config.json')} names no eos_token of {path.name}"
            )
        special["eos"] = usual[0]
    # a padding token of its own is not needed
    special.setdefault("pad", PAD if PAD in ids else special["eos"])
    return special


def _other_format(folder: Path) -> dict[str, Any] | None:
    """What tokenizer.json would hold, of a folder with an older format; None where it has none.

    Raises:
        DamagedError: a file is not what it should be.
    """
    vocab, merges, model = (folder / name for name in ("vocab.json", "merges.txt", MODEL_FILE))
    if vocab.is_file() and merges.is_file():
        _, ids = _read(vocab)
        lines = read_file(merges, FILE_LIMIT).decode("utf-8", "replace").splitlines()
        pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        if any(len(pair) != 2 for pair in pairs):
            raise DamagedError(f"{merges} is no list of merges: get the file again")
        return byte_level_json(ids, pairs, "gpt2")
    if not model.is_file():
        return None
    try:
        return tokenizer_json(parse_model(bytes(read_file(model, FILE_LIMIT))))
    except (ValueError, KeyError, AttributeError, struct.error) as error:
        raise DamagedError(f"{model} is no SentencePiece model: get the file again") from error


def byte_level_json(
    ids: Mapping[str, int], merges: list[list[str]], pattern: str, special: Iterable[str] = ()
) -> dict[str, Any]:
    """The content of tokenizer.json for byte-level BPE.

    Args:
        ids: token -> id.
        merges: pairs, the first to be merged first.
        pattern: as for `patterns.pre_tokenizer`.
        special: tokens that are no text.
    """
    # tokens that spell a special token have the angle brackets of one
    names = [*special] or [each for each in ids if _SPECIAL.fullmatch(each)]
    added = [
        {
            "id": ids[name], "content": name, "special": True, "single_word": False,
            "lstrip": False, "rstrip": False, "normalized": False,
        }
        for name in names
    ]  # fmt: skip
    splitter = tokenizers.Tokenizer(BPE())
    splitter.pre_tokenizer, splitter.decoder = pre_tokenizer(pattern), ByteLevel()
    plain: dict[str, Any] = json.loads(splitter.to_str())
    plain["added_tokens"] = sorted(added, key=lambda each: each["id"])
    plain["model"] |= {
        "vocab": dict(ids), "merges": merges, "ignore_merges": pattern == "llama3"
    }  # fmt: skip
    return plain


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


def _kind_and_pattern(
    plain: dict[str, Any], ids: Mapping[str, int], path: Path
) -> tuple[str, str] | None:
    """(kind, pattern) of a tokenizer of ours that the file describes, from its parts alone; None
    for any other."""
    model = plain["model"]
    steps, decoders = parts(plain, "pre_tokenizer"), parts(plain, "decoder")
    names, types = [step.get("type") for step in decoders], [step.get("type") for step in steps]
    if model.get("type", "BPE") != "BPE" or plain.get("normalizer") is not None:
        return None
    # 1. characters with byte fallback
    if names == ["ByteFallback", "Fuse"] and not steps:
        if model.get("byte_fallback") is not True or model.get("merges"):
            raise DamagedError(f"{path} is no character vocabulary with bytes; restore the file")
        for byte, token in BYTE_TOKENS.items():  # else some text could not be written down
            if token not in model["vocab"]:
                raise DamagedError(f"{path} has no token for the byte {byte}; restore the file")
        return "char", "none"
    # 2. byte-level BPE: GPT-2's own pattern, or a split by one of ours
    if names != ["ByteLevel"] or not steps or steps[-1].get("add_prefix_space") is not False:
        return None
    # without an id for every byte, or with ids that no token has, it is not ours
    complete = set(BYTE_TO_CHARACTER.values()) <= model["vocab"].keys()
    if not complete or sorted(ids.values()) != list(range(len(ids))):
        return None
    if types == ["ByteLevel"]:
        return "bpe", "gpt2" if steps[0].get("use_regex", True) else "none"
    if types == ["Split", "ByteLevel"] and steps[1].get("use_regex") is False:
        split = steps[0].get("pattern")
        regex = split.get("Regex") if isinstance(split, dict) else None
        whole = steps[0].get("behavior") == "Isolated" and steps[0].get("invert") is False
        for name, known in PATTERNS.items():
            if known == regex and whole:
                return "bpe", name
    return None


def _vocabulary(plain: dict[str, Any], path: Path) -> dict[str, int]:
    """Token -> id of the whole file, when no token has two ids and no id is out of bounds."""
    model = plain.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not vocabulary or not isinstance(vocabulary, dict | list):
        raise InputError(f"{path} holds no vocabulary: get the model's tokenizer.json")
    # special tokens and others added after training may repeat those of the vocabulary
    added = plain.get("added_tokens")
    if not isinstance(added, list) or not all(isinstance(each, dict) for each in added):
        raise DamagedError(f"{path} lists no added tokens; restore the file")
    if isinstance(vocabulary, list):  # Unigram: tokens with their scores, in the order of the ids
        try:
            ids = {str(token): number for number, (token, _) in enumerate(vocabulary)}
        except (TypeError, ValueError) as error:
            raise DamagedError(f"{path} is no list of tokens and scores") from error
    else:
        ids = dict(vocabulary)
    for each in added:
        name, number = each.get("content"), each.get("id")
        if not isinstance(name, str) or ids.get(name, number) != number:
            raise DamagedError(f"{path}: the added token {name!r} has two ids; restore the file")
        ids[name] = number
    if any(type(number) is not int for number in ids.values()):
        raise DamagedError(f"{path} has an id that is no whole number; restore the file")
    # the rows of the embedding matrix begin at 0; an imported file may have gaps between them
    if not ids or min(ids.values()) < 0 or max(ids.values()) >= 2 * len(ids) + 1024:
        raise DamagedError(
            f"{path}: the ids of {len(ids)} tokens are not 0 to {len(ids) - 1}; restore the file"
        )
    if len(set(ids.values())) < len(ids):
        raise DamagedError(f"{path}: two tokens have the same id; restore the file")
    return ids
