"""LitGPT as a peer: its class GPT under Fabric, as `litgpt pretrain` trains it, and `generate`.

The weights are renamed as by its own converter; our default model has the shape of Llama or Qwen3.
"""

import time
from importlib import metadata
from typing import Any

import lightning
import torch
from litgpt.config import Config
from litgpt.generate.base import generate
from litgpt.model import GPT
from litgpt.utils import chunked_cross_entropy
from shared import recipe, weights
from shared.batches import Batches
from shared.child import serve

PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}

NAMES = {
    "input_layernorm.weight": "norm_1.weight",
    "post_attention_layernorm.weight": "norm_2.weight",
    "self_attn.q_norm.weight": "attn.norm_q.weight",
    "self_attn.k_norm.weight": "attn.norm_k.weight",
    "self_attn.o_proj.weight": "attn.proj.weight",
    "mlp.gate_proj.weight": "mlp.fc_1.weight",
    "mlp.up_proj.weight": "mlp.fc_2.weight",
    "mlp.down_proj.weight": "mlp.proj.weight",
}


def shape(config: dict[str, Any]) -> Config:
    """LitGPT's Config for a config.json of Llama or Qwen3."""
    return Config(
        name="peer", block_size=config["max_position_embeddings"],
        vocab_size=config["vocab_size"], padded_vocab_size=config["vocab_size"],
        n_layer=config["num_hidden_layers"], n_head=config["num_attention_heads"],
        n_query_groups=config["num_key_value_heads"], head_size=config["head_dim"],
        n_embd=config["hidden_size"], intermediate_size=config["intermediate_size"],
        rope_base=int(config["rope_theta"]), rotary_percentage=1.0, parallel_residual=False,
        bias=False, norm_class_name="RMSNorm", norm_eps=config["rms_norm_eps"],
        norm_qk=config["model_type"] == "qwen3", mlp_class_name="LLaMAMLP",
    )  # fmt: skip


def rename(hf_weights: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """Renames Hugging Face's weights for LitGPT; query, key and value become one matrix."""
    table = hf_weights["model.embed_tokens.weight"]
    named = {
        "transformer.wte.weight": table,
        "transformer.ln_f.weight": hf_weights["model.norm.weight"],
    }
    named["lm_head.weight"] = hf_weights.get("lm_head.weight", table)
    for layer in range(layers):
        old_prefix, new_prefix = f"model.layers.{layer}.", f"transformer.h.{layer}."
        parts = [hf_weights[f"{old_prefix}self_attn.{part}_proj.weight"] for part in "qkv"]
        named[f"{new_prefix}attn.qkv.weight"] = torch.cat(parts)
        for old, new in NAMES.items():
            if old_prefix + old in hf_weights:
                named[new_prefix + new] = hf_weights[old_prefix + old]
    return named


class LitGPT:
    """Its model, with embedding and output matrix tied as in the given weights."""

    def prepare(
        self,
        folder: str,
        data: str | None = None,
        micro: int = 0,
        dropout: float = 0.0,
        compile: bool = False,
        dtype: str = "bfloat16",
        seed: int = 0,
        **others: Any,
    ) -> dict[str, Any]:
        assert not dropout, "LitGPT has no dropout"
        torch.manual_seed(seed)
        precision = PRECISIONS[dtype] if data else "32-true"
        self.fabric = lightning.Fabric(accelerator="cpu", devices=1, precision=precision)
        config, hf_weights = weights.read(folder)
        self.plain = GPT(shape(config))
        self.plain.load_state_dict(rename(hf_weights, config["num_hidden_layers"]))
        if config["tie_word_embeddings"]:
            self.plain.lm_head.weight = self.plain.transformer.wte.weight
        if not data:
            self.plain = self.plain.to(getattr(torch, dtype)).eval()
        self.compile = compile
        self.model = torch.compile(self.plain) if compile else self.plain
        if data:
            self.batches, self.number, self.micro = Batches(data), 0, micro
            self.model = self.fabric.setup(self.model)
            optimizer = torch.optim.AdamW(
                self.model.parameters(), lr=recipe.RATE, betas=recipe.BETAS, eps=recipe.EPS,
                weight_decay=recipe.DECAY, fused=True,
            )  # fmt: skip
            self.optimizer = self.fabric.setup_optimizers(optimizer)
        return {
            "parameters": weights.count(self.plain),
            "versions": {"litgpt": metadata.version("litgpt"), "torch": torch.__version__},
            "dtype": dtype,
        }

    def step(self, count: int) -> dict[str, Any]:
        self.plain.train()
        losses = []
        began = time.perf_counter()
        for _ in range(count):
            micro_batches = self.batches.micro(self.number, self.micro)
            total = 0.0
            for tokens, targets in micro_batches:
                loss = chunked_cross_entropy(self.model(tokens), targets, chunk_size=0)
                self.fabric.backward(loss / len(micro_batches))
                total += loss.item() / len(micro_batches)
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=recipe.CLIP)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.number += 1
            losses.append(total)
        return {"seconds": time.perf_counter() - began, "losses": losses}

    @torch.no_grad()
    def loss(self) -> dict[str, Any]:
        """In float32, whatever dtype it trains in."""
        self.plain.eval()
        found = []
        for tokens, targets in self.batches.windows():
            logits = self.plain(tokens)[0].float()
            found.append(float(torch.nn.functional.cross_entropy(logits, targets[0])))
        return {"losses": found}

    @torch.inference_mode()
    def generate(
        self, prompts: list[list[int]], tokens: int, temperature: float = 0.0
    ) -> dict[str, Any]:
        made = []
        dtype = next(self.plain.parameters()).dtype
        began = time.perf_counter()
        for prompt in prompts:
            self.plain.max_seq_length = len(prompt) + tokens
            self.plain.set_kv_cache(batch_size=1, dtype=dtype)
            text = generate(
                self.model, torch.tensor(prompt), len(prompt) + tokens, temperature=temperature,
                include_prompt=False,
            )  # fmt: skip
            made.append(text.tolist())
            self.plain.clear_kv_cache()
        return {"seconds": time.perf_counter() - began, "ids": made}


if __name__ == "__main__":
    serve(LitGPT())
