"""Models in GGUF files compute what transformers computes from the weights they were made of.

The files are written here with the package gguf and its own table of names, as llama.cpp's
converter writes them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scriven.cli import run
from scriven.errors import DamagedError, InputError
from scriven.generate.engine import Engine
from scriven.generate.sampling import SamplingParams
from scriven.import_.base import open_base
from scriven.import_.gguf_file import GGUFFile
from scriven.tokenizers.base import BYTE_TO_CHARACTER

gguf = pytest.importorskip("gguf", reason="the gguf extra is not installed")
transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")

BYTES = [BYTE_TO_CHARACTER[byte] for byte in range(256)]
TOKENS = [*BYTES, "\u0120t", "he", "\u0120the", "<|end|>", "<|user|>", "[PAD261]", "[PAD262]"]
MERGES = ["\u0120 t", "h e", "\u0120t he"]
TEMPLATE = "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}"

SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "vocab_size": len(TOKENS),
    "tie_word_embeddings": False, "pad_token_id": None, "bos_token_id": 259, "eos_token_id": 259,
}  # fmt: skip
LLAMA_3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192, "rope_theta": 500000.0,
}  # fmt: skip
GEMMA = {"head_dim": 16, "tie_word_embeddings": True, "sliding_window": 4}
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", "LLAMA", {}),
    "llama 3.2": ("LlamaForCausalLM", "LLAMA", {"rope_parameters": LLAMA_3, "head_dim": 16}),
    "qwen2": ("Qwen2ForCausalLM", "QWEN2", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3ForCausalLM", "QWEN3", {"head_dim": 6}),
    "gemma2": ("Gemma2ForCausalLM", "GEMMA2", {**GEMMA, "query_pre_attn_scalar": 16}),
    "gemma3": (
        "Gemma3ForCausalLM",
        "GEMMA3",
        {**GEMMA, "query_pre_attn_scalar": 16, "num_hidden_layers": 7},
    ),
    "olmo2": ("Olmo2ForCausalLM", "OLMO2", {}),
    "phi3": ("Phi3ForCausalLM", "PHI3", {}),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_inner": 48},
    ),
}


def reference(name: str) -> Any:
    """A random model of transformers, none of whose weights is at its initial value."""
    class_name, _, fields = FAMILIES[name]
    torch.manual_seed(0)
    kind = getattr(transformers, class_name)
    sizes = {"vocab_size": len(TOKENS)} if name == "gpt2" else SIZES
    model = kind(kind.config_class(**{**sizes, **fields})).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


def permute(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """As convert_hf_to_gguf.py's LlamaModel.permute."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def write(path: Path, name: str, model: Any, dtype: str = "F32", **metadata: Any) -> Path:
    _, arch, _ = FAMILIES[name]
    config, writer = model.config, gguf.GGUFWriter(path, arch.lower())
    _add_config(writer, arch, config)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(metadata.get("pre", "llama-bpe"))
    writer.add_token_list(TOKENS)
    writer.add_token_types(metadata.get("types") or [1] * 259 + [3, 3, 5, 5])
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(259)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[arch], config.num_hidden_layers)
    for hf_name, weight in model.state_dict().items():
        if hf_name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = weight
        if arch == "GPT2" and ".h." in hf_name and weight.dim() == 2:
            values = weight.mT
        if arch.startswith("GEMMA") and hf_name.endswith("norm.weight"):
            values = weight + 1
        if arch == "LLAMA" and "q_proj" in hf_name:
            values = permute(weight, config.num_attention_heads)
        if arch == "LLAMA" and "k_proj" in hf_name:
            values = permute(weight, config.num_key_value_heads)
        kind = gguf.GGMLQuantizationType[
            dtype if weight.dim() == 2 and values.shape[-1] % 32 == 0 else "F32"
        ]
        packed = gguf.quants.quantize(np.ascontiguousarray(values.numpy()), kind)
        ggml_name = names.get_name(hf_name, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(ggml_name, packed, raw_dtype=kind)
    if name == "llama 3.2":  # as the converter computes them
        angles = model.model.rotary_emb.inv_freq
        plain = 1 / 500000.0 ** (torch.arange(0, 16, 2) / 16)
        writer.add_tensor("rope_freqs.weight", (plain / angles).float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_config(writer: Any, arch: str, config: Any) -> None:
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    if arch == "GPT2":
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    head_dim = getattr(config, "head_dim", None) or 8
    writer.add_head_count_kv(2)
    writer.add_key_length(head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    if arch.startswith("GEMMA"):
        writer.add_sliding_window(4)
    if arch == "GEMMA2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)


def logits(loaded: Any, ids: torch.Tensor) -> torch.Tensor:
    task = loaded.task.double()
    for buffer in task.buffers():  # tables of positions are in float32 already
        assert buffer.dtype == torch.float64
    with torch.no_grad():
        return task.logits(task.backbone(ids))


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_those_of_the_original(name: str, tmp_path: Path) -> None:
    model = reference(name)
    loaded = open_base(str(write(tmp_path / "small.gguf", name, model)))
    ids = torch.randint(0, len(TOKENS), (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model.double()(ids).logits
    difference = (logits(loaded, ids) - expected).abs().max() / expected.std()
    assert difference < 1e-5  # tables of positions are rounded to float32, and Gemma's norms
    assert loaded.metadata["imported"]["kind"] == FAMILIES[name][0]


def test_quantised_weights_are_taken_back(tmp_path: Path) -> None:
    model = reference("llama")
    path = write(tmp_path / "small.gguf", "llama", model, dtype="Q8_0")
    loaded, file = open_base(str(path)), GGUFFile(path)
    table = gguf.GGUFReader(path).tensors
    stored = next(each for each in table if each.name == "token_embd.weight")
    expected = gguf.quants.dequantize(stored.data, stored.tensor_type)
    assert torch.equal(file.read("token_embd.weight"), torch.from_numpy(expected))
    assert torch.equal(loaded.task.backbone.embed.token.weight, torch.from_numpy(expected))


def test_weights_in_another_order_are_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scriven.import_.gguf.undo_interleave", lambda weight, heads: weight)
    with pytest.raises(AssertionError):
        test_logits_are_those_of_the_original("llama", tmp_path)


def test_the_tokenizer_and_its_template_come_along(tmp_path: Path) -> None:
    path = write(tmp_path / "small.gguf", "llama", reference("llama"))
    tokenizer = open_base(str(path)).tokenizer
    assert tokenizer.encode("the\u00e9") == [ord("t"), 257, 195, 169]  # not at the space
    assert tokenizer.encode(" the<|end|>")[0] == 258
    assert (tokenizer.eos, tokenizer.vocab_size) == (259, 261)  # rows of padding have no token
    assert tokenizer.special_token_ids["end"] == 259
    assert tokenizer.chat_template == TEMPLATE


def test_an_id_without_a_token_is_never_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    types = [1] * 259 + [3, 3, 5, 5]
    types[200] = 5
    path = write(tmp_path / "small.gguf", "llama", reference("llama"), types=types)
    loaded = open_base(str(path))
    assert loaded.tokenizer.gaps == {200}
    ids = torch.tensor([loaded.tokenizer.encode("the")])
    with torch.no_grad():  # by far the likeliest after this prompt
        hidden = loaded.task.backbone(ids)[0, -1]
        loaded.task.head.weight[200] = 1000 * hidden
        assert int(loaded.task.logits(hidden).argmax()) == 200
    greedy = SamplingParams(temperature=0.0)
    engine = Engine(loaded.task, loaded.tokenizer)
    (result,) = engine.generate([ids[0].tolist()], greedy, 1, ignore_eos=True)
    assert result.text
    monkeypatch.setattr(loaded.tokenizer, "gaps", frozenset())
    (result,) = engine.generate([ids[0].tolist()], greedy, 1, ignore_eos=True)
    assert not result.text


def test_it_becomes_a_run_that_computes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "small.gguf", "llama", reference("llama"))
    assert run(["import", "small.gguf"]) == 0
    assert "nothing: only folders are compared, and this is a GGUF file" in capsys.readouterr().out
    one, other = open_base(str(path)), open_base("small")
    ids = torch.arange(20)[None]
    assert torch.equal(logits(one, ids), logits(other, ids))
    assert other.tokenizer.chat_template == TEMPLATE
    assert other.metadata["tokenizer"]["fingerprint"] == one.tokenizer.fingerprint
    # every command takes the file itself
    capsys.readouterr()
    for name in ("small.gguf", "small"):
        assert run(["generate", name, "the", "--temperature", "0", "--max-new-tokens", "5"]) == 0
    first, second = capsys.readouterr().out.split("the", 2)[1:]
    assert first.strip("\n") == second.strip("\n")
    (tmp_path / "text.txt").write_text("the text is the text " * 30)
    assert run(["evaluate", "small.gguf", "text.txt"]) == 0
    assert "bits per byte" in capsys.readouterr().out
    assert run(["inspect", "small.gguf"]) == 0
    assert run(["export", "small.gguf", "--to", "hf"]) == 0
    assert (tmp_path / "exports" / "small" / "hf-f32" / "chat_template.jinja").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architecture": "mamba"}, "'mamba'.*can be read"),
        ({"pre": "nobody"}, "'nobody', which is not known here"),
        ({"left out": "llama.block_count"}, "lacks metadata"),
        ({"left out": "tokenizer.ggml.tokens"}, "lacks metadata"),
        ({"tensor": "blk.1.attn_q.weight"}, r"lacks blk\.1\.attn_q\.weight"),
        ({"rename": "blk.9.attn_q.weight"}, "holds blk"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    change: dict[str, str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "small.gguf", "llama", reference("llama"), pre=change.get("pre"))
    read = GGUFFile._read_header

    def changed(self: GGUFFile) -> None:
        read(self)
        if "architecture" in change:
            self.metadata["general.architecture"] = change["architecture"]
        self.metadata.pop(change.get("left out", ""), None)
        self.tensors.pop(change.get("tensor", ""), None)
        if "rename" in change:
            self.tensors[change["rename"]] = self.tensors["output_norm.weight"]

    if change.get("pre") is None:
        path = write(tmp_path / "small.gguf", "llama", reference("llama"))
    monkeypatch.setattr(GGUFFile, "_read_header", changed)
    with pytest.raises((InputError, DamagedError), match=words) as caught:
        open_base(str(path))
    assert "\n" not in str(caught.value)
