"""GGUF, the one-file format of llama.cpp, Ollama and LM Studio; written with the `gguf` package.

llama.cpp's own converter refuses every byte-level vocabulary it has not seen before, so the file is
written here, from the run as a Hugging Face model. Format: ggml's docs/gguf.md.

Tokenizers, as llama.cpp knows them:
    bpe     `gpt2`: the merges, and the splitting pattern by llama.cpp's name for it
    byte    `gpt2` without merges: the pattern does not matter where nothing is merged
    char    `llama`: characters with byte fallback; without longer tokens nothing is merged
    word    none: no pattern of llama.cpp splits as ours does and takes whole words
"""

import json
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ...errors import MissingExtra
from ...import_.gguf import pre_of
from ...runs.load import Loaded
from ...tokenizers import Tokenizer, chat_template
from ...tokenizers.base import BYTE_TOKENS, CHARACTER_TO_BYTE
from ..base import (
    ExportTarget,
    Floats,
    ParityProbe,
    ProbeAnswer,
    example_prompt,
    hf_config,
    hf_weights,
    why_no_text,
)

# Class of transformers -> llama.cpp's architecture
ARCHITECTURES = {
    "GPT2LMHeadModel": "gpt2",
    "LlamaForCausalLM": "llama",
    "Qwen3ForCausalLM": "qwen3",
}
# general.file_type, as ggml numbers them
FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "bf16": 32}
QUANTIZED = ("q4_0", "q8_0")
BLOCK = 32  # they store rows in blocks of so many weights with a common scale

# Field of config.json -> keys of llama.cpp
CONFIG_FIELDS = {
    "n_positions": ("context_length",),
    "n_embd": ("embedding_length",),
    "n_layer": ("block_count",),
    "n_head": ("head_count",),
    "layer_norm_epsilon": ("layer_norm_eps",),
    "max_position_embeddings": ("context_length",),
    "hidden_size": ("embedding_length",),
    "num_hidden_layers": ("block_count",),
    "intermediate_size": ("feed_forward_length",),
    "num_attention_heads": ("head_count",),
    "num_key_value_heads": ("head_count_kv",),
    "head_dim": ("key_length", "value_length", "rope_dimension_count"),
    "rope_theta": ("rope_freq_base",),
    "rms_norm_eps": ("layer_norm_rms_eps",),
    "vocab_size": ("vocab_size",),
}

PATTERNS = {"gpt2": "gpt-2", "llama3": "llama-bpe", "qwen2": "qwen2"}
"""Our splitting patterns -> tokenizer.ggml.pre."""
SPACE = "\u2581"
"""How the `llama` tokenizer spells a space, and therefore cannot spell this character itself."""
NO_MERGES = ["\u0100\u0100 \u0100\u0100"]
"""llama.cpp wants a list of merges; this one needs tokens that no vocabulary of bytes has."""
_NORMAL, _CONTROL, _UNUSED, _BYTE = 1, 3, 5, 6  # llama_token_type

MODELFILE = """FROM ./{name}
TEMPLATE {{{{ .Prompt }}}}{border}
PARAMETER temperature 0.8
"""
CHAT_MODELFILE = """FROM ./{name}
TEMPLATE \"\"\"{{{{- range .Messages }}}}<|im_start|>{{{{ .Role }}}}
{{{{ .Content }}}}<|im_end|>
{{{{ end }}}}<|im_start|>assistant
\"\"\"
PARAMETER stop <|im_end|>
PARAMETER temperature 0.8
"""
IMPORTED_MODELFILE = """FROM ./{name}
PARAMETER temperature 0.8
"""
USAGE = """```
llama-completion -m {name} -no-cnv -p "{prompt}"
ollama create {model} -f Modelfile && ollama run {model} "It was"
```

LM Studio, and everything else built on llama.cpp, opens `{name}` as it is. The model {does}; it
has learnt no chat.
"""
CHAT_USAGE = """```
llama-cli -m {name} -cnv
ollama create {model} -f Modelfile && ollama run {model}
```

LM Studio, and everything else built on llama.cpp, opens `{name}` as it is; how a conversation is
written is in the file.
"""


