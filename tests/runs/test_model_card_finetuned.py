"""The card of a fine-tuned model: its task, its scores beside baselines, and code that runs."""

import re
from typing import Any

import pytest

from scriven.runs.model_card import model_card

CLASSIFIER = {"architectures": ["GPT2ForSequenceClassification"]}
WRITER = {"architectures": ["GPT2LMHeadModel"]}
PAIR = {"architectures": ["MarianMTModel"]}


def score(value: float, **more: Any) -> dict[str, Any]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05, **more}


def record(task: str = "classify", **finetune: Any) -> dict[str, Any]:
    return {
        "name": "tuned", "architecture": "gpt2", "task": task,
        "model": {"layers": 4}, "tokenizer": {"kind": "char", "vocab_size": 321},
        "settings": {"finetune": {"weights": "lora", "lora_rank": 4}},
        "data": {"fingerprint": "ab12", "sources": ["/home/anna/rows.csv"], "rows": 900,
                 "validation_rows": 100, "train_tokens": 5, "validation_tokens": 1},
        "finetune": {"labels": ["so so", "good | 😀"], "base": {"name": "pre", "fresh": False},
                     "columns": {"text": "review", "label": "label"}, **finetune},
        "results": {
            "measure": "label", "val_loss": 0.4567, "val_rows": 100, "steps": 20, "tokens": 5,
            "val_scores": {"accuracy": score(0.81), "matthews": score(0.6)},
            "baseline": {"majority": {"note": "", "scores": {"accuracy": score(0.5)}}},
            "control": {"val_scores": {"accuracy": score(0.7), "matthews": score(0.3)}},
        },
    }  # fmt: skip


def code(card: str) -> str:
    """The Python of a card, which must at least compile."""
    (found,) = re.findall(r"```python\n(.*?)```", card, re.S)
    compile(found, "card", "exec")
    return str(found)


def test_it_tells_task_rows_and_scores() -> None:
    card = model_card(record(), CLASSIFIER, [(1, 0.9), (2, 0.5)])
    for words in (
        "gives a text one of several labels, fine-tuned with Scriven from `pre`", "`rows.csv`",
        "| base model | pre |", "| weights trained | lora of rank 4 |", "text: review",
        "| rows | 900 |",
        "| 2 labels | so so, good \\| 😀 |", "On 100 held-out rows",
        "| score | this model | 95 % interval | majority | without pre-training |",
        "| accuracy | 0.810 | 0.760 to 0.860 | 0.500 | 0.700 |",
        "| matthews | 0.600 | 0.550 to 0.650 |  | 0.300 |",
        "0.4567 nats per example", "scriven predict FOLDER", "pipeline_tag: text-classification",
    ):  # fmt: skip
        assert words in card, words
    assert "anna" not in card and "per byte" not in card and "word for word" not in card


@pytest.mark.parametrize(
    ("task", "shape", "words"),
    [
        ("classify", CLASSIFIER, 'pipeline("text-classification", model=".")'),
        ("entail", CLASSIFIER, '"text_pair"'),
        ("similarity", CLASSIFIER, "* 1.5 + 2.25"),
        ("choice", CLASSIFIER, "choices[max("),
        ("summarize", WRITER, 'tokenizer("A text." + "<|delimiter|>"'),
        ("translate", PAIR, "AutoModelForSeq2SeqLM"),
        ("chat", WRITER, "apply_chat_template"),
        ("instruct", WRITER, "apply_chat_template"),
    ],
)
def test_its_code_is_that_of_the_task(task: str, shape: dict[str, Any], words: str) -> None:
    assert words in code(model_card(record(task, spread=1.5, mean=2.25), shape))


def test_without_a_twin_there_is_only_our_own_command() -> None:
    card = model_card(record(), {"model_type": "scriven-roberta"})
    assert "```" not in card and "scriven predict FOLDER" in card


def test_a_score_has_its_signature_and_its_usual_name() -> None:
    made = record("translate")
    made["results"]["val_scores"] = {
        "bleu": {"value": 31.26, "low": 30.0, "high": 32.0, "signature": "case:mixed|eff:no"}
    }
    card = model_card(made, PAIR)
    assert "| BLEU | 31.3 | 30.0 to 32.0 |" in card
    assert "BLEU: case:mixed\\|eff:no" in card


def test_an_unfinished_one_claims_nothing() -> None:
    card = model_card({**record(), "results": None}, CLASSIFIER)
    assert "not finished" in card and "accuracy" not in card


@pytest.mark.parametrize(("count", "words"), [(30, "l29 |"), (31, "l29, and 1 more |")])
def test_of_many_labels_the_first_thirty_are_named(count: int, words: str) -> None:
    labels = [f"l{number}" for number in range(count)]
    card = model_card(record(labels=labels), CLASSIFIER, [])
    (line,) = [line for line in card.splitlines() if line.startswith(f"| {count} labels")]
    assert line.endswith(words)
