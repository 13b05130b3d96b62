"""GGUF, the one-file format of llama.cpp, Ollama and LM Studio; written with the `gguf` package.

llama.cpp's own converter refuses every byte-level vocabulary it has not seen before, so the file is
written here, from the run's twin in transformers. Format: ggml's docs/gguf.md.
"""

import json
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import MissingExtra
from ..runs.load import Loaded
from ..tokenizers import chat_template
from .base import (
    Floats,
    ParityProbe,
    ProbeAnswer,
    describe,
    example,
    only_writes,
    twin,
    why_no_twin,
)
from .shared.ggml_vocabulary import add_vocabulary, why_no_vocabulary

DTYPES = ("f16", "f32", "bf16", "q8_0")
# llama.cpp looks GPT-2's GELU up in a table of 16-bit numbers, and multiplies 16-bit weights with
# activations rounded to 16 bits; both are far below what a wrong tensor does (docs/exports.md)
BOUNDS = {"f32": 0.01, "f16": 0.02, "bf16": 0.1}
WRITES, CHECKS, EXTRA = ("gguf",), ("xllamacpp",), "gguf"
RUNTIME, LIBRARY = "llama.cpp", "gguf"

Q8_BLOCK = 32
"""q8_0 stores rows in blocks of so many weights with a common scale."""

KINDS = {"GPT2LMHeadModel": "gpt2", "LlamaForCausalLM": "llama", "Qwen3ForCausalLM": "qwen3"}
"""Classes of transformers, and what llama.cpp calls them."""

