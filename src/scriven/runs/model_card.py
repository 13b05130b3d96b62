"""The model card: what a stranger has to know about a model, in the README.md of its folder.

Made from scriven.json alone, so it says what is written there and nothing else; a figure that is
missing is left out, and no licence is made up. Knows no tensor.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import registry
from ..tokenizers import chat_template
from . import card_task
from .metadata import LONGEST

LOG = "metrics.jsonl"

Curve = Sequence[tuple[int, float]]
"""(step, validation loss), in order."""

SOURCES = 8
"""Names of texts that are listed; the others are counted."""
CURVE = 10
"""Rows of the curve, at most."""

PIPELINES = {
    "language": "text-generation",
    "masked": "fill-mask",
    "seq2seq": "text2text-generation",
    "pairs": "text2text-generation",
    **card_task.PIPELINES,
}
"""Hugging Face's word for what a task does; for another task, none is given."""

PURPOSES = {
    "language": "predicts the next token of a text",
    "masked": "fills gaps in a text, knowing both sides of them",
    "seq2seq": "reads a text and writes what is missing in it",
    "pairs": "reads one text and writes another",
    **card_task.PURPOSES,
}

TALK = """messages = [{"role": "user", "content": "Good morning."}]
ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
answer = model.generate(**ids)[0, ids["input_ids"].size(1) :]
print(tokenizer.decode(answer, skip_special_tokens=True))
"""
"""How transformers asks a model that answers."""

SIZES = (
    "characters", "documents", "rows", "validation_rows", "train_tokens", "validation_tokens"
)  # fmt: skip
"""What is told of a text's or a table's size."""

FIGURES = (
    ("val_bits_per_byte", "bits per byte", "{:.4f}"),
    ("val_perplexity", "perplexity", "{:,.3f}"),
    ("val_accuracy", "accuracy", "{:.2%}"),
)
"""Of a text, with how each is called and written."""

_LABELS = ("layers", "heads", "kv_heads", "d_model", "d_ff", "context_length")


