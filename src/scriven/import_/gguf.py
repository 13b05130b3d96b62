"""A GGUF file as the Hugging Face folder that it was made from: config, tokenizer and weights.

Nothing is written. The weights are taken back to floating point one tensor at a time, straight into
the model. Source of the keys: ggml's docs/gguf.md; of the splitting patterns: llama.cpp's
llama-vocab.cpp.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import DamagedError, InputError
from ..tokenizers import Tokenizer
from ..tokenizers.base import parts
from ..tokenizers.files import build_tokenizer, byte_level_json
from ..tokenizers.patterns import PATTERNS
from ..tokenizers.sentencepiece import (
    BPE,
    CONTROL,
    UNIGRAM,
    UNUSED,
    USER_DEFINED,
    SentencePieceModel,
    tokenizer_json,
)
from .gguf_file import GGUFFile
from .gguf_names import ADDS_ONE, ARCHITECTURES, INTERLEAVED, tensor_name
from .huggingface import HFModel, find_architecture
from .tensors import copy_weight

CLASSES = {architecture: name for name, architecture in ARCHITECTURES.items()}

_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+{end}|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*{end}|"
    r"{digits}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""A capital letter begins a word (GPT-4o)."""
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PRE = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "roberta-bpe"), "gpt2"),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
        "digits",
    ),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "dbrx", "smaug-bpe"), "llama3"),
    **dict.fromkeys(("qwen2", "stablelm2", "deepseek-r1-qwen", "hunyuan", "megrez"), "qwen2"),
    "tekken": _CASED.replace("{end}", "").replace("{digits}", r"\p{N}"),
    "gpt-4o": _CASED.replace("{end}", _CONTRACTIONS).replace("{digits}", r"\p{N}{1,3}"),
}
"""tokenizer.ggml.pre -> our pattern, `digits` (single digits, then GPT-2's), or a regular
expression."""
OURS = ("gpt2", "llama3", "qwen2")
"""Patterns that our own tokenizers have."""
NFC = ("qwen2", "deepseek-r1-qwen")
"""Those whose original tokenizer normalises its text."""


def open_gguf(path: Path) -> HFModel:
    """Reads the header of a file and refuses what cannot be used.

    Raises:
        InputError: an architecture, a tokenizer or a quantisation that we do not have.
        DamagedError: the file is not whole.
    """
    file = GGUFFile(path)
    kind = str(file.metadata.get("general.architecture"))[:40]
    if kind not in CLASSES:
        raise InputError(
            f"{file.where} is a model of the architecture {kind!r}, and GGUF files of "
            f"{', '.join(CLASSES)} can be read: get it in the Hugging Face layout"
        )
    try:
        hf_config = _hf_config(file, kind)
        tokenizer = _tokenizer(file)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        reason = " ".join(str(error).split())[:80]
        raise DamagedError(
            f"{file.where} lacks metadata that a {kind} needs ({reason}): get the file again"
        ) from error
    name, module, model_config = find_architecture(hf_config, file.where)
    if tokenizer.vocab_size > model_config.vocab_size:
        raise DamagedError(
            f"{file.where} has {tokenizer.vocab_size:,} tokens and weights for "
            f"{model_config.vocab_size:,}: get the file again"
        )
    license_ = file.metadata.get("general.license")
    return HFModel(
        path, path.stem, hf_config, CLASSES[kind], name, module, model_config, tokenizer,
        lambda into: _fill(file, kind, hf_config, into),
        license=license_ if isinstance(license_, str) else None,
    )  # fmt: skip