TOP = {
    "transformer.wte.weight": "token_embd.weight",
    "transformer.wpe.weight": "position_embd.weight",
    "transformer.ln_f.weight": "output_norm.weight",
    "transformer.ln_f.bias": "output_norm.bias",
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
IN_BLOCK = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def refuse(loaded: Loaded, dtype: str) -> str | None:
    """Why llama.cpp cannot compute this run."""
    config = describe(loaded)
    if reason := only_writes(loaded, RUNTIME):
        return reason
    if config is None:
        return why_no_twin(loaded, RUNTIME)
    kind = config["architectures"][0]
    if kind not in KINDS:
        return f"llama.cpp generates text with {', '.join(KINDS)}, not with {kind}"
    if kind == "GPT2LMHeadModel" and config["activation_function"] != "gelu_new":
        return f"llama.cpp's gpt2 has another activation than {config['activation_function']}"
    return why_no_vocabulary(loaded.tokenizer)


def write(loaded: Loaded, folder: Path, dtype: str) -> None:
    """NAME.gguf, and a Modelfile for Ollama beside it."""
    try:
        import gguf
    except ImportError as error:
        raise MissingExtra("gguf", EXTRA, "writing GGUF") from error

    source = twin(loaded)
    name = file_name(loaded, dtype)
    writer = gguf.GGUFWriter(folder / name, KINDS[source.kind])
    writer.add_name(str(loaded.record.get("name", loaded.folder.name)))
    writer.add_file_type(FILE_TYPES[dtype])
    _add_shape(writer, KINDS[source.kind], source.config)
    add_vocabulary(writer, loaded.tokenizer, source.config["vocab_size"])
    talks = loaded.record["task"] in chat_template.TASKS
    if talks:
        writer.add_chat_template(chat_template.TEMPLATE)
        writer.add_eot_token_id(loaded.tokenizer.special_token_ids["end"])
    for name_there, tensor in rename(KINDS[source.kind], source.config, source.weights):
        kind = _storage(name_there, tensor, dtype)
        quantised = gguf.GGMLQuantizationType[kind]
        values = np.ascontiguousarray(tensor.float().numpy())
        if kind in ("F32", "F16"):
            writer.add_tensor(name_there, values.astype(np.dtype(f"float{kind[1:]}")))
        else:
            packed = gguf.quants.quantize(values, quantised)
            writer.add_tensor(name_there, packed, raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    border = example(loaded).rpartition(".")[2] if not talks and "." in example(loaded) else ""
    modelfile = (TALKING_MODELFILE if talks else MODELFILE).format(name=name, border=border)
    (folder / "Modelfile").write_text(modelfile, encoding="utf-8")


FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}
"""general.file_type, as ggml numbers them."""

MODELFILE = """FROM ./{name}
TEMPLATE {{{{ .Prompt }}}}{border}
PARAMETER temperature 0.8
"""

TALKING_MODELFILE = """FROM ./{name}
TEMPLATE \"\"\"{{{{- range .Messages }}}}<|im_start|>{{{{ .Role }}}}
{{{{ .Content }}}}<|im_end|>
{{{{ end }}}}<|im_start|>assistant
\"\"\"
PARAMETER stop <|im_end|>
PARAMETER temperature 0.8
"""


def file_name(loaded: Loaded, dtype: str) -> str:
    """As people name such files: the model, then the dtype."""
    name = str(loaded.record.get("name", loaded.folder.name))
    plain = "".join(each if each.isalnum() or each in "-_." else "-" for each in name)
    return f"{plain.strip('.') or 'model'}-{dtype}.gguf"


def rename(
    kind: str, config: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """The tensors as llama.cpp names and lays them out, [out, in]."""
    for name, tensor in weights.items():
        if name in TOP:
            yield TOP[name], tensor
            continue
        _, _, place, inner = name.split(".", 3)  # transformer.h.0.… or model.layers.0.…
        part, _, end = inner.rpartition(".")
        if kind == "gpt2" and tensor.dim() == 2:
            tensor = tensor.mT  # theirs is stored [in, out]
        if kind == "llama" and part.endswith(("q_proj", "k_proj")):
            heads = "num_attention_heads" if part.endswith("q_proj") else "num_key_value_heads"
            tensor = interleave(tensor, config[heads])
        yield f"blk.{place}.{IN_BLOCK[part]}.{end}", tensor


def interleave(weight: Tensor, heads: int) -> Tensor:
    """Query or key weights (heads * D, W) for llama.cpp's `llama`, which turns dimension 2i with
    2i + 1 where ours turns i with i + D/2. Its `qwen3` turns as ours does."""
    rows, width = weight.shape
    halves = weight.view(heads, 2, rows // heads // 2, width)
    return halves.transpose(1, 2).reshape(rows, width)


def _add_shape(writer: Any, kind: str, config: Mapping[str, Any]) -> None:
    if kind == "gpt2":
        writer.add_context_length(config["n_positions"])
        writer.add_embedding_length(config["n_embd"])
        writer.add_block_count(config["n_layer"])
        writer.add_feed_forward_length(config["n_inner"] or 4 * config["n_embd"])
        writer.add_head_count(config["n_head"])
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    else:
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_embedding_length(config["hidden_size"])
        writer.add_block_count(config["num_hidden_layers"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_head_count(config["num_attention_heads"])
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
        writer.add_rope_dimension_count(config["head_dim"])
        writer.add_rope_freq_base(config["rope_theta"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _storage(name: str, tensor: Tensor, dtype: str) -> str:
    """What one tensor is stored as: vectors and positions are small, and are kept whole."""
    if tensor.dim() < 2 or name.startswith("position_embd"):
        return "F32"
    if dtype == "q8_0" and tensor.size(-1) % Q8_BLOCK:
        return "F16"  # a row that no number of blocks fills
    if dtype == "f16" and float(tensor.abs().max()) > torch.finfo(torch.float16).max:
        return "F32"
    return dtype.upper()


def answer(folder: Path, probe: ParityProbe) -> ProbeAnswer:
    """llama.cpp's ids, and its greedy text with the probabilities of all tokens."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(next(folder.glob("*.gguf")))
    longest = zip(probe.prompts, probe.counts, strict=True)
    params.n_ctx = max(len(prompt) + count for prompt, count in longest) + 1
    params.cpuparams.n_threads = 1
    params.n_gpu_layers = 0
    params.warmup = params.fit_params = False
    params.verbosity = -1
    # keys and values are rounded to 16 bits unless one asks for more
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(params)  # answers on this machine's own address only
    ids, tokens, logits = [], [], []
    for text in probe.texts:
        plain = {"content": text, "add_special": False, "parse_special": False}
        ids.append(_post(server, "tokenize", plain)["tokens"])
    letter = _post(server, "tokenize", {"content": "e", "add_special": False})["tokens"][0]
    for prompt, count in zip(probe.prompts, probe.counts, strict=True):
        request = {
            "prompt": list(prompt),
            "n_predict": count,
            "samplers": ["top_k"],
            "top_k": 1,
            "return_tokens": True,
            "ignore_eos": True,
        }
        written = _post(server, "completion", request)["tokens"]
        tokens.append(written)
        logits.append(
            np.stack([_step(server, [*prompt, *written[:i]], letter) for i in range(count)])
        )
    return ProbeAnswer(ids, tokens, logits, normalised=True)


def _step(server: Any, text: list[int], letter: int) -> Floats:
    """(V,) logarithms of the probabilities of what may follow.

    The server leaves them out where the token it takes is a part of a character, so it is made to
    take a letter; the probabilities are those before that.
    """
    request = {
        "prompt": text,
        "n_predict": 1,
        "n_probs": 1 << 24,
        "samplers": ["top_k"],
        "top_k": 1,
        "logit_bias": [[letter, 1e6]],
    }
    (step,) = _post(server, "completion", request)["completion_probabilities"]
    found = {entry["id"]: entry["logprob"] for entry in step["top_logprobs"]}
    return np.array([found.get(number, np.nan) for number in range(len(found))], dtype=np.float32)


def _post(server: Any, verb: str, request: dict[str, Any]) -> Any:
    """One request to the server in this very process."""
    address = f"{server.listening_address}/{verb}"
    body = json.dumps(request).encode()
    headers = {"Content-Type": "application/json"}
    sent = urllib.request.Request(address, body, headers)  # noqa: S310
    # no proxy: it is this process that listens
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(sent) as reply:
        return json.load(reply)


def usage(loaded: Loaded, dtype: str) -> str:
    """How to write with it."""
    name = file_name(loaded, dtype)
    usage = TALKING_USAGE if loaded.record["task"] in chat_template.TASKS else USAGE
    model = name.removesuffix(".gguf").lower()
    said = "makes one text of another" if not loaded.task.echo_prompt else "goes on with a text"
    return usage.format(name=name, model=model, prompt=example(loaded), said=said)


USAGE = """```
llama-completion -m {name} -no-cnv -p "{prompt}"
ollama create {model} -f Modelfile && ollama run {model} "It was"
```

LM Studio, and everything else built on llama.cpp, opens `{name}` as it is. The model {said}; it
has learnt no chat_template.
"""

TALKING_USAGE = """```
llama-cli -m {name} -cnv
ollama create {model} -f Modelfile && ollama run {model}
```

LM Studio, and everything else built on llama.cpp, opens `{name}` as it is; how a conversation is
written is in the file.
"""
