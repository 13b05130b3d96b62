"""The model card: what a stranger has to know about a model, in the README.md of its folder.

Made from scriven.json alone, so it says what is written there and nothing else; a figure that is
missing is left out, and no licence is made up. The text is in model_card.md.jinja, code for
transformers in usage.py.jinja. A run folder may come from a stranger, so templates are rendered in
jinja2's sandbox, and every value is escaped unless it is marked as Markdown here.
"""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import registry
from ..tokenizers.base import SPECIAL_TOKENS
from ..tokenizers.chat_template import TASKS as CHAT_TASKS
from .finetune_results import finetune_rows, is_finetuned, score_table, signatures
from .metadata import SIZE_LIMIT

CARD = "README.md"
LOG = "metrics.jsonl"

LossCurve = Sequence[tuple[int, float]]
"""(step, validation loss), in order."""
MAX_SOURCES = 8
"""Names of texts that are listed; the others are counted."""
CURVE_ROWS = 10

LOSS_UNITS = {
    "label": "nats per example",
    "score": "squared standard deviations of the scores per example",
    "answer token": "nats per token of the answers",
}
"""What the loss of a task counts, by its measure; of any other, nats per measure."""

REWRITES = ("translate", "summarize")
"""Tasks that make one text of another."""
SHAPE = ("layers", "heads", "kv_heads", "d_model", "d_ff", "context_length")
SIZES = (
    "characters", "documents", "rows", "validation_rows", "train_tokens", "validation_tokens"
)  # fmt: skip
FIGURES = (
    ("val_bits_per_byte", "bits per byte", "{:.4f}"),
    ("val_perplexity", "perplexity", "{:,.3f}"),
    ("val_accuracy", "accuracy", "{:.2%}"),
)
"""Results on a text, with their names and formats."""


def model_card(
    metadata: Mapping[str, Any], hf_config: Mapping[str, Any], curve: LossCurve = ()
) -> str:
    """The card as Markdown with Hugging Face's front matter.

    Args:
        metadata: the content of scriven.json, of a finished run or not.
        hf_config: the content of config.json; it names the class in transformers, if there is one.
    """
    hf_class = (hf_config.get("architectures") or [None])[0]
    results = metadata.get("results") or {}
    architecture = str(metadata.get("architecture") or "")
    heads, rows = score_table(metadata)
    val_rows = results.get("val_rows")
    # a model that predicts no better than counting says so
    ngram_loss = _ngram_loss(metadata)
    finished = results.get("val_loss") is not None
    # the first point, the last and some between, evenly; no table of one point
    count = min(len(curve), CURVE_ROWS) if len(curve) > 1 else 0
    places = [round(i * (len(curve) - 1) / (count - 1)) for i in range(count)]
    # adapters alone belong to the model that they were trained from
    adapted = metadata.get("base") or {}
    is_adapter = bool(adapted.get("adapter")) and not adapted.get("merge")
    code = usage_code(metadata, hf_class) if hf_class and not is_adapter else ""
    return _render(
        "model_card.md.jinja",
        name=str(metadata.get("name", "model")),
        task=str(metadata.get("task", "language")),
        architecture=architecture,
        is_user_architecture=bool(architecture)
        and architecture not in registry.names("scriven.models"),
        hf_class=hf_class,
        imported=metadata.get("imported") or {},
        is_finetuned=is_finetuned(metadata),
        base=((metadata.get("finetune") or {}).get("base") or {}).get("name"),
        adapted=adapted.get("name"),
        shape_rows=_shape_rows(metadata, hf_class),
        data_rows=_data_rows(metadata),
        result_rows=_result_rows(metadata) if finished else [],
        score_heads=heads,
        score_rows=rows,
        held_out=val_rows if isinstance(val_rows, int) else None,
        signatures=signatures(metadata),
        no_better_than_counting=ngram_loss is not None and results["val_loss"] >= ngram_loss,
        curve=[curve[place] for place in places],
        code=code,
        is_adapter=is_adapter,
        talks=metadata.get("task") in CHAT_TASKS,
    )


def usage_code(metadata: Mapping[str, Any], hf_class: str) -> str:
    """Python that asks the model through its class in transformers, as the task needs it."""
    # the Auto class of transformers that picks this class
    auto = "AutoModelForCausalLM"
    if hf_class.endswith("ForMaskedLM"):
        auto = "AutoModelForMaskedLM"
    elif hf_class.endswith(("MTModel", "ForConditionalGeneration")):
        auto = "AutoModelForSeq2SeqLM"
    task = str(metadata.get("task", "language"))
    return _render(
        "usage.py.jinja",
        is_code=True,
        hf_class=hf_class,
        auto=auto,
        task=task,
        finetune=metadata.get("finetune") or {},
        with_leading_space=(metadata.get("tokenizer") or {}).get("kind") in ("bpe", "word"),
        delimiter=SPECIAL_TOKENS["delimiter"],
        talks=task in CHAT_TASKS,
    )


def read_loss_curve(folder: Path) -> list[tuple[int, float]]:
    """The validation losses that a run has logged; a line that cannot be read is skipped."""
    losses: dict[int, float] = {}
    try:
        with (folder / LOG).open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if len(line) >= SIZE_LIMIT or not ('"evaluation"' in line or '"extension"' in line):
                    continue
                try:
                    # the log may end in half a line, and people may edit it
                    event = json.loads(line)
                    if event["event"] == "evaluation" and abs(float(event["loss"])) < 1e6:
                        losses[int(event["step"])] = float(event["loss"])
                    # a longer training has left this curve at a step of its middle
                    elif event["event"] == "extension":
                        begins = int(event["step"])
                        losses = {step: loss for step, loss in losses.items() if step <= begins}
                except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                    continue
    except OSError:
        return []
    return sorted(losses.items())


