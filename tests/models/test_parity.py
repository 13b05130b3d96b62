"""Our models against transformers': same weights, outputs and every gradient."""

from types import MethodType, ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from scriven.data.batch import Batch
from scriven.models import gpt2, llama
from scriven.models.shared.names import to_foreign
from scriven.nn.positions import Rotary
from scriven.tasks.language import Language

transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")

BASE: dict[str, Any] = {"vocabulary": 37, "context": 20, "layers": 2, "heads": 4, "width": 32}

CASES = [
    (gpt2, {}),
    (gpt2, {"tied": False, "hidden": 40}),
    (llama, {}),
    (llama, {"kv_heads": 2}),
    (llama, {"kv_heads": 1, "head_width": 6, "tied": False, "rope_base": 500.0}),
    (llama, {"qk_norm": False}),
    (llama, {"qk_norm": False, "kv_heads": 2, "tied": False}),
]


def pair(module: ModuleType, changes: dict[str, Any], dtype: torch.dtype) -> tuple[Language, Any]:
    """Ours with random weights, and theirs with the same."""
    torch.manual_seed(0)
    model = module.Config(**{**BASE, **changes})
    task = Language(module.Model(model))
    with torch.no_grad():
        for weight in task.parameters():
            weight.normal_(0, 0.1)
    task = task.to(dtype)
    settings = {**module.foreign(model), "bos_token_id": None, "eos_token_id": None}
    kind = getattr(transformers, settings["architectures"][0])
    theirs = kind(kind.config_class(**settings, attn_implementation="sdpa")).to(dtype)
    names = to_foreign(dict(task.state_dict()), module.NAMES, model.layers, module.sizes(model))
    missing, extra = theirs.load_state_dict(names, strict=False)
    assert not extra
    assert set(missing) <= {"lm_head.weight"}
    theirs.tie_weights()
    for part in theirs.modules():
        if type(part).__name__.endswith("RMSNorm"):  # theirs computes in float32 always
            part.forward = MethodType(exact_norm, part)
    for part in task.modules():
        if isinstance(part, Rotary):  # theirs are float32 always; ours are tested on their own
            at = torch.arange(model.context)[None]
            cos, sin = theirs.model.rotary_emb(torch.zeros(1, dtype=dtype), at)
            first, second = sin[0].chunk(2, -1)
            assert (part.cos - cos[0]).abs().max() < 1e-6
            part.cos, part.sin = cos[0], torch.cat((-first, second), -1)
    return task, theirs


def exact_norm(self: Any, x: torch.Tensor) -> torch.Tensor:
    """transformers' RMSNorm without its rounding."""
    return self.weight * x * (x.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()


def differences(task: Language, theirs: Any, rows: torch.Tensor) -> dict[str, float]:
    """Largest difference of logits, loss and each gradient, by name."""
    ours = task.logits(task.backbone(rows))
    output = task(Batch(rows[:, :-1], rows[:, 1:]))
    loss = output.loss / output.tokens
    reference = theirs(rows).logits
    # not their own loss, which rounds to float32
    wanted = F.cross_entropy(reference[:, :-1].flatten(0, 1), rows[:, 1:].flatten())
    found = {
        "logits": float((ours - reference).detach().abs().max()),
        "loss": float((loss - wanted).detach().abs()),
    }
    loss.backward()
    wanted.backward()
    settings = task.backbone.config
    module = {"gpt2": gpt2, "llama": llama}[type(task.backbone).__module__.rsplit(".", 1)[-1]]
    gradients = {name: weight.grad for name, weight in task.named_parameters()}
    named = to_foreign(gradients, module.NAMES, settings.layers, module.sizes(settings))
    for name, weight in theirs.named_parameters():
        found[name] = float((named[name] - weight.grad).abs().max())
    return found


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("module", "changes"), CASES)
def test_logits_loss_and_gradients_equal(
    module: ModuleType, changes: dict[str, Any], dtype: torch.dtype, limit: float
) -> None:
    task, theirs = pair(module, changes, dtype)
    rows = torch.randint(37, (3, 20))
    found = differences(task, theirs, rows)
    assert max(found.values()) < limit, found


@pytest.mark.parametrize("module", [gpt2, llama])
def test_a_planted_error_is_noticed(module: ModuleType) -> None:
    task, theirs = pair(module, {}, torch.float64)
    with torch.no_grad():
        norm = task.backbone.blocks[0].mlp_norm.weight
        norm.add_(1e-6)
    assert max(differences(task, theirs, torch.randint(37, (3, 20))).values()) > 1e-9
