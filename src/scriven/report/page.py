"""The report page: what is on it and in which order; written in one piece or not at all.

Reads only the run folder. Everything a person or a model wrote is shown as text.
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from ..files import write_file
from ..format import compact, decimal, duration, integer, percent, significant
from . import facts, tuned, words_tuned
from .confusion import confusion
from .curves import Level, Line, Point, chart
from .figures import Figures, best_evaluation, measure
from .heat import heat_map
from .history import History, Moment, Saying, read_history
from .markup import Markup, element, join
from .words import advice, verdict

# No script, no font, no frame, no request to anywhere (E10).
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
SAMPLES = 12
SAMPLE_CHARACTERS = 2000


def write_report(folder: Path, *, surprise: Sequence[tuple[str, float]] = ()) -> Path:
    """Writes `report.html` into a run folder, finished or not, and returns its path.

    Args:
        folder: the run folder; `scriven.json` must be there, `metrics.jsonl` may be.
        surprise: (token, nats) along a stretch of validation text; without it `surprise.json` of
            the folder is used, when present.

    Raises:
        InputError: the folder is not a run folder.
        DamagedError: scriven.json or surprise.json is not what Scriven writes.
        ResourceError: the disk is full.
    """
    target = folder / "report.html"
    write_file(target, render(read_history(folder, surprise)).encode())
    return target


def render(history: History) -> str:
    """The whole page as text."""
    figures = measure(history)
    found = facts.notes(history)
    is_finetuned = tuned.is_finetuned(history)
    standing = tuned.standing(history) if is_finetuned else None
    said = "Its answers over time" if is_finetuned else "Its writing over time"
    sections = [
        _section("Key figures", _figures(history, figures, standing)),
        _section("Is it any good?", _ladder(figures)) if _rungs(figures) else "",
        *(_of_task(history, standing) if is_finetuned else ()),
        _section("Curves", _curves(history, figures)),
        _section("What could help next", _advice(history, figures, standing)),
        _section(said, _samples(history.samples)) if history.samples else "",
        _section("Where it was surprised", heat_map(history.surprise, figures.unit))
        if history.surprise
        else "",
        _section("Settings and why", facts.settings(history)),
        _section("Data", facts.data(history)),
        _section("Environment", facts.environment(history)),
        _section("Command", facts.command(history)),
        _section("Notes", found) if found else "",
    ]
    style = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{history.name} · Scriven report"),
        element("link", rel="icon", href="data:,"),
        element("style", Markup(style)),
    )
    body = element(
        "body",
        _header(history, figures, standing),
        element("main", *sections),
        element("footer", f"Scriven {history.word('scriven')} · made from this run folder alone"),
    )
    return "<!doctype html>\n" + element("html", head, body, lang="en") + "\n"


def _of_task(history: History, standing: tuned.Standing | None) -> list[Markup]:
    """What only a fine-tuned run has."""
    mixed = confusion(history)
    bars = standing is not None and standing.value is not None and bool(standing.others)
    return [
        _section("Is it any good?", tuned.ladder(standing)) if bars and standing else Markup(""),
        _section("Scores", tuned.scores(history)),
        _section("What it takes for what", mixed) if mixed else Markup(""),
        _section("Task", tuned.facts(history)),
    ]


def _header(history: History, figures: Figures, standing: tuned.Standing | None) -> Markup:
    said = verdict(figures)
    if tuned.is_finetuned(history):
        said = words_tuned.verdict(history, figures, standing)
    kind = " · ".join(word for word in (history.word("architecture"), history.word("task")) if word)
    return element(
        "header",
        element("p", f"Scriven report{' · ' if kind else ''}{kind}", class_="kicker"),
        element("h1", element("bdi", history.name)),
        element("p", said, class_="verdict"),
    )


def _section(title: str, content: Markup) -> Markup:
    name = title.lower().replace(" ", "-").replace("?", "")
    return element("section", element("h2", title, id=name), content, aria_labelledby=name)


def _figures(history: History, figures: Figures, standing: tuned.Standing | None) -> Markup:
    baseline = "n-gram counting" if figures.order is None else f"{figures.order}-gram counting"
    rows = [
        ("Validation loss", decimal(figures.loss), f"nats per {figures.unit}"),
        (baseline, decimal(figures.baseline), f"nats per {figures.unit}"),
        ("Perplexity", significant(figures.perplexity), f"choices per {figures.unit}"),
        ("Bits per byte", decimal(figures.bits_per_byte), "for any tokenizer"),
        ("Accuracy", percent(figures.accuracy), f"next {figures.unit} right"),
        ("Parameters", compact(figures.parameters), "weights learned"),
        ("Tokens", compact(figures.tokens), "read in training"),
        ("Passes", decimal(figures.passes, 1), "through the text"),
        ("Time", duration(figures.seconds), "wall clock"),
        ("Speed", compact(figures.tokens_per_second), "tokens per second"),
    ]
    if not figures.language:
        rows = [row for row in rows if row[0] not in (baseline, "Perplexity", "Bits per byte")]
        rows[1] = ("Accuracy", percent(figures.accuracy), "of the validation part")
    if tuned.is_finetuned(history):
        rows = tuned.tiles(history, figures, standing)
    tiles = [
        element(
            "div",
            element("dt", name),
            element("dd", element("b", value), element("span", unit)),
        )
        for name, value, unit in rows
    ]
    return element("dl", *tiles, class_="figures")


def _rungs(figures: Figures) -> list[tuple[str, float, str]]:
    if not figures.language or figures.loss is None or figures.guessing is None:
        return []
    rungs = [("guessing evenly", figures.guessing, "other")]
    if figures.baseline is not None:
        rungs.append((f"counting {figures.order or 'n'}-grams", figures.baseline, "other"))
    return [*rungs, ("this model", figures.loss, "model")]


def _ladder(figures: Figures) -> Markup:
    rungs = _rungs(figures)
    longest = max(loss for _, loss, _ in rungs) or 1.0
    rows = [
        element(
            "tr",
            element("th", name, scope="row"),
            element(
                "td",
                element(
                    "svg",
                    element("rect", width=f"{100 * max(loss, 0) / longest:.2f}%", height="100%"),
                    class_=f"bar {look}",
                    aria_hidden="true",
                ),
            ),
            element("td", decimal(loss), class_="number"),
        )
        for name, loss, look in rungs
    ]
    caption = f"Nats per {figures.unit} on the same held-out text; shorter is better"
    return element("table", element("caption", caption), element("tbody", *rows), class_="ladder")


def _curves(history: History, figures: Figures) -> Markup:
    best = best_evaluation(history)
    level = None
    if figures.language and figures.baseline is not None:
        level = Level(f"counting {figures.order or 'n'}-grams", figures.baseline)

    def lines(name: str, scale: float = 1.0) -> list[Line]:
        return [
            Line("training", "train", points(history.steps, name, scale)),
            Line("validation", "held", points(history.evaluations, name, scale), dots=True),
        ]

    note = words_tuned.loss_note(history) if tuned.is_finetuned(history) else ""
    loss = chart(
        f"Loss, {tuned.LOSSES.get(figures.unit, f'nats per {figures.unit}')}",
        lines("loss")[1:] if note else lines("loss"),
        show=decimal,
        level=level,
        mark=(best.step, best.loss) if best is not None and best.loss is not None else None,
        cut="top",
    )
    accuracy = chart(
        _accuracy(figures),
        lines("accuracy", 100.0),
        show=lambda value: percent(value / 100),
        cut="bottom",
    )
    rate = Line("learning rate", "rate", points(history.steps, "lr"))
    rates = chart(
        "Learning rate",
        [rate],
        show=significant,
        zero=True,
    )
    under = element("p", note, class_="aside") if note else ""
    return join(loss, under, element("div", accuracy, rates, class_="pair"))


def _accuracy(figures: Figures) -> str:
    if figures.language:
        return f"Accuracy, % of next {figures.unit}s"
    about = tuned.RIGHT.get(figures.unit)
    return f"Accuracy, % {about}" if about else "Accuracy, %"


def points(moments: Sequence[Moment], name: str, scale: float = 1.0) -> list[Point]:
    """(step, value times scale) wherever the value was measured."""
    found = ((moment.step, getattr(moment, name)) for moment in moments)
    return [(step, scale * value) for step, value in found if value is not None]


def _advice(history: History, figures: Figures, standing: tuned.Standing | None) -> Markup:
    said = advice(history, figures)
    if tuned.is_finetuned(history):
        said = words_tuned.advice(history, figures, standing)
    return element("ul", *(element("li", text) for text in said), class_="next")


def _samples(samples: Sequence[Saying]) -> Markup:
    """Newest first, the newest open; of many, the first, the last and some evenly between."""
    count = min(len(samples), SAMPLES)
    chosen = [samples[round(i * (len(samples) - 1) / max(count - 1, 1))] for i in range(count)]
    parts = [_sample(each, first=index == 0) for index, each in enumerate(reversed(chosen))]
    if count < len(samples):
        parts.append(element("p", f"{count} of {integer(len(samples))} samples.", class_="aside"))
    return join(*parts)


def _sample(sample: Saying, *, first: bool) -> Markup:
    time = "" if sample.seconds is None else f" · {duration(sample.seconds)}"
    preview = " ".join(sample.text.split())[:90]
    text = sample.text[:SAMPLE_CHARACTERS]
    cut = "…" if len(sample.text) > SAMPLE_CHARACTERS else ""
    # Whether the text repeats its prompt is the writer's choice; mark it only where it does.
    prompt = sample.prompt if sample.prompt and text.startswith(sample.prompt) else ""
    return element(
        "details",
        element(
            "summary",
            element("span", f"step {integer(sample.step)}{time}", class_="when"),
            element("span", preview, class_="preview", dir="auto", aria_hidden="true"),
        ),
        element(
            "blockquote",
            element("b", prompt) if prompt else "",
            text[len(prompt) :] + cut,
            lang="",
            dir="auto",
        ),
        open=first,
        class_="sample",
    )
