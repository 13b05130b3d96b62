"""What a Jupyter notebook shows: cards of models, curves as SVG, and whether this is a notebook."""

import math
import sys
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Points = Sequence[tuple[float, float]]

COLORS = ("#3b6fd4", "#d1570b")
WIDTH, HEIGHT = 420, 150
MARGIN = 34  # for the numbers of the axes


def is_notebook() -> bool:
    """Whether outputs can be HTML that is updated in place, as in Jupyter."""
    ipython = sys.modules.get("IPython")  # never imported here: a script has no use for it
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(getattr(shell, "kernel", None), "session", None) is not None


def is_interactive() -> bool:
    """Whether somebody watches: a notebook, or a terminal on standard error."""
    return is_notebook() or sys.stderr.isatty()


def curves(series: Mapping[str, Points]) -> str:
    """Curves over steps as an inline SVG; empty without two different steps.

    Args:
        series: name -> (step, value) points; the first one is drawn in blue, the second in orange.
    """
    lines = {
        name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in series.items()
    }
    everything = [point for points in lines.values() for point in points]
    if not everything or min(everything)[0] == max(everything)[0]:
        return ""
    # 1. scales
    right = max(x for x, _ in everything)
    low, high = min(y for _, y in everything), max(y for _, y in everything)
    span = (high - low) or 1.0

    def place(point: tuple[float, float]) -> str:
        x = MARGIN + point[0] / right * (WIDTH - 2 * MARGIN)
        y = 12 + (high - point[1]) / span * (HEIGHT - 34)
        return f"{x:.1f},{y:.1f}"

    # 2. a line and a name for each, and the extremes as axes
    parts = []
    for number, (name, points) in enumerate(lines.items()):
        color = COLORS[number % len(COLORS)]
        line = " ".join(place(point) for point in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        x = WIDTH - MARGIN - 90 * (len(lines) - number)
        parts.append(f'<text x="{x}" y="10" fill="{color}">{escape(name)}</text>')
    parts.append(
        f'<text x="0" y="16">{high:.2f}</text><text x="0" y="{HEIGHT - 20}">{low:.2f}</text>'
    )
    parts.append(f'<text x="{WIDTH - MARGIN - 50}" y="{HEIGHT - 4}">step {right:,.0f}</text>')
    return (
        f'<svg role="img" aria-label="{escape(" and ".join(lines))} by step" width="{WIDTH}" '
        f'height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="10" font-family="sans-serif" '
        f'fill="currentColor">{"".join(parts)}</svg>'
    )


def loss_curves(events: Sequence[Mapping[str, Any]]) -> str:
    """The curves of the events of metrics.jsonl."""
    series: dict[str, list[tuple[float, float]]] = {"training loss": [], "validation loss": []}
    for event in events:
        name = {"step": "training loss", "evaluation": "validation loss"}.get(event["event"])
        if name is not None and event["loss"] is not None:
            series[name].append((event["step"], event["loss"]))
    return curves({name: points for name, points in series.items() if points})


def card(title: str, rows: Mapping[str, str], below: str = "", text: str = "") -> str:
    """A box with a title, names with values, HTML of our own, and a text of the model."""
    cells = "".join(
        f'<tr><td style="text-align:left;opacity:.75">{escape(name)}</td>'
        f'<td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    sample = (
        f'<pre style="white-space:pre-wrap;margin:.5em 0 0">{escape(text)}</pre>' if text else ""
    )
    return (
        '<div style="border:1px solid #8886;border-radius:6px;padding:.6em .9em;max-width:46em">'
        f"<b>{escape(title)}</b><table>{cells}</table>{below}{sample}</div>"
    )


def notebook_card(metadata: Mapping[str, Any], parameters: int, curve: str) -> str:
    """The card of a trained model, from its scriven.json."""
    results, data = metadata.get("results") or {}, metadata["data"]
    shape = metadata["model"]
    rows = {
        "architecture": f"{metadata['architecture']}, {parameters:,} parameters, {shape['layers']} "
        f"layers, width {shape['d_model']}, context {shape['context_length']}",
        "tokenizer": f"{metadata['tokenizer']['kind']} of {metadata['tokenizer']['vocab_size']:,}",
        "data": f"{data.get('train_tokens', 0):,} training tokens",
    }
    if results:
        rows["validation loss"] = f"{results['val_loss']:.4f} after {results['steps']:,} steps"
        if results.get("ngram_loss") is not None:
            rows["validation loss"] += f"; n-gram baseline {results['ngram_loss']:.4f}"
    else:
        rows["training"] = "not finished"
    return card(str(metadata["name"]), rows, curve, str(results.get("sample") or "")[:300])
