"""Models of transformers with random weights and awkward shapes, one or more of each family."""

from types import MethodType, ModuleType
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from scriven import config, registry
from scriven.models.base import Architecture
from scriven.nn.embeddings import RotaryEmbedding
from scriven.tasks.base import BaseTask

V, T = 61, 24
SIZES: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 36,
    "intermediate_size": 44,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 40,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
LONG = {"original_max_position_embeddings": 16, "rope_theta": 10000.0}
GEMMA = {**SIZES, "head_dim": 10, "sliding_window": 7, "query_pre_attn_scalar": 11}
NEO = {
    "vocab_size": V, "hidden_size": 36, "num_layers": 4, "num_heads": 6, "window_size": 5,
    "attention_types": [[["global", "local", "local"], 1], [["local"], 1]],
    "max_position_embeddings": 40, "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
BERT = {
    **{name: SIZES[name] for name in ("vocab_size", "hidden_size", "intermediate_size")},
    "num_hidden_layers": 2, "num_attention_heads": 6, "max_position_embeddings": 40,
    "pad_token_id": 2,
}  # fmt: skip


def rope(kind: str, **numbers: float) -> dict[str, Any]:
    """`rope_parameters` of a type of scaling."""
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **numbers}}


FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {**SIZES, "head_dim": 10, "rms_norm_eps": 1e-5}),
    "llama-biases": ("Llama", {**SIZES, "attention_bias": True, "mlp_bias": True}),
    "llama-gelu-tied": ("Llama", {**SIZES, "hidden_act": "gelu", "tie_word_embeddings": True}),
    "llama-linear": ("Llama", {**SIZES, **rope("linear", factor=2.5)}),
    "llama-dynamic": ("Llama", {**SIZES, **rope("dynamic", factor=2.0)}),
    "llama3": ("Llama", {**SIZES, **rope("llama3", factor=8.0, low_freq_factor=1.0,
                         high_freq_factor=4.0, original_max_position_embeddings=16)}),
    "llama-yarn": ("Llama", {**SIZES, **rope("yarn", factor=4.0,
                             original_max_position_embeddings=10)}),
    "qwen2": ("Qwen2", SIZES),
    "qwen2-window": ("Qwen2", {**SIZES, "use_sliding_window": True, "sliding_window": 6,
                               "max_window_layers": 2}),
    "qwen2-yarn": ("Qwen2", {**SIZES, **rope("yarn", factor=4.0, beta_fast=16.0, beta_slow=2.0,
                             attention_factor=1.3, original_max_position_embeddings=10)}),
    "qwen3": ("Qwen3", {**SIZES, "head_dim": 10}),
    "qwen3-window": ("Qwen3", {**SIZES, "head_dim": 8, "attention_bias": True, "sliding_window": 5,
                               "use_sliding_window": True, "max_window_layers": 3}),
    "mistral": ("Mistral", {**SIZES, "sliding_window": 6, "head_dim": 8}),
    "mistral-full": ("Mistral", {**SIZES, "sliding_window": None}),
    "smollm3": ("SmolLM3", SIZES),
    "phi3": ("Phi3", {**SIZES, "sliding_window": 9}),
    "phi3-partial": ("Phi3", {**SIZES, "num_attention_heads": 3, "num_key_value_heads": 1,
                     "rope_parameters": {"rope_type": "default", "rope_theta": 500.0,
                                         "partial_rotary_factor": 0.5}}),
    "olmo2": ("Olmo2", SIZES),
    "gemma": ("Gemma", {**SIZES, "head_dim": 10}),
    "gemma2": ("Gemma2", {**GEMMA, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 2.0}),
    "gemma3": ("Gemma3", {**GEMMA, "num_hidden_layers": 7}),
    "gemma3-scaled": ("Gemma3", {**GEMMA, "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
        "sliding_attention": {"rope_type": "default", "rope_theta": 5e3}}}),
    "gpt-neox": ("GPTNeoX", {**SIZES, "hidden_size": 48, "num_attention_heads": 3}),
    "gpt-neox-serial": ("GPTNeoX", {**SIZES, "use_parallel_residual": False,
                        "attention_bias": False, "tie_word_embeddings": True,
                        "rope_parameters": {"rope_type": "default", "rope_theta": 700.0,
                                            "partial_rotary_factor": 1.0}}),
    "gpt-neo": ("GPTNeo", NEO),
    "gpt2": ("GPT2", {"vocab_size": V, "n_embd": 36, "n_layer": 3, "n_head": 6, "n_positions": 40,
                      "n_inner": 50, "bos_token_id": 0, "eos_token_id": 1}),
    "roberta": ("Roberta", {**BERT, "type_vocab_size": 1}),
    "bert": ("Bert", BERT),
    "distilbert": ("DistilBert", {"vocab_size": V, "dim": 36, "hidden_dim": 44, "n_layers": 2,
                   "n_heads": 6, "max_position_embeddings": 40, "pad_token_id": 2}),
}  # fmt: skip
"""Name -> family in transformers and its config."""
LAST = {"GPT2": "LMHeadModel", "Roberta": "ForMaskedLM", "Bert": "ForMaskedLM",
        "DistilBert": "ForMaskedLM"}  # fmt: skip
RENAMED = {"Gemma3": "Gemma3TextConfig"}


