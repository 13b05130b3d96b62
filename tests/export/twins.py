"""Small random models as transformers itself saves them, with a tokenizer of ours beside them."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers

from scriven.settings import TokenizerSettings
from scriven.tokenizers import Tokenizer, train_tokenizer

TEXT = "The quick brown fox jumps over the lazy dog; naïve café, 東京 — 😀.\n" * 60

GPT = {"n_positions": 40, "n_embd": 32, "n_layer": 2, "n_head": 4}
LLAMA = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 40,
}  # fmt: skip

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt1": ("OpenAIGPTLMHeadModel", GPT),
    "gpt2": ("GPT2LMHeadModel", {**GPT, "n_inner": 48}),
    "llama": ("LlamaForCausalLM", LLAMA),
    "qwen3": (
        "Qwen3ForCausalLM",
        {**LLAMA, "head_dim": 6, "tie_word_embeddings": True,
         "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}},
    ),
    "roberta": (
        "RobertaForMaskedLM",
        {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "max_position_embeddings": 340, "type_vocab_size": 1,
         "layer_norm_eps": 1e-5},
    ),
    "marian": (
        "MarianMTModel",
        {"d_model": 32, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 4,
         "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
         "max_position_embeddings": 40, "scale_embedding": True, "activation_function": "relu",
         "forced_eos_token_id": None},
    ),
}  # fmt: skip
MASKED = ("roberta", "marian")
"""Those whose tokenizers have a mask."""


@cache
def tokenizer(mask: bool = False) -> Tokenizer:
    """A byte-level BPE of 300 tokens."""
    made = train_tokenizer("bpe", iter([TEXT]), TokenizerSettings(kind="bpe", vocab_size=300))
    return made.with_special_tokens("mask") if mask else made


def save(folder: Path, kind: str, dtype: torch.dtype | None = None, **more: Any) -> Any:
    """Writes a model into a folder and returns it.

    Args:
        more: fields of its config; `max_shard_size` and `padding_rows` are taken out first.
    """
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    how = {name: more.pop(name) for name in ("max_shard_size",) if name in more}
    words = tokenizer(kind in MASKED)
    for name, content in words.to_files(context_length=40).items():
        (folder / name).write_bytes(content)
    name, fields = KINDS[kind]
    rows = words.vocab_size + more.pop("padding_rows", 0)
    if kind == "marian":
        more = {"decoder_vocab_size": rows, "decoder_start_token_id": words.pad, **more}
    ids = {"bos_token_id": words.eos, "eos_token_id": words.eos, "pad_token_id": words.pad}
    shape = {"vocab_size": rows, **ids, **fields, **more}
    torch.manual_seed(0)
    model_class = getattr(transformers, name)
    model = model_class(model_class.config_class(**shape)).eval()
    with torch.no_grad():
        for parameter, weight in model.named_parameters():
            if "embed_positions" in parameter:  # sines, made anew by whoever loads it
                continue
            norm = "ln_" in parameter or "norm" in parameter.lower()
            weight.normal_(1.0 if norm and parameter.endswith("weight") else 0.0, 0.15)
    if dtype is not None:
        model = model.to(dtype)
    model.save_pretrained(folder, **how)
    return model
