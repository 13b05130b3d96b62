"""The report page: which sections a run has, in which order; written in one piece or not at all.

Reads only the run folder. Everything a person or a model wrote is shown as text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..files import write_file
from ..format import compact, decimal, duration, integer, percent, significant
from . import finetune_section, tables, verdict
from .curves import Line, Point, ReferenceLine, chart
from .finetune_section import ACCURACIES, LOSS_UNITS, MainScore, is_finetuned, main_score
from .run_log import (
    Event,
    KeyMetrics,
    MetricPoint,
    RunLog,
    best_evaluation,
    key_metrics,
    read_run_log,
)
from .template import render_macro, render_page
from .token_heatmap import token_heatmap

SAMPLES = 12
SAMPLE_CHARACTERS = 2000
COMMAND_CHARACTERS = 4000


def write_report(folder: Path, *, token_nll: Sequence[tuple[str, float]] = ()) -> Path:
    """Writes `report.html` into a run folder, finished or not, and returns its path.

    Args:
        folder: the run folder; `scriven.json` must be there, `metrics.jsonl` may be.
        token_nll: (token, nats) along a stretch of validation text; without it `surprise.json` of
            the folder is used, when present.

    Raises:
        InputError: the folder is not a run folder.
        DamagedError: scriven.json or surprise.json is not what Scriven writes.
        ResourceError: the disk is full.
    """
    target = folder / "report.html"
    write_file(target, render(read_run_log(folder, token_nll)).encode())
    return target


@dataclass(frozen=True)
class ReportData:
    """A run, and what several sections need of it."""

    run: RunLog
    metrics: KeyMetrics
    score: MainScore | None
    """Of a fine-tuned run."""

    @property
    def finetuned(self) -> bool:
        """Whether the run is a fine-tuning."""
        return is_finetuned(self.run)


@dataclass(frozen=True)
class Section:
    """A rendered section."""

    title: str
    content: str

    @property
    def id(self) -> str:
        """The anchor."""
        return self.title.lower().replace(" ", "-").replace("?", "")


def render(run: RunLog) -> str:
    """The whole page as text."""
    score = main_score(run) if is_finetuned(run) else None
    report = ReportData(run, key_metrics(run), score)
    sections = []
    for title, macro, build in SECTIONS:
        values = build(report)
        if values is not None:
            content = render_macro(macro, *values) if macro else values[0]
            sections.append(Section(title, content))
    # what stands below the name of the run
    said = verdict.verdict(report.metrics)
    if report.finetuned:
        said = verdict.finetune_verdict(run, report.metrics, score)
    return render_page(
        name=run.name,
        kind=" · ".join(word for word in (run.text("architecture"), run.text("task")) if word),
        verdict=said,
        sections=sections,
        style=_style(),
        version=run.text("scriven"),
    )


def _style() -> Any:
    from markupsafe import Markup

    return Markup(files(__package__).joinpath("style.css").read_text(encoding="utf-8"))  # noqa: S704


def _tiles(report: ReportData) -> list[Any]:
    metrics, unit = report.metrics, report.metrics.loss_unit
    if report.finetuned:
        return [finetune_section.tiles(report.run, metrics, report.score)]
    # a run that is no language model has no loss per token, so nothing to compare with n-grams
    language = metrics.is_language_model
    of = f"next {unit} right" if language else "of the validation part"
    ngram = "n-gram counting"
    if metrics.ngram_order is not None:
        ngram = f"{metrics.ngram_order}-gram counting"
    rows = [
        ("Validation loss", decimal(metrics.loss), f"nats per {unit}"),
        (ngram, decimal(metrics.ngram_loss), f"nats per {unit}"),
        ("Perplexity", significant(metrics.perplexity), f"choices per {unit}"),
        ("Bits per byte", decimal(metrics.bits_per_byte), "for any tokenizer"),
        ("Accuracy", percent(metrics.accuracy), of),
        ("Parameters", compact(metrics.parameters), "weights learned"),
        ("Tokens", compact(metrics.tokens), "read in training"),
        ("Epochs", decimal(metrics.epochs, 1), "of the training text"),
        ("Time", duration(metrics.seconds), "wall clock"),
        ("Speed", compact(metrics.tokens_per_second), "tokens per second"),
    ]
    per_token = (ngram, "Perplexity", "Bits per byte")
    return [[row for row in rows if language or row[0] not in per_token]]


@dataclass(frozen=True)
class Bar:
    """A named value of a bar chart."""

    name: str
    width: str
    look: str
    shown: str


def _bars(rows: list[tuple[str, float, str]], show: Callable[[float], str]) -> list[Bar]:
    # the longest bar fills the column; a negative score has a bar of width 0
    longest = max((value for _, value, _ in rows), default=0.0) or 1.0
    return [
        Bar(name, f"{100 * max(value, 0) / longest:.2f}%", look, show(value))
        for name, value, look in rows
    ]


def _comparison(report: ReportData) -> list[Any] | None:
    """The model beside what is trivial: losses of a language model, scores of a fine-tuning."""
    metrics, score = report.metrics, report.score
    rows: list[tuple[str, float, str]]
    if score is not None and score.value is not None and score.references:
        # a fine-tuning: baselines and control first, the model last
        rows = [(name, value, "other") for name, value in score.references.items()]
        rows.append(("this model", score.value, "model"))
        caption = f"{score.name} on the same held-out rows; longer is better"
        return [_bars(rows, score.show), caption]
    if not metrics.is_language_model or metrics.loss is None or metrics.uniform_loss is None:
        return None
    # a language model: from the trivial to the trained
    rows = [("guessing evenly", metrics.uniform_loss, "other")]
    if metrics.ngram_loss is not None:
        rows.append((f"counting {metrics.ngram_order or 'n'}-grams", metrics.ngram_loss, "other"))
    rows.append(("this model", metrics.loss, "model"))
    caption = f"Nats per {metrics.loss_unit} on the same held-out text; shorter is better"
    return [_bars(rows, decimal), caption]


def _confusion(report: ReportData) -> list[Any] | None:
    matrix = finetune_section.confusion(report.run) if report.finetuned else None
    return None if matrix is None else [matrix]


@dataclass(frozen=True)
class CurvesView:
    """Three rendered charts and a note."""

    loss: str
    note: str
    accuracy: str
    learning_rate: str


def _curves(report: ReportData) -> list[Any]:
    run, metrics, unit = report.run, report.metrics, report.metrics.loss_unit
    # 1. what is singled out: the best evaluation, and the n-gram loss as a line across
    best = best_evaluation(run)
    level = None
    if metrics.is_language_model and metrics.ngram_loss is not None:
        level = ReferenceLine(f"counting {metrics.ngram_order or 'n'}-grams", metrics.ngram_loss)

    def lines(name: str, scale: float = 1.0) -> list[Line]:
        return [
            Line("training", "train", points(run.steps, name, scale)),
            Line("validation", "held", points(run.evaluations, name, scale), dots=True),
        ]

    # 2. a training loss that includes another loss cannot stand beside the validation loss
    note = verdict.loss_note(run) if report.finetuned else ""
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
    rates = chart("Learning rate", [lr], show=significant, zero=True)
    return [CurvesView(loss, note, accuracy, rates)]


def points(measured: Sequence[MetricPoint], name: str, scale: float = 1.0) -> list[Point]:
    """(step, value times scale) wherever the value was measured."""
    pairs = ((point.step, getattr(point, name)) for point in measured)
    return [(step, scale * value) for step, value in pairs if value is not None]


def _advice(report: ReportData) -> list[Any]:
    if report.finetuned:
        return [verdict.finetune_advice(report.run, report.metrics, report.score)]
    return [verdict.advice(report.run, report.metrics)]


@dataclass(frozen=True)
class SampleView:
    """A sample as it is shown; `prompt` only where the text repeats it."""

    when: str
    preview: str
    prompt: str
    text: str


@dataclass(frozen=True)
class SamplesView:
    """The samples that are shown, and how many there are."""

    samples: list[SampleView]
    total: int


def _samples(report: ReportData) -> list[Any] | None:
    """Newest first, the newest open; of many, the first, the last and some evenly between."""
    samples = report.run.samples
    if not samples:
        return None
    # evenly spaced, with the first and the last
    count = min(len(samples), SAMPLES)
    chosen = [samples[round(i * (len(samples) - 1) / max(count - 1, 1))] for i in range(count)]
    return [SamplesView([_sample(each) for each in reversed(chosen)], len(samples))]


def _sample(sample: Event) -> SampleView:
    time = "" if sample.seconds is None else f" · {duration(sample.seconds)}"
    text = sample.text[:SAMPLE_CHARACTERS]
    cut = "…" if len(sample.text) > SAMPLE_CHARACTERS else ""
    # whether a text repeats its prompt is up to the task; it is marked only where it does
    prompt = sample.prompt if sample.prompt and text.startswith(sample.prompt) else ""
    return SampleView(
        f"step {integer(sample.step)}{time}",
        " ".join(sample.text.split())[:90],
        prompt,
        text[len(prompt) :] + cut,
    )


def _heatmap(report: ReportData) -> list[Any] | None:
    nll = report.run.token_nll
    return [token_heatmap(nll, report.metrics.loss_unit)] if nll else None


def _notes(report: ReportData) -> list[Any] | None:
    rows = tables.note_rows(report.run)
    return [rows] if rows else None


# (title, macro of the template or none for markup, its arguments or None to leave it out).
# The order of the page. A new section is one line here and one macro in sections.html.jinja.
SECTIONS: tuple[tuple[str, str, Callable[[ReportData], list[Any] | None]], ...] = (
    ("Key figures", "tiles", _tiles),
    ("Is it any good?", "bars", _comparison),
    ("Scores", "score_table", lambda r: [finetune_section.scores(r.run)] if r.finetuned else None),
    ("What it takes for what", "confusion", _confusion),
    ("Task", "pairs", lambda r: [finetune_section.task_facts(r.run)] if r.finetuned else None),
    ("Curves", "curves", _curves),
    ("What could help next", "advice", _advice),
    ("Its answers over time", "samples", lambda r: _samples(r) if r.finetuned else None),
    ("Its writing over time", "samples", lambda r: None if r.finetuned else _samples(r)),
    ("Per-token loss", "", _heatmap),
    ("Settings and why", "settings", lambda r: [tables.settings_table(r.run)]),
    ("Data", "pairs", lambda r: [tables.data_rows(r.run)]),
    ("Environment", "pairs", lambda r: [tables.environment_rows(r.run)]),
    ("Command", "command", lambda r: [r.run.text("command")[:COMMAND_CHARACTERS]]),
    ("Notes", "notes", _notes),
)
