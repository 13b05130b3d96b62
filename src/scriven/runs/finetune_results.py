"""What scriven.json says of a fine-tuning, in words and rounded numbers, for the model card and the
report: its base model, columns and labels, and its scores beside those of trivial baselines."""

from collections.abc import Mapping
from typing import Any

Scores = Mapping[str, Mapping[str, Any]]
"""Name -> value, low, high (a 95 % interval), signature."""

MAX_LABELS = 30
"""Names of labels that are listed."""
OUT_OF_100 = ("bleu", "chrf", "rouge_l")
"""Scores from 0 to 100."""
SCORE_NAMES = {
    "macro_f1": "macro F1",
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge_l": "ROUGE-L",
    "ended": "ended by themselves",
}
"""Scores whose usual name is not ours."""


def is_finetuned(metadata: Mapping[str, Any]) -> bool:
    """Whether a run is a fine-tuning."""
    return isinstance(metadata.get("finetune"), dict)


def score_name(name: str) -> str:
    """The name of a score for a person."""
    return SCORE_NAMES.get(name, name.replace("_", " "))


def format_score(name: str, value: float) -> str:
    """A score with the decimals that are usual for it."""
    return f"{value:.1f}" if name in OUT_OF_100 else f"{value:.3f}"


def reference_scores(metadata: Mapping[str, Any]) -> dict[str, Scores]:
    """The scores of trivial baselines and of the control run, by a name for a person."""
    results = metadata.get("results") or {}
    baseline = results.get("baseline") or metadata.get("baseline") or {}
    scores = {
        str(name).replace("_", " "): each["scores"]
        for name, each in baseline.items()
        if isinstance(each, dict) and isinstance(each.get("scores"), dict)
    }
    # the same training from random weights shows what the pre-training was worth
    control = results.get("control")
    if isinstance(control, dict) and isinstance(control.get("val_scores"), dict):
        scores["without pre-training"] = control["val_scores"]
    return scores


def score_table(metadata: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The table of scores: its heads, and a row for each score; none while unfinished."""
    scores: Scores = (metadata.get("results") or {}).get("val_scores") or {}
    references = reference_scores(metadata)
    rows = []
    for name, each in scores.items():
        # a score may be undefined, such as a correlation of constants
        if each.get("value") is None:
            continue
        interval = ""
        if each.get("low") is not None and each.get("high") is not None:
            interval = f"{format_score(name, each['low'])} to {format_score(name, each['high'])}"
        others = [(score.get(name) or {}).get("value") for score in references.values()]
        rows.append(
            [
                score_name(name),
                format_score(name, each["value"]),
                interval,
                *("" if value is None else format_score(name, value) for value in others),
            ]
        )
    return ["score", "this model", "95 % interval", *references], rows


def signatures(metadata: Mapping[str, Any]) -> list[str]:
    """How scores were computed, where they have a signature."""
    scores: Scores = (metadata.get("results") or {}).get("val_scores") or {}
    return [
        f"{score_name(name)}: {each['signature']}"
        for name, each in scores.items()
        if each.get("signature")
    ]


def finetune_rows(metadata: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """(name, values): the task, its base model, and the names of its columns and labels."""
    finetune: Mapping[str, Any] = metadata["finetune"]
    rows = [("task", [str(metadata.get("task"))])]
    # the base model by its name only: its folder is somebody's own
    base = finetune.get("base") or {}
    if base.get("name"):
        fresh = " in shape only: its weights were not used" if base.get("fresh") else ""
        rows.append(("base model", [f"{base['name']}{fresh}"]))
    settings = (metadata.get("settings") or {}).get("finetune") or {}
    if settings.get("weights"):
        is_lora = settings["weights"] == "lora"
        rank = f" of rank {settings.get('lora_rank')}" if is_lora else ""
        rows.append(("weights trained", [f"{settings['weights']}{rank}"]))
    columns = finetune.get("columns") or {}
    if columns:
        named = [f"{ours}: {name}" if ours != name else ours for ours, name in columns.items()]
        rows.append(("columns", named))
    # a model may have hundreds of labels
    labels = [str(each) for each in finetune.get("labels") or []]
    if labels:
        more = [f"and {len(labels) - MAX_LABELS} more"] if len(labels) > MAX_LABELS else []
        rows.append((f"{len(labels)} labels", labels[:MAX_LABELS] + more))
    # of a regression: the range of the scores in the training table
    if finetune.get("low") is not None and finetune.get("high") is not None:
        rows.append(("scores", [f"{finetune['low']:g} to {finetune['high']:g}"]))
    return rows
