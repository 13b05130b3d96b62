"""What the card of a fine-tuned model says beside that of any other: its task, the rows it was
taught with, its scores beside trivial baselines, and how it is asked.

Knows no tensor, and makes plain values only; `card.py` makes Markdown of them.
"""

from collections.abc import Mapping
from typing import Any

LABELS = 30
"""Names of labels that are listed."""

PIPELINES = {
    "classify": "text-classification",
    "entail": "text-classification",
    "translate": "translation",
    "summarize": "summarization",
    "chat": "text-generation",
    "instruct": "text-generation",
}
"""Hugging Face's word for what a task does."""

PURPOSES = {
    "classify": "gives a text one of several labels",
    "entail": "says how a hypothesis follows from a premise",
    "similarity": "says how alike two texts are",
    "choice": "chooses one of several answers",
    "chat": "answers in a conversation",
    "instruct": "answers a question or follows an instruction",
    "translate": "translates a text",
    "summarize": "writes a short text for a long one",
}

UNITS = {
    "label": "nats per example",
    "score": "squared spreads of the scores per example",
    "answer token": "nats per token of the answers",
}
"""What the loss of a task counts, by its measure."""

LABELLED = ("classify", "entail", "similarity", "choice")
"""Tasks that end in a label, a score or a choice."""

REWRITES = ("translate", "summarize")
"""Tasks that make one text of another."""

HUNDREDS = ("bleu", "chrf", "rouge_l")
"""Scores from 0 to 100."""

NAMES = {
    "macro_f1": "macro F1",
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge_l": "ROUGE-L",
    "ended": "ended by themselves",
}
"""Scores that people write otherwise than we do."""

Scores = Mapping[str, Mapping[str, Any]]


def is_finetuned(record: Mapping[str, Any]) -> bool:
    """Whether a run is a fine-tuning."""
    return isinstance(record.get("finetune"), dict)


def title(name: str) -> str:
    """The name of a score for a person."""
    return NAMES.get(name, name.replace("_", " "))


def figure(name: str, value: float) -> str:
    """A score as people write it."""
    return f"{value:.1f}" if name in HUNDREDS else f"{value:.3f}"


def interval(name: str, found: Mapping[str, Any]) -> str:
    """The ends of a score's interval, where it has one."""
    low, high = found.get("low"), found.get("high")
    if low is None or high is None:
        return ""
    return f"{figure(name, low)} to {figure(name, high)}"


def beside(record: Mapping[str, Any]) -> dict[str, Scores]:
    """The scores of what the model stands beside, by a name for a person."""
    results = record.get("results") or {}
    baseline = results.get("baseline") or record.get("baseline") or {}
    found = {
        str(name).replace("_", " "): each["scores"]
        for name, each in baseline.items()
        if isinstance(each, dict) and isinstance(each.get("scores"), dict)
    }
    control = results.get("control")
    if isinstance(control, dict) and isinstance(control.get("val_scores"), dict):
        found["without pre-training"] = control["val_scores"]
    return found


def scores(record: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The table of scores: its heads and its rows, a row for each score; none while unfinished."""
    found: Scores = (record.get("results") or {}).get("val_scores") or {}
    others = beside(record)
    rows = []
    for name, each in found.items():
        if each.get("value") is None:
            continue
        cells = [title(name), figure(name, each["value"]), interval(name, each)]
        for score in others.values():
            value = (score.get(name) or {}).get("value")
            cells.append("" if value is None else figure(name, value))
        rows.append(cells)
    return ["score", "this model", "95 % interval", *others], rows


def signatures(record: Mapping[str, Any]) -> list[str]:
    """How scores were computed, where they have a signature."""
    found: Scores = (record.get("results") or {}).get("val_scores") or {}
    return [
        f"{title(name)}: {each['signature']}"
        for name, each in found.items()
        if each.get("signature")
    ]


def facts(record: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """The task, what it was taught from, and the names of its columns and labels."""
    tuned: Mapping[str, Any] = record["finetune"]
    base = tuned.get("base") or {}
    rows = [("task", [str(record.get("task"))])]
    if base.get("name"):
        fresh = " in shape only: its weights were not used" if base.get("fresh") else ""
        rows.append(("base model", [f"{base['name']}{fresh}"]))
    tune = (record.get("settings") or {}).get("finetune") or {}
    if tune.get("weights"):
        rank = f" of rank {tune.get('lora_rank')}" if tune["weights"] == "lora" else ""
        rows.append(("weights trained", [f"{tune['weights']}{rank}"]))
    columns = tuned.get("columns") or {}
    if columns:
        rows.append(
            ("columns", [own if own == name else f"{own}: {name}" for own, name in columns.items()])
        )
    labels = [str(each) for each in tuned.get("labels") or []]
    if labels:
        more = [f"and {len(labels) - LABELS} more"] if len(labels) > LABELS else []
        rows.append((f"{len(labels)} labels", labels[:LABELS] + more))
    if tuned.get("low") is not None and tuned.get("high") is not None:
        rows.append(("scores", [f"{tuned['low']:g} to {tuned['high']:g}"]))
    return rows


def usage(record: Mapping[str, Any], kind: str) -> str:
    """Python for a class of transformers; empty where the task is asked as others of its kind."""
    name = str(record.get("task"))
    if kind.endswith("ForSequenceClassification"):
        return _classifier(name, record["finetune"])
    if name not in REWRITES:
        return ""
    words = (record.get("tokenizer") or {}).get("kind") in ("bpe", "word")
    text = " A text." if words else "A text."  # as a word in the middle of a text
    if is_pair(kind):
        return WRITES.format(auto="AutoModelForSeq2SeqLM", text=text, border="", cut="")
    from ..tokenizers.special_tokens import SPECIAL_TOKENS

    border, cut = f' + "{SPECIAL_TOKENS["delimiter"]}"', '[:, ids["input_ids"].size(1) :]'
    return WRITES.format(auto="AutoModelForCausalLM", text=text, border=border, cut=cut)


def is_pair(kind: str) -> bool:
    """Whether a class of transformers has an encoder and a decoder."""
    return kind.endswith(("MTModel", "ForConditionalGeneration"))


def _classifier(name: str, tuned: Mapping[str, Any]) -> str:
    if name == "similarity":
        return CLASSIFIER + SIMILAR.format(spread=tuned["spread"], mean=tuned["mean"])
    if name == "choice":
        return CLASSIFIER + CHOOSE
    text = '"A text."' if name == "classify" else '{"text": "A premise.", "text_pair": "A claim."}'
    return PIPELINE.format(text=text)


PIPELINE = """from transformers import pipeline

ask = pipeline("text-classification", model=".")
print(ask({text}))
"""

CLASSIFIER = """from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")


def read(one, other):
    return model(**tokenizer(one, other, return_tensors="pt")).logits[0, 0]


"""

SIMILAR = """one, other = "A text.", "Another text."
print((read(one, other) + read(other, one)) * {spread:.6g} + {mean:.6g})
"""

CHOOSE = """choices = ["An answer.", "Another answer."]
print(choices[max(range(2), key=lambda place: read("A question.", choices[place]))])
"""

WRITES = """from transformers import {auto}, AutoTokenizer

model = {auto}.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
ids = tokenizer("{text}"{border}, return_tensors="pt")
made = model.generate(**ids, do_sample=False, max_new_tokens=100){cut}
print(tokenizer.decode(made[0], skip_special_tokens=True))
"""
