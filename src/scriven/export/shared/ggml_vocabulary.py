"""Our tokenizers as llama.cpp knows them.

    bpe     `gpt2`: the merges, and the splitting pattern by llama.cpp's name for it
    byte    `gpt2` without merges: the pattern does not matter where nothing is merged
    char    `llama`: characters with byte fallback; without longer tokens nothing is merged
    word    none: no pattern of llama.cpp splits as ours does and takes whole words

Knows no model.
"""

import json
from typing import Any

from ...tokenizers import Tokenizer
from ...tokenizers.alphabet import CHARACTER_TO_BYTE, byte_token

PATTERNS = {"gpt2": "gpt-2", "llama3": "llama-bpe", "qwen2": "qwen2"}
"""tokenizer.ggml.pre of our splitting patterns."""

SPACE = "\u2581"
"""How the `llama` tokenizer spells a space, and therefore cannot spell this character itself."""

NEVER = "\u0100\u0100 \u0100\u0100"
"""llama.cpp wants a list of merges; this one needs tokens that no vocabulary of bytes has."""

_NORMAL, _CONTROL, _UNUSED, _BYTE = 1, 3, 5, 6  # llama_token_type


def why_no_vocabulary(tokenizer: Tokenizer) -> str | None:
    """Why llama.cpp would turn text into other ids; None where it does not."""
    if tokenizer.kind == "word":
        return (
            "llama.cpp has no word tokenizer: train with --tokenizer.kind bpe, char or byte to "
            "take a model there"
        )
    if tokenizer.kind == "char" and SPACE in tokenizer.backend.get_vocab():
        return f"llama.cpp spells a space as {SPACE}, and this vocabulary has that character too"
    if tokenizer.kind == "bpe" and tokenizer.pattern not in PATTERNS:
        return f"llama.cpp does not know the splitting pattern {tokenizer.pattern}"
    if tokenizer.kind == "bpe" and tokenizer.pattern == "llama3":
        return _shortcut(tokenizer)
    return None


def _shortcut(tokenizer: Tokenizer) -> str | None:
    """llama.cpp takes a word that is a token whole, without asking the merges."""
    for number in range(tokenizer.vocab_size):
        text = tokenizer.spell(number).decode("utf-8", "replace")
        if not text or "\ufffd" in text:
            continue
        words = tokenizer.backend.pre_tokenizer.pre_tokenize_str(text)
        if len(words) == 1 and tokenizer.encode(text) != [number]:
            return f"llama.cpp would take {text!r} as one token, our merges do not"
    return None


def add_vocabulary(writer: Any, tokenizer: Tokenizer, size: int) -> None:
    """Writes tokens, merges and special ids into a GGUFWriter; `size` rows have weights."""
    whole = tokenizer.backend.get_vocab(with_added_tokens=True)
    names = sorted(whole, key=lambda name: whole[name])
    is_char = tokenizer.kind == "char"
    bytes_spelt = {byte_token(byte) for byte in range(256)} if is_char else set()
    kinds = []
    for name in names:
        if name in tokenizer.special:
            kinds.append(_CONTROL)
        else:
            kinds.append(_BYTE if name in bytes_spelt else _NORMAL)
    missing = range(len(names), size)  # llama.cpp wants a name for every row
    names += [f"[PAD{number}]" for number in missing]
    kinds += [_UNUSED] * len(missing)
    if is_char:
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list([SPACE if name == " " else name for name in names])
        writer.add_token_scores([0.0] * len(names))
        writer.add_add_space_prefix(False)
    else:
        assert set(CHARACTER_TO_BYTE) <= whole.keys(), "a byte without a token"
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(PATTERNS.get(tokenizer.pattern, "gpt-2"))
        writer.add_token_list(names)
        writer.add_token_merges(_merges(tokenizer) or [NEVER])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(tokenizer.eos)  # a text starts as if another had just ended
    writer.add_eos_token_id(tokenizer.eos)
    writer.add_pad_token_id(tokenizer.pad)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)


def _merges(tokenizer: Tokenizer) -> list[str]:
    merges = json.loads(tokenizer.backend.to_str())["model"]["merges"]
    return [pair if isinstance(pair, str) else " ".join(pair) for pair in merges]
