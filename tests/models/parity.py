"""Ours and transformers' with the same weights, and how far apart they are."""

from types import MethodType, ModuleType
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from scriven import registry
from scriven.data.batch import IGNORE_INDEX, Batch
from scriven.nn.embeddings import RotaryEmbedding
from scriven.tasks.base import BaseTask

V, T = 37, 20
BASE: dict[str, Any] = {
    "vocab_size": V,
    "context_length": T,
    "layers": 2,
    "heads": 4,
    "d_model": 32,
}
PAD, MASK = V - 2, V - 1
LENGTHS = (20, 13, 1)
"""Of the three rows, where they are padded."""


def make(module: ModuleType, changes: dict[str, Any], dtype: torch.dtype) -> BaseTask:
    """Ours, with random weights that hide nothing."""
    torch.manual_seed(0)
    kind = registry.module("scriven.tasks", module.Model.pretraining_task).Task
    special = {"eos": V - 3, "pad": PAD, "mask": MASK}
    task: BaseTask = kind(module.Model(module.Config(**{**BASE, **changes})), special=special)
    with torch.no_grad():
        for weight in task.parameters():
            weight.normal_(0, 0.1)
    return task.to(dtype)


def twin(module: ModuleType, config: Any, dtype: torch.dtype) -> Any:
    """The Hugging Face class that `foreign` names, in the shape it describes."""
    ids = {"bos_token_id": None, "eos_token_id": None}
    settings = {**module.Model.to_hf_config(config), **ids}
    kind = getattr(transformers, settings["architectures"][0])
    return kind(kind.config_class(**settings, attn_implementation=_attention(kind))).to(dtype)


def _attention(kind: type) -> str:
    return "eager" if kind.__name__ == "OpenAIGPTLMHeadModel" else "sdpa"


def pair(module: ModuleType, changes: dict[str, Any], dtype: torch.dtype) -> tuple[BaseTask, Any]:
    """Ours with random weights, and theirs with the same."""
    task = make(module, changes, dtype)
    config = task.backbone.config
    theirs = twin(module, config, dtype)
    missing, extra = theirs.load_state_dict(
        module.Model.to_hf_weights(config, task.state_dict()), False
    )
    assert not extra
    assert set(missing) <= {"lm_head.weight", "lm_head.decoder.weight", "lm_head.decoder.bias"}
    theirs.tie_weights()
    for part in theirs.modules():
        if type(part).__name__.endswith("RMSNorm"):  # theirs computes in float32 always
            part.forward = MethodType(exact_norm, part)
    for part in task.modules():
        if isinstance(
            part, RotaryEmbedding
        ):  # theirs are float32 always; ours are tested on their own
            positions = torch.arange(config.context_length)[None]
            cos, sin = theirs.model.rotary_emb(torch.zeros(1, dtype=dtype), positions)
            first, second = sin[0].chunk(2, -1)
            assert (part.cos - cos[0]).abs().max() < 1e-6
            part.cos, part.sin = cos[0], torch.cat((-first, second), -1)
    return task, theirs


def exact_norm(self: Any, x: Tensor) -> Tensor:
    """transformers' RMSNorm without its rounding."""
    return self.weight * x * (x.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()


def batch_of(side: str, masked: bool) -> Batch:
    """Three rows of text, whole (side ""), or shorter ones with padding on the left or right."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(PAD - 1, (3, T), generator=generator)
    positions = torch.arange(T).expand(3, T).clone()
    for row, length in enumerate(LENGTHS if side else ()):
        begin = T - length if side == "left" else 0
        positions[row] = torch.arange(T) - begin
        outside = (positions[row] < 0) | (positions[row] >= length)
        positions[row, outside] = -1
        tokens[row, outside] = PAD
    if masked:
        hidden = (torch.rand(3, T, generator=generator) < 0.3) & (positions >= 0)
        targets = torch.where(hidden, tokens, IGNORE_INDEX)
        tokens = torch.where(hidden, MASK, tokens)
    else:
        after = tokens.roll(-1, 1)
        there = (positions >= 0) & (positions.roll(-1, 1) > positions)
        there[:, -1] = False
        targets = torch.where(there, after, IGNORE_INDEX)
    return Batch(tokens, targets, positions=positions if side else None)


def differences(task: BaseTask, theirs: Any, side: str = "") -> dict[str, float]:
    """Largest difference of logits, loss and each gradient, by name.

    Every parameter of theirs is compared but those that ours computes: `derived`.
    """
    batch = batch_of(side, masked=not task.is_generative)
    there = (
        torch.ones_like(batch.tokens, dtype=torch.bool)
        if batch.positions is None
        else batch.positions >= 0
    )
    ours = task.logits(task.hidden(batch))
    output = task(batch)
    loss = output.loss / output.tokens
    given: dict[str, Tensor] = {}
    if batch.positions is not None:
        given["attention_mask"] = there.long()
        if task.is_generative:
            given["position_ids"] = batch.positions.clamp(min=0)
    reference = theirs(batch.tokens, **given).logits
    # not their own loss, which rounds to float32
    targets = batch.targets.flatten()
    wanted = F.cross_entropy(reference.flatten(0, 1), targets, ignore_index=IGNORE_INDEX)
    found = {
        "logits": float((ours - reference)[there].detach().abs().max()),
        "loss": float((loss - wanted).detach().abs()),
    }
    loss.backward()
    wanted.backward()
    module = registry.module("scriven.models", type(task.backbone).__module__.rsplit(".", 1)[-1])
    config = task.backbone.config
    gradients = {
        name: torch.zeros_like(weight) if weight.grad is None else weight.grad
        for name, weight in task.named_parameters()
    }
    named = module.Model.to_hf_weights(config, gradients)
    for name, weight in theirs.named_parameters():
        if name not in derived(config, gradients):
            found[name] = float((named[name] - weight.grad).abs().max())
    return found


def derived(config: Any, ours: dict[str, Tensor]) -> set[str]:
    """What theirs stores as a parameter and ours computes or leaves out."""
    names = set()
    if "backbone.embed.position.weight" not in ours:
        names.add("transformer.wpe.weight")
    if "head.dense.weight" in ours:
        names.add("roberta.embeddings.token_type_embeddings.weight")
        if not config.tie_embeddings:
            names.add("lm_head.bias")  # theirs reads lm_head.decoder.bias then
    return names