# Rows of the card's tables

Row = tuple[str, str]
"""Name and value."""


def _shape_rows(metadata: Mapping[str, Any], hf_class: str | None) -> list[Row]:
    model, tokenizer = metadata.get("model") or {}, metadata.get("tokenizer") or {}
    rows: list[Row] = [("architecture", _code(metadata.get("architecture", "")))]
    if hf_class:
        rows.append(("class in transformers", _code(hf_class)))
    parameters = (metadata.get("results") or {}).get("parameters")
    if parameters:
        rows.append(("parameters", f"{parameters:,}"))
    # settings that are zero, or that this architecture does not have, are left out
    rows += [(name, f"{model[name]:,}") for name in SHAPE if model.get(name)]
    if tokenizer:
        size = tokenizer.get("vocab_size")
        rows.append(("tokenizer", _Markdown(f"{_plain(tokenizer.get('kind'))}, {size:,} tokens")))
    return rows


def _data_rows(metadata: Mapping[str, Any]) -> list[Row]:
    data = metadata.get("data") or {}
    names = []
    for source in map(str, data.get("sources") or []):
        # the last part of a path only: the folders of somebody's machine are private
        last = re.split(r"[/\\]", source.rstrip("/\\"))[-1]
        names.append(_code("standard input" if source == "-" else last or source))
    if not names:
        return []
    more = f" and {len(names) - MAX_SOURCES} more" if len(names) > MAX_SOURCES else ""
    rows: list[Row] = [("sources", _Markdown(", ".join(names[:MAX_SOURCES]) + more))]
    if is_finetuned(metadata):
        for name, values in finetune_rows(metadata):
            rows.append((name, _Markdown(", ".join(map(_plain, values)))))
    for name in SIZES:
        if isinstance(data.get(name), int):
            rows.append((name.replace("_", " "), f"{data[name]:,}"))
    if data.get("fingerprint"):
        rows.append(("fingerprint", _code(data["fingerprint"])))
    return rows


def _result_rows(metadata: Mapping[str, Any]) -> list[Row]:
    results = metadata["results"]
    measure = str(results.get("measure", "token")).removeprefix("next ")
    unit = LOSS_UNITS.get(measure, f"nats per {measure}")
    rows = [("validation loss", f"{results['val_loss']:.4f} {unit}")]
    for name, label, form in () if is_finetuned(metadata) else FIGURES:
        if results.get(name) is not None:
            rows.append((label, form.format(results[name])))
    rows += _before_rows(results)
    ngram_loss = _ngram_loss(metadata)
    if ngram_loss is not None:
        rows.append((f"counting {results.get('ngram_order')}-grams", f"{ngram_loss:.4f} nats"))
    for name in ("steps", "tokens"):
        if isinstance(results.get(name), int):
            rows.append((f"{name} of training", f"{results[name]:,}"))
    if results.get("seconds") is not None:
        rows.append(("time of training", f"{results['seconds']:,.0f} s"))
    return rows


def _before_rows(results: Mapping[str, Any]) -> list[Row]:
    """Bits per byte of what a model that went on with another text is compared with."""
    control = results.get("control") or {}
    figures = {
        "bits per byte before": results.get("base_val_bits_per_byte"),
        "bits per byte of a new model with the same budget": control.get("val_bits_per_byte"),
        "bits per byte on the older text": results.get("old_bits_per_byte"),
        "bits per byte on the older text before": results.get("old_bits_per_byte_before"),
    }
    return [(name, f"{each:.4f}") for name, each in figures.items() if isinstance(each, float)]


def _ngram_loss(metadata: Mapping[str, Any]) -> float | None:
    """The n-gram baseline's loss; None where it is no baseline: it sees one side of a gap only."""
    results = metadata.get("results") or {}
    is_comparable = metadata.get("task") != "masked" and results.get("val_loss") is not None
    return results.get("ngram_loss") if is_comparable else None


# Escaping


class _Markdown(str):
    """Text that is Markdown already; any other value of a template is escaped."""


def _render(template: str, *, is_code: bool = False, **values: Any) -> str:
    text: str = _environment(is_code).get_template(template).render(**values)
    return text


@functools.cache
def _environment(is_code: bool) -> Any:
    """The sandbox; `is_code` for Python, where nothing is escaped: its values are numbers."""
    import jinja2.sandbox  # loaded only when a card is written

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        # only the templates beside this file
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        finalize=None if is_code else _escape,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined if is_code else jinja2.Undefined,
    )
    yaml = lambda value: _Markdown(json.dumps(value))  # noqa: E731
    environment.filters |= {"plain": _plain, "code": _code, "markdown": _Markdown, "yaml": yaml}
    return environment


def _escape(value: object) -> str:
    return value if isinstance(value, _Markdown) else _plain(value)


def _plain(value: object) -> _Markdown:
    """Text of one line that Markdown shows as it is."""
    # line ends and control characters would start new Markdown blocks
    text = "".join(each if each.isprintable() else " " for each in str(value))
    return _Markdown(re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", text)[:200])


def _code(value: object) -> _Markdown:
    """A value in Markdown's code style; a backtick or bar, which would end it, is left out."""
    text = "".join(each if each.isprintable() else " " for each in str(value))
    return _Markdown("`" + re.sub(r"[`|]", "", text)[:200] + "`")