def theirs(name: str, dtype: torch.dtype = torch.float64) -> Any:
    """A model of transformers with random weights that hide nothing."""
    family, settings = FAMILIES[name]
    kind = getattr(transformers, f"{family}{LAST.get(family, 'ForCausalLM')}")
    config_kind = getattr(transformers, RENAMED.get(family, f"{family}Config"))
    torch.manual_seed(0)
    # soft caps and float64 attention exist in the plain kernel alone
    model = kind(config_kind(**settings, attn_implementation="eager")).to(dtype).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.3)
    model.tie_weights()
    return model


def exact(model: Any) -> Any:
    """The same without the parts that transformers always computes in float32."""
    for part in model.modules():
        kind = type(part).__name__
        if kind.endswith("RMSNorm"):
            part.forward = MethodType(_norm, part)
        elif kind.endswith("RotaryEmbedding"):
            part.forward = MethodType(_rotary, part)
        elif kind == "GPTNeoSelfAttention":
            part._attn = MethodType(_neo_attention, part)
        elif hasattr(part, "embed_scale") and isinstance(part.embed_scale, Tensor):
            part.embed_scale = part.embed_scale.new_tensor(part.scalar_embed_scale)
    return model


def _norm(self: Any, x: Tensor) -> Tensor:
    eps = getattr(self, "variance_epsilon", None) or self.eps
    offset = 1 if type(self).__name__.startswith("Gemma") else 0
    return (self.weight + offset) * x * (x.square().mean(-1, keepdim=True) + eps).rsqrt()


def _rotary(self: Any, x: Tensor, position_ids: Tensor, layer_type: str | None = None) -> Any:
    start = "" if layer_type is None else f"{layer_type}_"
    frequencies = getattr(self, f"{start}inv_freq").double()
    angle = position_ids[..., None].double() * frequencies
    angle = torch.cat((angle, angle), -1)
    factor = getattr(self, f"{start}attention_scaling")
    return (angle.cos() * factor).to(x.dtype), (angle.sin() * factor).to(x.dtype)


def _neo_attention(self: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any = None) -> Any:
    seen = self.bias[:, :, k.size(-2) - q.size(-2) : k.size(-2), : k.size(-2)]
    scores = (q @ k.mT).masked_fill(~seen, -torch.inf)
    weights = (scores if mask is None else scores + mask).softmax(-1)
    return weights @ v, weights


def softmax(x: Tensor, dim: int = -1, dtype: Any = None, **rest: Any) -> Tensor:
    """`F.softmax` in the type of its input."""
    return _softmax(x, dim)


_softmax = F.softmax


def architecture_of(hf_config: dict[str, Any]) -> tuple[str, ModuleType, Any]:
    """The architecture of ours that a config.json becomes, and its Config."""
    for name in registry.names("scriven.models"):
        module = registry.module("scriven.models", name)
        fields = module.Model.from_hf_config(hf_config)
        if fields is not None:
            return name, module, config.replace(module.Config(), fields, "model")
    raise AssertionError(hf_config["architectures"])


def stored_config(model: Any) -> dict[str, Any]:
    """What transformers writes into config.json."""
    kind = type(model).__name__
    return {**model.config.to_dict(), "architectures": [kind]}


def stored_weights(model: Any) -> dict[str, Tensor]:
    """What transformers writes into model.safetensors: a tied matrix once."""
    found: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if not any(tensor.data_ptr() == other.data_ptr() for other in found.values()):
            found[name] = tensor
    if type(model).__name__ == "GPTNeoXForCausalLM" and "lm_head.weight" in found:
        found["embed_out.weight"] = found.pop("lm_head.weight")  # as save_pretrained names it
    return found


def ours(model: Any) -> tuple[BaseTask, ModuleType]:
    """The same model here, with the rotary frequencies of theirs, which are float32."""
    _, module, model_config = architecture_of(stored_config(model))
    backbone: Architecture = module.Model(model_config)
    task_kind = registry.module("scriven.tasks", module.Model.pretraining_task).Task
    task: BaseTask = task_kind(backbone, special={"eos": 1, "pad": 2, "mask": 3})
    task = task.to(next(model.parameters()).dtype).eval()
    task.load_state_dict(module.Model.from_hf_weights(model_config, stored_weights(model)))
    rotations = [
        part for part in model.modules() if type(part).__name__.endswith("RotaryEmbedding")
    ]
    for block in backbone.blocks:
        position = block.attention.position
        if isinstance(position, RotaryEmbedding):
            _copy_frequencies(position, rotations[0])
    return task, module


def _copy_frequencies(here: RotaryEmbedding, there: nn.Module) -> None:
    periods = torch.tensor(here.periods, dtype=torch.float64)
    pairs = [(name, each) for name, each in there.named_buffers()
             if name.endswith("inv_freq") and "original" not in name]  # fmt: skip
    # Gemma 3 has two sets of them
    name, inverse = min(pairs, key=lambda pair: float((1 / pair[1].double() - periods).abs().max()))
    assert torch.allclose(1 / inverse.double(), periods, rtol=1e-5)
    factor = getattr(there, name.replace("inv_freq", "attention_scaling"))
    assert abs(here.factor - factor) < 1e-6
    here.periods, here.factor = (1 / inverse.double()).tolist(), factor
    here.cos, here.sin = here._tables(torch.arange(here.context_length), torch.float64)
