"""The report of a run: one HTML file that needs no network, no account and no JavaScript.

Reads only the run folder. The templates are ours and the values are not: run names, samples and
labels can be anything, so every value is escaped, unless it was rendered here.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import format
from ..files import write_file
from ..format import compact, decimal, duration, heading, integer, percent, significant
from . import tables, verdict
from .curves import Line, Point, ReferenceLine, chart
from .run_log import (
    MainScore,
    MetricPoint,
    RunLog,
    best_evaluation,
    checked_metadata,
    main_score,
    read_run_log,
)
from .token_heatmap import token_heatmap

if TYPE_CHECKING:
    from jinja2 import Environment

SAMPLES = 12
SAMPLE_CHARACTERS = 2000
COMMAND_CHARACTERS = 4000

# HTML allows no control characters, and UTF-8 no half of a surrogate pair
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

# What the loss and the accuracy of a fine-tuning are about, by its loss unit.
LOSS_UNITS = {
    "label": "nats per example",
    "score": "squared standard deviations of the scores",
    "answer token": "nats per token of the answers",
}
ACCURACIES = {
    "label": "of the rows right",
    "score": "within half a standard deviation",
    "answer token": "of the answers' tokens right",
}

Tile = tuple[str, str, str]  # name, value, unit


def write_report(folder: Path, *, token_nll: Sequence[tuple[str, float]] = ()) -> Path:
    """Writes `report.html` into a run folder, finished or not, and returns its path.

    Arguments and errors as `read_run_log`.
    """
    target = folder / "report.html"
    write_file(target, render_report(read_run_log(folder, token_nll)).encode())
    return target


def render_report(run: RunLog) -> str:
    """The whole page as text."""
    from markupsafe import Markup

    sections = []
    for title, macro, build in SECTIONS:
        values = build(run)
        if values is not None:
            anchor = title.lower().replace(" ", "-").replace("?", "")
            sections.append((anchor, title, render_macro(macro, *values)))
    style = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    page: str = environment().get_template("page.html.jinja").render(
        name=run.name,
        kind=" · ".join(word for word in (run.text("architecture"), run.text("task")) if word),
        verdict=verdict.verdict(run),
        sections=sections,
        style=Markup(style),  # noqa: S704  # our own file
        version=run.text("scriven"),
    )  # fmt: skip
    return page


def render_macro(name: str, *values: Any, **named: Any) -> str:
    """A part of the page, as markup: the macro of this name in sections.html.jinja."""
    module: Any = environment().get_template("sections.html.jinja").module
    markup: str = getattr(module, name)(*values, **named)
    return markup


@lru_cache(maxsize=1)
def environment() -> "Environment":
    """The sandboxed Jinja environment, with the number formats as filters."""
    from jinja2 import FunctionLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    sandbox = ImmutableSandboxedEnvironment(
        loader=FunctionLoader(lambda name: files(__package__).joinpath(name).read_text("utf-8")),
        autoescape=True,
        finalize=_displayable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("compact", "decimal", "duration", "integer", "percent"):
        sandbox.filters[name] = getattr(format, name)
    return sandbox


def _displayable(value: Any) -> Any:
    """A value as text that HTML can hold, what it cannot becomes U+FFFD; markup stays as it is."""
    if hasattr(value, "__html__"):
        return value
    text = str(value).replace("\r\n", "\n").replace("\r", "\n")
    return _UNPRINTABLE.sub("\ufffd", text)


def _tiles(run: RunLog) -> tuple[list[Tile]]:
    """(name, value, unit) of the key figures."""
    metrics, unit = run.metrics, run.metrics.loss_unit
    loss_unit = f"nats per {unit}"
    if run.finetuned:
        loss_unit = LOSS_UNITS.get(unit, loss_unit)
    # 1. how good it is
    tiles = [*_score_tiles(run), ("Validation loss", decimal(metrics.loss), loss_unit)]
    # a run that is no language model has no loss per token, so nothing to compare with n-grams
    if metrics.is_language_model and not run.finetuned:
        order = "n" if metrics.ngram_order is None else metrics.ngram_order
        tiles += [
            (f"{order}-gram counting", decimal(metrics.ngram_loss), loss_unit),
            ("Perplexity", significant(metrics.perplexity), f"choices per {unit}"),
            ("Bits per byte", decimal(metrics.bits_per_byte), "for any tokenizer"),
        ]
    if not run.finetuned:
        of = f"next {unit} right" if metrics.is_language_model else "of the validation part"
        tiles.append(("Accuracy", percent(metrics.accuracy), of))
    # 2. what it took
    tiles.append(("Parameters", compact(metrics.parameters), "weights learned"))
    if run.finetuned:
        tiles += [
            ("Rows", integer(run.number("data", "rows")), "trained on"),
            ("Held-out rows", integer(run.number("data", "validation_rows")), "never trained on"),
        ]
    read = "of the rows" if run.finetuned else "of the training text"
    tiles += [
        ("Tokens", compact(metrics.tokens), "read in training"),
        ("Epochs", decimal(metrics.epochs, 1), read),
        ("Time", duration(metrics.seconds), "wall clock"),
        ("Speed", compact(metrics.tokens_per_second), "tokens per second"),
    ]
    return (tiles,)


def _score_tiles(run: RunLog) -> list[Tile]:
    """The main score; beside it another score, else the token accuracy, else a baseline."""
    score, unit = run.score, run.metrics.loss_unit
    if score is None or score.value is None:
        return []

    def tile(score: MainScore) -> Tile:
        return heading(score.name), score.show(score.value or 0.0), score.interval

    # 1. another score, such as macro F1 beside accuracy
    others = [key for key in checked_metadata(run)["results"]["val_scores"] if key != score.key]
    if others and (other := main_score(run, others[0])) is not None:
        return [tile(score), tile(other)]
    # 2. written answers: the accuracy of their tokens
    if unit == "answer token":
        return [tile(score), ("Accuracy", percent(run.metrics.accuracy), ACCURACIES[unit])]
    # 3. otherwise the first baseline
    references = [(name, score.show(v), "for comparison") for name, v in score.references.items()]
    return [tile(score), *references[:1]]


def _bars(run: RunLog) -> tuple[Any, ...] | None:
    """The model beside what is trivial: losses of a language model, scores of a fine-tuning."""
    metrics, score = run.metrics, run.score
    show: Callable[[float], str] = decimal
    if score is not None and score.value is not None and score.references:
        # baselines and control first, the model last
        rows = [*score.references.items(), ("this model", score.value)]
        show, caption = score.show, f"{score.name} on the same held-out rows; longer is better"
    elif (
        metrics.is_language_model and metrics.loss is not None and metrics.uniform_loss is not None
    ):
        # from the trivial to the trained
        rows = [("uniform guessing", metrics.uniform_loss)]
        if metrics.ngram_loss is not None:
            rows.append((f"counting {metrics.ngram_order or 'n'}-grams", metrics.ngram_loss))
        rows.append(("this model", metrics.loss))
        caption = f"Nats per {metrics.loss_unit} on the same held-out text; shorter is better"
    else:
        return None
    # the longest bar fills the column; a negative score has a bar of width 0
    longest = max(0.0, *(value for _, value in rows)) or 1.0
    widths = [f"{100 * max(value, 0) / longest:.2f}%" for _, value in rows]
    return [(*row, width) for row, width in zip(rows, widths, strict=True)], show, caption


def _curves(run: RunLog) -> tuple[Any, ...]:
    """Three charts, and a note below the first."""
    metrics, unit = run.metrics, run.metrics.loss_unit

    def lines(name: str, scale: float = 1.0) -> list[Line]:
        return [
            Line("training", "train", points(run.steps, name, scale)),
            Line("validation", "held", points(run.evaluations, name, scale), dots=True),
            *(Line("given up", "rate", points(each, name, scale)) for each in run.left),
        ]

    # 1. what is singled out: the best evaluation, and the n-gram loss as a line across
    best = best_evaluation(run)
    level = None
    if metrics.is_language_model and metrics.ngram_loss is not None:
        level = ReferenceLine(f"counting {metrics.ngram_order or 'n'}-grams", metrics.ngram_loss)
    # 2. a training loss that includes another loss cannot stand beside the validation loss
    note = verdict.loss_note(run) if run.finetuned else ""
    loss = chart(
        f"Loss, {LOSS_UNITS.get(unit, f'nats per {unit}')}",
        lines("loss")[1:] if note else lines("loss"),
        show=decimal,
        level=level,
        mark=(best.step, best.loss) if best is not None and best.loss is not None else None,
        cut="top",
    )
    # 3. what the accuracy is about
    of = f" of next {unit}s" if metrics.is_language_model else ""
    if unit in ACCURACIES and not metrics.is_language_model:
        of = f" {ACCURACIES[unit]}"
    accuracy = chart(
        f"Accuracy, %{of}",
        lines("accuracy", 100.0),
        show=lambda value: percent(value / 100),
        cut="bottom",
    )
    lr = Line("learning rate", "rate", points(run.steps, "lr"))
    return loss, note, accuracy, chart("Learning rate", [lr], show=significant, zero=True)


def points(measured: Sequence[MetricPoint], name: str, scale: float = 1.0) -> list[Point]:
    """(step, value times scale) wherever the value was measured."""
    pairs = ((point.step, getattr(point, name)) for point in measured)
    return [(step, scale * value) for step, value in pairs if value is not None]


def _samples(run: RunLog) -> tuple[Any, ...] | None:
    """(when, first line, prompt, text) of each sample that is shown, and how many there are.

    Newest first, the newest open; of many, the first, the last and some evenly between.
    """
    if not run.samples:
        return None
    total = len(run.samples)
    count = min(total, SAMPLES)
    rows = []
    for place in reversed(range(count)):
        sample = run.samples[round(place * (total - 1) / max(count - 1, 1))]
        time = "" if sample.seconds is None else f" · {duration(sample.seconds)}"
        text = sample.text[:SAMPLE_CHARACTERS]
        cut = "…" if len(sample.text) > SAMPLE_CHARACTERS else ""
        # whether a text repeats its prompt is up to the task; it is marked only where it does
        prompt = sample.prompt if text.startswith(sample.prompt) else ""
        preview = " ".join(sample.text.split())[:90]
        when = f"step {integer(sample.step)}{time}"
        rows.append((when, preview, prompt, text[len(prompt) :] + cut))
    return rows, total


def _heatmap(run: RunLog) -> tuple[Any, ...] | None:
    return token_heatmap(run.token_nll, run.metrics.loss_unit) if run.token_nll else None


# (title, macro of the template, its arguments or None to leave it out), in the order of the page.
# A new section is one line here and one macro in sections.html.jinja.
SECTIONS: tuple[tuple[str, str, Callable[[RunLog], tuple[Any, ...] | None]], ...] = (
    ("Key figures", "tiles", _tiles),
    ("Is it any good?", "bars", _bars),
    ("Scores", "score_table", lambda run: tables.scores(run) if run.finetuned else None),
    ("Confusion matrix", "confusion", tables.confusion),
    ("Task", "pairs", lambda run: (tables.task_facts(run),) if run.finetuned else None),
    ("Curves", "curves", _curves),
    ("What could help next", "advice", lambda run: (verdict.advice(run),)),
    ("Its answers over time", "samples", lambda run: _samples(run) if run.finetuned else None),
    ("Its writing over time", "samples", lambda run: None if run.finetuned else _samples(run)),
    ("Per-token loss", "heatmap", _heatmap),
    ("Settings and why", "settings", tables.settings_table),
    ("Data", "pairs", lambda run: (tables.data_rows(run),)),
    ("Environment", "pairs", lambda run: (tables.environment_rows(run),)),
    ("Command", "command", lambda run: (run.text("command")[:COMMAND_CHARACTERS],)),
    ("Notes", "notes", lambda run: (rows,) if (rows := tables.note_rows(run)) else None),
)