class Target(ExportTarget):
    """llama.cpp."""

    DTYPES = ("f16", "f32", "bf16", "q8_0", "q4_0")
    # llama.cpp looks GPT-2's GELU up in a table of 16-bit numbers, and multiplies 16-bit weights
    # with activations rounded to 16 bits; a wrong tensor differs far more (docs/exports.md)
    BOUNDS: ClassVar = {"f32": 0.01, "f16": 0.02, "bf16": 0.1}
    CHECKS, EXTRA, FILE = ("xllamacpp",), "gguf", ".gguf"
    RUNTIME, LIBRARY = "llama.cpp", "gguf"

    def refuse(self, loaded: Loaded, dtype: str) -> str | None:
        """Refuses architectures, activations and tokenizers that llama.cpp does not have."""
        if reason := why_no_text(loaded, self.RUNTIME, ARCHITECTURES):
            return reason
        activation = (hf_config(loaded) or {}).get("activation_function", "gelu_new")
        if activation != "gelu_new":  # a field of GPT-2's alone
            return f"llama.cpp's gpt2 has another activation than {activation}"
        return why_no_vocabulary(loaded.tokenizer)

    def write(self, loaded: Loaded, folder: Path, dtype: str) -> None:
        """NAME.gguf, and a Modelfile for Ollama beside it."""
        try:
            import gguf
        except ImportError as error:
            raise MissingExtra("gguf", self.EXTRA, "writing GGUF") from error

        config = hf_config(loaded)
        assert config is not None, "refuse() comes first"
        architecture = ARCHITECTURES[config["architectures"][0]]
        name = file_name(loaded, dtype)
        # 1. metadata: the shape of the model, its tokenizer and its chat template
        writer = gguf.GGUFWriter(folder / name, architecture)
        writer.add_name(str(loaded.metadata.get("name", loaded.folder.name)))
        writer.add_file_type(FILE_TYPES[dtype])
        for field, keys in CONFIG_FIELDS.items():
            if field in config:
                for key in keys:
                    getattr(writer, f"add_{key}")(config[field])
        if architecture == "gpt2":
            writer.add_feed_forward_length(config["n_inner"] or 4 * config["n_embd"])
        add_vocabulary(writer, loaded.tokenizer, config["vocab_size"])
        template = chat_template.template_of(loaded.tokenizer, loaded.metadata["task"])
        is_chat = template is not None
        if template is not None:
            special = loaded.tokenizer.special_token_ids
            writer.add_chat_template(template)
            writer.add_eot_token_id(special.get("end", loaded.tokenizer.eos))
        # 2. the tensors under llama.cpp's names
        for ggml_name, tensor in rename(architecture, config, hf_weights(loaded)):
            storage = _storage(ggml_name, tensor, dtype)
            values = np.ascontiguousarray(tensor.float().numpy())
            if storage in ("F32", "F16"):
                writer.add_tensor(ggml_name, values.astype(np.dtype(f"float{storage[1:]}")))
            else:
                quantization = gguf.GGMLQuantizationType[storage]
                packed = gguf.quants.quantize(values, quantization)
                writer.add_tensor(ggml_name, packed, raw_dtype=quantization)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        # 3. the Modelfile, with what a task writes between prompt and answer
        prompt = example_prompt(loaded)
        border = prompt.rpartition(".")[2] if not is_chat and "." in prompt else ""
        form = CHAT_MODELFILE if is_chat else MODELFILE
        if loaded.tokenizer.chat_template is not None:  # Ollama takes it from the file
            form = IMPORTED_MODELFILE
        modelfile = form.format(name=name, border=border)
        (folder / "Modelfile").write_text(modelfile, encoding="utf-8")

    def run_probe(self, folder: Path, probe: ParityProbe) -> ProbeAnswer:
        """llama.cpp's ids, and its greedy text with the log-probabilities of all tokens."""
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(next(folder.glob("*.gguf")))
        requests = list(zip(probe.prompts, probe.counts, strict=True))
        params.n_ctx = max(len(prompt) + count for prompt, count in requests) + 1
        params.cpuparams.n_threads = 1
        params.n_gpu_layers = 0
        params.warmup = params.fit_params = False
        params.verbosity = -1
        # keys and values are rounded to 16 bits by default
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        # 1. the tokenizer; special tokens are not parsed, as in our own encode
        server = xllamacpp.Server(params)  # listens on this machine's own address only
        ids, tokens, logits = [], [], []
        for text in probe.texts:
            plain = {"content": text, "add_special": False, "parse_special": False}
            ids.append(_post(server, "tokenize", plain)["tokens"])
        letter = _post(server, "tokenize", {"content": "e", "add_special": False})["tokens"][0]
        # 2. greedy text, then 3. the log-probabilities before each of its tokens
        for prompt, count in requests:
            request = {
                "prompt": list(prompt), "n_predict": count, "samplers": ["top_k"], "top_k": 1,
                "return_tokens": True, "ignore_eos": True,
            }  # fmt: skip
            written = _post(server, "completion", request)["tokens"]
            prefixes = ([*prompt, *written[:step]] for step in range(count))
            tokens.append(written)
            logits.append(np.stack([_log_probs(server, each, letter) for each in prefixes]))
        return ProbeAnswer(ids, tokens, logits, normalised=True)

    def usage(self, loaded: Loaded, dtype: str) -> str:
        """How to generate with llama.cpp and Ollama."""
        name = file_name(loaded, dtype)
        talks = chat_template.template_of(loaded.tokenizer, loaded.metadata["task"]) is not None
        usage = CHAT_USAGE if talks else USAGE
        model = name.removesuffix(".gguf").lower()
        does = "goes on with a text" if loaded.task.echo_prompt else "makes one text of another"
        return usage.format(name=name, model=model, prompt=example_prompt(loaded), does=does)