def _hf_config(file: GGUFFile, kind: str) -> dict[str, Any]:
    """The config.json of the same model."""
    prefix = f"{kind}."
    values = {
        name.removeprefix(prefix): value
        for name, value in file.metadata.items()
        if name.startswith(prefix)
    }
    rows, width = file.tensors["token_embd.weight"].shape
    ids = {
        f"{role}_token_id": int(file.metadata[f"tokenizer.ggml.{role}_token_id"])
        for role in ("bos", "eos")
        if f"tokenizer.ggml.{role}_token_id" in file.metadata
    }
    common = {"architectures": [CLASSES[kind]], "model_type": kind, "vocab_size": rows, **ids}
    context, layers = int(values["context_length"]), int(values["block_count"])
    heads, feed_forward = int(values["attention.head_count"]), int(values["feed_forward_length"])
    tied = "output.weight" not in file.tensors
    if kind == "gpt2":
        return {
            **common, "n_positions": context, "n_embd": width, "n_layer": layers, "n_head": heads,
            "n_inner": feed_forward, "activation_function": "gelu_new",
            "layer_norm_epsilon": float(values["attention.layer_norm_epsilon"]),
            "tie_word_embeddings": tied,
        }  # fmt: skip
    head_dim = int(values.get("attention.key_length", width // heads))
    config = {
        **common,
        "hidden_size": width,
        "intermediate_size": feed_forward,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": int(values.get("attention.head_count_kv", heads)),
        "head_dim": head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": float(values["attention.layer_norm_rms_epsilon"]),
        "max_position_embeddings": context,
        "tie_word_embeddings": tied,
        "rope_theta": float(values.get("rope.freq_base", 10000.0)),
        **_rope_scaling(file, values, head_dim, context),
    }
    rotated = int(values.get("rope.dimension_count", head_dim))
    if rotated != head_dim:
        config["partial_rotary_factor"] = rotated / head_dim
    return config | _gemma(kind, values, layers, head_dim)


def _gemma(kind: str, values: Mapping[str, Any], layers: int, head_dim: int) -> dict[str, Any]:
    """What Gemma has and the metadata leaves out, because llama.cpp knows it."""
    if not kind.startswith("gemma"):
        return {}
    period = 2 if kind == "gemma2" else 6  # the last of so many layers attends to everything
    config: dict[str, Any] = {
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_act": "gelu_pytorch_tanh",
        "sliding_window": int(values["attention.sliding_window"]),
        "query_pre_attn_scalar": head_dim,
        "layer_types": [
            "full_attention" if (layer + 1) % period == 0 else "sliding_attention"
            for layer in range(layers)
        ],
    }
    if kind == "gemma3":
        return config | {"rope_local_base_freq": 10000.0, "model_type": "gemma3_text"}
    return config | {
        "attn_logit_softcapping": float(values["attn_logit_softcapping"]),
        "final_logit_softcapping": float(values["final_logit_softcapping"]),
    }


def _rope_scaling(
    file: GGUFFile, values: Mapping[str, Any], head_dim: int, context: int
) -> dict[str, Any]:
    """How positions are scaled: from the metadata, or from Llama 3's tensor of factors."""
    kind = values.get("rope.scaling.type")
    original = int(values.get("rope.scaling.original_context_length", context))
    if kind in ("linear", "yarn"):
        scaling = {"rope_type": kind, "factor": float(values["rope.scaling.factor"])}
        if kind == "yarn":
            scaling["original_max_position_embeddings"] = original
        return {"rope_scaling": scaling}
    if "rope_freqs.weight" not in file.tensors:
        return {}
    # each frequency is divided by 1 (high ones) to `factor` (low ones); the bounds are the same in
    # all models of Llama 3, and the factors in the file must be those that follow from them
    given = file.read("rope_freqs.weight").tolist()
    factor, base = max(given), float(values.get("rope.freq_base", 10000.0))
    low, high, trained = 1.0, 4.0, 8192
    for index, found in enumerate(given):
        length = 2 * math.pi * base ** (2 * index / head_dim)
        smooth = min(1.0, max(0.0, (trained / length - low) / (high - low)))
        if abs(1 / ((1 - smooth) / factor + smooth) - found) > 1e-3 * found:
            raise InputError(
                f"{file.where} scales rotary positions in a way that is not known here: get the "
                "model in the Hugging Face layout"
            )
    scaling = {
        "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
        "original_max_position_embeddings": trained,
    }  # fmt: skip
    return {"rope_scaling": scaling}


def _tokenizer(file: GGUFFile) -> Tokenizer:
    """The tokenizer of the metadata."""
    metadata = {
        name.removeprefix("tokenizer.ggml."): value
        for name, value in file.metadata.items()
        if name.startswith("tokenizer.ggml.")
    }
    tokens: list[str] = metadata["tokens"]
    types = [int(each) for each in metadata.get("token_type", [1] * len(tokens))]
    kind, pre = str(metadata.get("model")), str(metadata.get("pre", "default"))
    if kind == "gpt2":
        plain = _byte_level(file, metadata, tokens, types, pre)
    elif kind in ("llama", "t5"):
        model = SentencePieceModel(
            tokens, [float(each) for each in metadata["scores"]], types,
            BPE if kind == "llama" else UNIGRAM, bool(metadata.get("add_space_prefix", True)),
            int(metadata.get("unknown_token_id", 0)),
            bytes(metadata.get("precompiled_charsmap", b"")),
        )  # fmt: skip
        plain = tokenizer_json(model)
    else:
        raise InputError(
            f"{file.where} has a tokenizer of the kind {kind[:40]!r}, which cannot be read: get "
            "the model in the Hugging Face layout"
        )
    roles = {"eos": "eos", "bos": "bos", "unk": "unknown", "pad": "padding", "mask": "mask"}
    config: dict[str, Any] = {
        f"{role}_token": tokens[int(metadata[f"{name}_token_id"])]
        for role, name in roles.items()
        if f"{name}_token_id" in metadata
    }
    config["chat_template"] = file.metadata.get("tokenizer.chat_template")
    adds_bos = metadata.get("add_bos_token", kind == "llama" or PRE.get(pre) == "llama3")
    if adds_bos and "bos_token" in config:
        plain["post_processor"] = _bos_first(config["bos_token"], int(metadata["bos_token_id"]))
    if kind == "gpt2":  # bytes are known, so there is nothing unknown
        config.pop("unk_token", None)
    return build_tokenizer(json.dumps(plain), plain, config, file.path)


def _byte_level(
    file: GGUFFile, metadata: Mapping[str, Any], tokens: list[str], types: list[int], pre: str
) -> dict[str, Any]:
    """tokenizer.json of a byte-level BPE; rows without a token are left out."""
    if pre not in PRE:
        raise InputError(
            f"{file.where} splits text by the pattern {pre[:40]!r}, which is not known here: get "
            "the model in the Hugging Face layout"
        )
    ids = {token: number for number, token in enumerate(tokens) if types[number] != UNUSED}
    merges = [merge.split(" ", 1) for merge in metadata["merges"]]
    added = [token for token, number in ids.items() if types[number] in (CONTROL, USER_DEFINED)]
    split = PRE[pre]
    plain = byte_level_json(ids, merges, split if split in OURS else "gpt2", added)
    for each in plain["added_tokens"]:
        each["special"] = types[each["id"]] == CONTROL
    if split not in OURS:
        first: dict[str, Any] = {"type": "Digits", "individual_digits": True}
        if split != "digits":
            regex = {"Regex": split}
            first = {"type": "Split", "pattern": regex, "behavior": "Isolated", "invert": False}
        second = {**plain["pre_tokenizer"], "use_regex": split == "digits"}
        plain["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [first, second]}
    if pre in NFC:
        plain["normalizer"] = {"type": "NFC"}
    return plain


def pre_of(tokenizer: Tokenizer) -> str | None:
    """The tokenizer.ggml.pre of an imported byte-level BPE; None where llama.cpp has none."""
    state = tokenizer.backend.pre_tokenizer and tokenizer.backend.pre_tokenizer.__getstate__()
    steps = parts({"pre_tokenizer": json.loads(state) if state else None}, "pre_tokenizer")
    kinds = [str(step.get("type")) for step in steps]
    if not kinds or kinds[-1] != "ByteLevel" or steps[-1].get("add_prefix_space"):
        return None
    if kinds == ["ByteLevel"]:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
        return "smollm"
    pattern = steps[0].get("pattern")
    if kinds != ["Split", "ByteLevel"] or not isinstance(pattern, dict):
        return None
    regexes = {name: PATTERNS.get(split, split) for name, split in PRE.items()}
    return next((name for name, regex in regexes.items() if regex == pattern.get("Regex")), None)


def _bos_first(token: str, number: int) -> dict[str, Any]:
    """A post-processor that puts a token before a text."""
    first = {"SpecialToken": {"id": token, "type_id": 0}}
    text, pair = ({"Sequence": {"id": each, "type_id": 0}} for each in "AB")
    known = {token: {"id": token, "ids": [number], "tokens": [token]}}
    return {
        "type": "TemplateProcessing", "single": [first, text], "pair": [first, text, pair],
        "special_tokens": known,
    }  # fmt: skip


def _fill(
    file: GGUFFile, kind: str, hf_config: Mapping[str, Any], into: Mapping[str, Tensor]
) -> None:
    """Copies the weights into the tensors of a model, under Hugging Face's names."""
    left = set(file.tensors) - {"rope_freqs.weight"}
    for name, target in into.items():
        stored = tensor_name(kind, name)
        if stored not in left:
            raise DamagedError(f"{file.where} lacks {stored}: get the file again")
        left.remove(stored)
        tensor = file.read(stored)
        if kind == "gpt2" and tensor.dim() == 2 and ".h." in name:
            tensor = tensor.mT  # transformers' GPT-2 stores [in, out]
        if kind in ADDS_ONE and name.endswith("norm.weight"):
            tensor = tensor - 1
        for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if kind in INTERLEAVED and f".{part}." in name:
                tensor = undo_interleave(tensor, hf_config[heads])
        copy_weight(stored, tensor, target, file.where)
    if left:
        raise DamagedError(
            f"{file.where} holds {sorted(left)[0][:80]}, which this architecture does not have here"
        )


def undo_interleave(weight: Tensor, heads: int) -> Tensor:
    """Query or key weights (heads · D, W) or biases from llama.cpp's order, which pairs dimension
    2i with 2i + 1, in ours, which pairs i with i + D/2."""
    rows = weight.size(0)
    pairs = weight.reshape(heads, rows // heads // 2, 2, -1)  # (H, D/2, 2, W)
    return pairs.transpose(1, 2).reshape(weight.shape)
