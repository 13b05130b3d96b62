"""A model as its Hugging Face twin, with the head of its task: the shape, and the weights there and
back.

A fine-tuned decoder with labels is a model "for sequence classification" there: it pools the last
token that is no padding, as ours does. Encoders have another head there, and stay our own.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from .. import config, registry
from ..models.shared.names import from_twin, to_twin
from ..tasks.shared.classification import SequenceClassification

CLASSIFIERS = {
    "LlamaForCausalLM": "LlamaForSequenceClassification",
    "Qwen3ForCausalLM": "Qwen3ForSequenceClassification",
    "GPT2LMHeadModel": "GPT2ForSequenceClassification",
    "OpenAIGPTLMHeadModel": "OpenAIGPTForSequenceClassification",
}
"""The twin with a head for labels, of the twin with one for tokens."""
SCORE = "score.weight"


def is_labelled(task: str) -> bool:
    """Whether a task, a file of tasks/, ends in a head for labels or scores."""
    return issubclass(registry.module("scriven.tasks", task).Task, SequenceClassification)


def shape_of_twin(
    architecture: ModuleType,
    model: Any,
    task: str | None = None,
    facts: dict[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Hugging Face's config.json; None where no twin of this model with this head exists.

    Args:
        task: of the run; what the architecture is pre-trained for by default.
        facts: of a fine-tuning, with the names of its labels.
    """
    twin: dict[str, Any] | None = architecture.foreign(model)
    if (facts or {}).get("copy_head") or (facts or {}).get("lm_score_weight"):
        return None
    if twin is None or task is None or not is_labelled(task):
        return twin
    kind = CLASSIFIERS.get(twin["architectures"][0])
    if kind is None:
        return None
    labels = (facts or {}).get("labels") or ["SCORE"]
    return {
        **twin,
        "architectures": [kind],
        "num_labels": len(labels),
        "id2label": {str(number): name for number, name in enumerate(labels)},
        "label2id": {name: number for number, name in enumerate(labels)},
        "problem_type": "regression" if len(labels) == 1 else "single_label_classification",
    }


def describe_shape(
    architecture: ModuleType, model: Any, task: str | None, facts: dict[str, Any] | None
) -> dict[str, Any]:
    """The twin's config.json, or one that only describes a model without a twin."""
    twin = shape_of_twin(architecture, model, task, facts)
    if twin is not None:
        return twin
    kind = f"scriven-{Path(architecture.__file__ or '').stem}"
    return {"model_type": kind, **config.to_dict(model)}


def foreign_weights(
    architecture: ModuleType, model: Any, tensors: dict[str, Tensor], task: str | None = None
) -> dict[str, Tensor]:
    """Our weights under Hugging Face's names, in main memory; a tied head is not stored.

    Where Hugging Face has no twin of this model, under our own names.
    """
    plain = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    if _copies(plain) or shape_of_twin(architecture, model, task) is None:
        return plain
    if task is None or not is_labelled(task):
        return to_twin(architecture, model, plain)
    score, words = plain.pop("head.weight"), plain.pop("words.weight", None)
    if words is not None:
        plain["head.weight"] = words
    return {**to_twin(architecture, model, plain), SCORE: score}


def own_weights(
    architecture: ModuleType, model: Any, tensors: dict[str, Tensor], task: str | None = None
) -> dict[str, Tensor]:
    """The inverse of `foreign_weights`.

    Raises:
        DamagedError: tensors that are missing or belong to another model.
    """
    if _copies(tensors) or shape_of_twin(architecture, model, task) is None:
        return tensors
    if task is None or not is_labelled(task) or SCORE not in tensors:
        return from_twin(architecture, model, tensors)
    theirs = {name: tensor for name, tensor in tensors.items() if name != SCORE}
    found = from_twin(architecture, model, theirs)
    if "head.weight" in found:
        found["words.weight"] = found.pop("head.weight")
    return {**found, "head.weight": tensors[SCORE]}


def _copies(tensors: dict[str, Tensor]) -> bool:
    """Whether a model copies from its source, which no twin does."""
    return "pointer.query.weight" in tensors