def model_card(record: Mapping[str, Any], shape: Mapping[str, Any], curve: Curve = ()) -> str:
    """The card as Markdown with Hugging Face's front matter.

    Args:
        record: the content of scriven.json, finished or not.
        shape: the content of config.json; it names the class in transformers, where there is one.
        curve: how the validation loss went.
    """
    kind = (shape.get("architectures") or [None])[0]
    task = str(record.get("task", "language"))
    parts = [
        _front(record, kind, task),
        f"# {_plain(str(record.get('name', 'model')))}",
        _opening(record, task),
        _table(_shape(record, kind)),
        "## Rows" if card_task.is_finetuned(record) else "## Text",
        _text(record),
        "## Results",
        _results(record, curve, task),
        "## Use",
        _use(record, kind, task),
        "## Limits",
        _limits(record, task),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front(record: Mapping[str, Any], kind: str | None, task: str) -> str:
    tags = ["scriven", str(record.get("architecture", "")), "trained-from-scratch"]
    if record.get("imported"):
        tags.pop()
    lines = ["---", f"library_name: {'transformers' if kind else 'scriven'}"]
    if task in PIPELINES:
        lines.append(f"pipeline_tag: {PIPELINES[task]}")
    licence = (record.get("imported") or {}).get("license")
    if licence:
        lines.append(f"license: {json.dumps(licence)}")
    lines += ["tags:", *(f"- {json.dumps(tag)}" for tag in tags if tag), "---"]
    return "\n".join(lines)


def _opening(record: Mapping[str, Any], task: str) -> str:
    purpose = PURPOSES.get(task, f"was trained for the task `{_plain(task)}`")
    imported = record.get("imported")
    if imported:
        return (
            f"A model that {purpose}, imported with Scriven from the folder "
            f"{_code(imported.get('folder', ''))}. What its authors say of it counts, above all "
            "its licence."
        )
    if card_task.is_finetuned(record):
        base = (record["finetune"].get("base") or {}).get("name")
        begun = f" from {_code(base)}, which was trained from scratch," if base else ""
        return f"A model that {purpose}, fine-tuned with Scriven{begun} on the rows named below."
    return f"A model that {purpose}, trained from scratch with Scriven on the text named below."


def _shape(record: Mapping[str, Any], kind: str | None) -> list[tuple[str, str]]:
    model, tokenizer = record.get("model") or {}, record.get("tokenizer") or {}
    rows = [("architecture", _code(record.get("architecture", "")))]
    if kind:
        rows.append(("class in transformers", _code(kind)))
    parameters = (record.get("results") or {}).get("parameters")
    if parameters:
        rows.append(("parameters", f"{parameters:,}"))
    rows += [(name, f"{model[name]:,}") for name in _LABELS if model.get(name)]
    if tokenizer:
        size = tokenizer.get("vocab_size")
        rows.append(("tokenizer", f"{_plain(str(tokenizer.get('kind')))}, {size:,} tokens"))
    return rows


def _text(record: Mapping[str, Any]) -> str:
    data = record.get("data") or {}
    names = [_code(_name(str(each))) for each in data.get("sources") or []]
    if not names:
        return "Not known: this folder does not say what the model was trained on."
    more = f" and {len(names) - SOURCES} more" if len(names) > SOURCES else ""
    rows = [("sources", ", ".join(names[:SOURCES]) + more)]
    if card_task.is_finetuned(record):
        told = card_task.facts(record)
        rows += [(_plain(name), ", ".join(_plain(each) for each in found)) for name, found in told]
    for name in SIZES:
        if isinstance(data.get(name), int):
            rows.append((name.replace("_", " "), f"{data[name]:,}"))
    if data.get("fingerprint"):
        rows.append(("fingerprint", _code(data["fingerprint"])))
    return _table(rows)


def _results(record: Mapping[str, Any], curve: Curve, task: str) -> str:
    results = record.get("results") or {}
    if results.get("val_loss") is None:
        if record.get("imported"):
            return "None here: `scriven evaluate` measures the model on a text of yours."
        return "Training is not finished; these are the best weights so far."
    unit = str(results.get("measure", "token")).removeprefix("next ")
    tuned = card_task.is_finetuned(record)
    unit = card_task.UNITS.get(unit, f"nats per {_plain(unit)}")
    rows = [("validation loss", f"{results['val_loss']:.4f} {unit}")]
    for name, label, form in () if tuned else FIGURES:
        if results.get(name) is not None:
            rows.append((label, form.format(results[name])))
    baseline = None if task == "masked" else results.get("ngram_loss")  # counting sees one side
    if baseline is not None:
        rows.append((f"counting {results.get('ngram_order')}-grams", f"{baseline:.4f} nats"))
    for name in ("steps", "tokens"):
        if isinstance(results.get(name), int):
            rows.append((f"{name} of training", f"{results[name]:,}"))
    if results.get("seconds") is not None:
        rows.append(("time of training", f"{results['seconds']:,.0f} s"))
    parts = [*_scores(record), _table(rows)]
    if baseline is not None and results["val_loss"] >= baseline:
        parts.append("**It predicts no better than counting does**, so it has learnt little.")
    if len(curve) > 1:
        parts.append(_curve(curve))
    return "\n\n".join(parts)


def _scores(record: Mapping[str, Any]) -> list[str]:
    """The scores of a fine-tuned model beside those of trivial baselines."""
    if not card_task.is_finetuned(record):
        return []
    heads, rows = card_task.scores(record)
    if not rows:
        return []
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    shown = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)
    count = record["results"].get("val_rows")
    parts = [f"On {count:,} held-out rows, with 95 % intervals:"] if isinstance(count, int) else []
    parts.append(shown)
    signed = card_task.signatures(record)
    return [*parts, "\n".join(f"- {_plain(each)}" for each in signed)] if signed else parts


def _cell(text: str) -> str:
    return text if set(text) <= set("-:") else _plain(text)


def _curve(curve: Curve) -> str:
    """The first, the last and some between, evenly."""
    count = min(len(curve), CURVE)
    chosen = [curve[round(i * (len(curve) - 1) / (count - 1))] for i in range(count)]
    rows = [f"| {step:,} | {loss:.3f} |" for step, loss in chosen]
    return "\n".join(["| step | validation loss |", "|---:|---:|", *rows])