def file_name(loaded: Loaded, dtype: str) -> str:
    """The usual name of such files: the model, then the dtype."""
    name = str(loaded.metadata.get("name", loaded.folder.name))
    plain = "".join(each if each.isalnum() or each in "-_." else "-" for each in name)
    return f"{plain.strip('.') or 'model'}-{dtype}.gguf"


def rename(
    architecture: str, config: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """The tensors as llama.cpp names and lays them out, [out, in]."""
    import gguf

    blocks = config["n_layer"] if architecture == "gpt2" else config["num_hidden_layers"]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], blocks)
    for name, tensor in weights.items():
        ggml_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert ggml_name is not None, name
        if architecture == "gpt2" and name.startswith("transformer.h.") and tensor.dim() == 2:
            tensor = tensor.mT  # transformers' GPT-2 stores [in, out]
        if architecture == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = "num_attention_heads" if "q_proj" in name else "num_key_value_heads"
            tensor = interleave(tensor, config[heads])
        yield ggml_name, tensor


def interleave(weight: Tensor, heads: int) -> Tensor:
    """Query or key weights (heads · D, W) for llama.cpp's `llama`, whose rotary embedding pairs
    dimension 2i with 2i + 1 where ours pairs i with i + D/2; its `qwen3` does as ours."""
    rows, width = weight.shape
    halves = weight.view(heads, 2, rows // heads // 2, width)  # (H, 2, D/2, W)
    return halves.transpose(1, 2).reshape(rows, width)


def _storage(name: str, tensor: Tensor, dtype: str) -> str:
    """ggml's type for one tensor; vectors and positions are small and stay in float32."""
    if tensor.dim() < 2 or name.startswith("position_embd"):
        return "F32"
    if dtype in QUANTIZED and tensor.size(-1) % BLOCK:
        return "F16"  # a row that is no multiple of a block
    if dtype == "q4_0" and name.startswith(("token_embd", "output.")):
        return "Q8_0"  # four bits of what gives the logits would cost most
    if dtype == "f16" and float(tensor.abs().max()) > torch.finfo(torch.float16).max:
        return "F32"  # 16 bits would be infinite
    return dtype.upper()


def why_no_vocabulary(tokenizer: Tokenizer) -> str | None:
    """Why llama.cpp would encode some text otherwise, or None."""
    if tokenizer.kind == "word":
        return (
            "llama.cpp has no word tokenizer: train with --tokenizer.kind bpe, char or byte to "
            "take a model there"
        )
    if tokenizer.kind == "imported" and pre_of(tokenizer) is None:
        return "llama.cpp has no name for the way its tokenizer splits text: use --to hf"
    if tokenizer.kind == "char" and SPACE in tokenizer.backend.get_vocab():
        return f"llama.cpp spells a space as {SPACE}, and this vocabulary has that character too"
    if tokenizer.kind == "bpe" and tokenizer.pattern not in PATTERNS:
        return f"llama.cpp does not know the splitting pattern {tokenizer.pattern}"
    if tokenizer.kind == "bpe" and tokenizer.pattern == "llama3":
        return _unmerged_word(tokenizer)
    return None


def _unmerged_word(tokenizer: Tokenizer) -> str | None:
    """With `llama-bpe`, a word that is a token is taken whole, whatever the merges say."""
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
    token_ids = tokenizer.backend.get_vocab(with_added_tokens=True)
    # imported vocabularies may have gaps, and llama.cpp wants a name for every row
    by_id = {number: name for name, number in token_ids.items()}
    names = [by_id.get(number, f"[PAD{number}]") for number in range(tokenizer.vocab_size)]
    is_char = tokenizer.kind == "char"
    byte_tokens = set(BYTE_TOKENS.values()) if is_char else set()
    types = [
        _CONTROL if name in tokenizer.special else _BYTE if name in byte_tokens else _NORMAL
        for name in names
    ]
    for number in set(range(len(names))) - by_id.keys():
        types[number] = _UNUSED
    # rows without a token: a vocabulary padded to a round number
    unused = range(len(names), size)
    names += [f"[PAD{number}]" for number in unused]
    types += [_UNUSED] * len(unused)
    if is_char:
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list([SPACE if name == " " else name for name in names])
        writer.add_token_scores([0.0] * len(names))
        writer.add_add_space_prefix(False)
    else:
        is_ours = tokenizer.kind != "imported"
        assert not is_ours or set(CHARACTER_TO_BYTE) <= token_ids.keys(), "a byte without a token"
        merges = json.loads(tokenizer.backend.to_str())["model"]["merges"]
        spelled = [pair if isinstance(pair, str) else " ".join(pair) for pair in merges]
        writer.add_tokenizer_model("gpt2")
        pre = PATTERNS.get(tokenizer.pattern, "gpt-2") if is_ours else pre_of(tokenizer)
        writer.add_tokenizer_pre(str(pre))
        writer.add_token_list(names)
        writer.add_token_merges(spelled or NO_MERGES)
    writer.add_token_types(types)
    # a text starts as if another had just ended, where the model has no token for it
    bos = tokenizer.special_token_ids.get("bos")
    writer.add_bos_token_id(tokenizer.eos if bos is None else bos)
    writer.add_eos_token_id(tokenizer.eos)
    writer.add_pad_token_id(tokenizer.pad)
    writer.add_add_bos_token(bos is not None)
    writer.add_add_eos_token(False)


def _log_probs(server: Any, prompt: list[int], letter: int) -> Floats:
    """(V,) log-probabilities of the next token.

    The server leaves them out where the sampled token is a part of a character, so it is made to
    sample a letter; the log-probabilities are those before that bias.
    """
    request = {
        "prompt": prompt, "n_predict": 1, "n_probs": 1 << 24, "samplers": ["top_k"], "top_k": 1,
        "logit_bias": [[letter, 1e6]],
    }  # fmt: skip
    (step,) = _post(server, "completion", request)["completion_probabilities"]
    by_id = {entry["id"]: entry["logprob"] for entry in step["top_logprobs"]}
    return np.array([by_id.get(number, np.nan) for number in range(len(by_id))], dtype=np.float32)


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
