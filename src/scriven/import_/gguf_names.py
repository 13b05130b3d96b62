"""How llama.cpp names the architectures and tensors of transformers, and where it stores others."""

ARCHITECTURES = {
    "GPT2LMHeadModel": "gpt2",
    "LlamaForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3",
    "Olmo2ForCausalLM": "olmo2",
    "Phi3ForCausalLM": "phi3",
}
"""Class of transformers -> llama.cpp's architecture."""

TOP = {
    "transformer.wte.weight": "token_embd.weight",
    "transformer.wpe.weight": "position_embd.weight",
    "transformer.ln_f.weight": "output_norm.weight",
    "transformer.ln_f.bias": "output_norm.bias",
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
"""Hugging Face's name -> llama.cpp's, outside of blocks."""
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
    "self_attn.qkv_proj": "attn_qkv",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate_up_proj": "ffn_up",
}
"""The same inside a block."""
NORMS_AFTER = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
"""The same where there is a norm after a sublayer."""
HAS_NORMS_AFTER = ("gemma2", "gemma3", "olmo2")

ADDS_ONE = ("gemma2", "gemma3")
"""Architectures that store the weights of norms as differences from 1, and llama.cpp as a whole."""
INTERLEAVED = ("llama",)
"""Architectures whose rotary embedding pairs dimension 2i with 2i + 1 in llama.cpp, where that of
transformers pairs i with i + D/2; all others do the same in both."""


def tensor_name(architecture: str, name: str) -> str:
    """llama.cpp's name of a tensor of transformers; KeyError where it has none."""
    if name in TOP:
        return TOP[name]
    _, _, block, inner = name.split(".", 3)  # transformer.h.0.… or model.layers.0.…
    part, _, end = inner.rpartition(".")
    names = IN_BLOCK | NORMS_AFTER if architecture in HAS_NORMS_AFTER else IN_BLOCK
    return f"blk.{block}.{names[part]}.{end}"
