"""What a fine-tuning chooses without being asked, and what it says where that was not enough."""

import dataclasses
from typing import Any

import pytest

from scriven.cli.finetune import _advice
from scriven.errors import ResourceError
from scriven.models.llama import Config
from scriven.train.finetune_plan import LARGE_ON_CPU, finetune_defaults
from scriven.train.scaling_laws import check_fits, fits, least_training_bytes

LARGE = LARGE_ON_CPU


@pytest.mark.parametrize(
    ("task", "parameters", "on_cpu", "weights"),
    [
        ("classify", LARGE, True, "lora"),
        ("similarity", LARGE, True, "lora"),
        ("classify", LARGE - 1, True, "full"),
        ("classify", LARGE, False, "full"),
        ("chat", LARGE, True, "full"),
    ],
)
def test_a_large_model_gets_adapters_on_a_cpu(
    task: str, parameters: int, on_cpu: bool, weights: str
) -> None:
    assert finetune_defaults(task, "full", parameters, on_cpu).finetune.weights == weights


def test_short_rows_need_less_memory_than_the_context_allows() -> None:
    long = Config(vocab_size=1000, layers=4, heads=4, d_model=64, context_length=8192)
    short = dataclasses.replace(long, context_length=32)
    need = least_training_bytes(short, 320)
    assert need < least_training_bytes(long, 320)
    assert fits(short, 320, need) and fits(short, 320, None) and not fits(short, 320, need - 1)
    check_fits(short, 320, need)
    with pytest.raises(ResourceError, match="are free"):
        check_fits(short, 320, need - 1)


def results(value: float, **changes: Any) -> dict[str, Any]:
    return {
        "main_score": "accuracy",
        "val_scores": {"accuracy": {"value": value}},
        "baseline": {
            "bag_of_words": {"scores": {"accuracy": {"value": 0.8}}},
            "majority": {"scores": {"accuracy": {"value": 0.5}}},
        },
        "parameters": 10**8, "best_step": 10, "steps": 20, **changes,
    }  # fmt: skip


def test_the_last_line_names_what_helps_where_a_baseline_is_not_beaten() -> None:
    assert _advice(results(0.81)) == ""
    assert _advice(results(0.7, baseline={})) == ""
    assert _advice(results(0.7, main_score="rouge_l")) == ""
    said = _advice(results(0.8))
    assert said.startswith("\nnote      no better than the bag of words (0.800)")
    assert said.endswith("give more labelled rows")
    assert "--budget" in _advice(results(0.7, best_step=20))
    assert "pre-trained" in _advice(results(0.7, parameters=10**6, best_step=20))