def _use(record: Mapping[str, Any], kind: str | None, task: str) -> str:
    own = _own(record, task)
    if kind is None:
        return (
            f"{own} The architecture has no counterpart in transformers, so other programs "
            "cannot read it; the weights are plain safetensors under Scriven's names."
        )
    code = card_task.usage(record, kind) if card_task.is_finetuned(record) else ""
    if code:
        return f"```python\n{code}```\n\n{own}"
    auto = "AutoModelForCausalLM"
    if kind.endswith("ForMaskedLM"):
        auto = "AutoModelForMaskedLM"
    elif card_task.is_pair(kind):
        auto = "AutoModelForSeq2SeqLM"
    talk = TALK if task in chat_template.TASKS else ""
    return f"""```python
from transformers import {auto}, AutoTokenizer

model = {auto}.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
{talk}```

{own}"""


def _own(record: Mapping[str, Any], task: str) -> str:
    """How Scriven itself uses it."""
    commands = ["generate FOLDER", "scriven.load(FOLDER)` in Python"]
    if task == "masked":
        commands = ['generate FOLDER "To <mask> or not"', "scriven.load(FOLDER)`"]
    elif task in chat_template.TASKS:
        commands[0] = "chat FOLDER"
    elif card_task.is_finetuned(record):
        commands = ["predict FOLDER IN.csv -o OUT.csv", "scriven.load(FOLDER).predict([...])`"]
    own = f"With Scriven: `scriven {commands[0]}`, or `{commands[1]}."
    if record.get("architecture") and record["architecture"] not in registry.names(
        "scriven.models"
    ):
        own += f" It needs its author's file, `--arch {_plain(str(record['architecture']))}.py`."
    return own


def _limits(record: Mapping[str, Any], task: str) -> str:
    if record.get("imported"):
        return "Those of the original model. Nothing was trained or measured here."
    said = (
        "It may repeat passages of that text word for word, and whatever is wrong or hurtful in it"
    )
    if task in card_task.LABELLED:
        said = "It answers whatever it is given, also what is unlike anything it was taught with"
    part = "rows of the same table" if card_task.is_finetuned(record) else "a part of the same text"
    lines = [
        "It knows its training text and nothing else: no facts, no instructions, no judgement.",
        f"{said}; nothing was filtered.",
        f"The results are of one run, on {part} that was held out; on others it will do worse.",
        "No licence is given: whoever publishes it chooses one that the texts allow.",
    ]
    if task == "language":
        lines.insert(1, "What it writes is made up.")
    return "\n".join(f"- {line}" for line in lines)


def _table(rows: Sequence[tuple[str, str]]) -> str:
    body = [f"| {name} | {value} |" for name, value in rows]
    return "\n".join(["| | |", "|---|---|", *body])


def _name(source: str) -> str:
    """The last part of a path: where it lay on somebody's machine is nobody's business."""
    parts = [part for part in re.split(r"[/\\]", source) if part]
    return "standard input" if source == "-" else parts[-1] if parts else source


def _plain(text: str) -> str:
    """Text of one line that Markdown shows as it is."""
    kept = "".join(each if each.isprintable() else " " for each in text)
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", kept)[:200]


def _code(value: object) -> str:
    """A value in Markdown's code style; a mark that would end it is left out."""
    kept = "".join(each if each.isprintable() else " " for each in str(value))
    return "`" + re.sub(r"[`|]", "", kept)[:200] + "`"


def read_loss_curve(folder: Path) -> list[tuple[int, float]]:
    """The validation losses that a run has logged; a line that cannot be read is passed over."""
    found: dict[int, float] = {}
    try:
        with (folder / LOG).open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if len(line) < LONGEST and '"evaluation"' in line:
                    _add(found, line)
    except OSError:
        return []
    return sorted(found.items())


def _add(found: dict[int, float], line: str) -> None:
    try:
        event = json.loads(line)
        if event["event"] == "evaluation" and abs(float(event["loss"])) < 1e6:
            found[int(event["step"])] = float(event["loss"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return
