"""Sentences on a fine-tuned run: does it answer better than something trivial, what could help.

Every rule is a comparison of measured figures and says which. Knows no HTML.
"""

from ..format import decimal, integer, percent, plural
from .figures import Figures, best_evaluation
from .history import History
from .tuned import CONTROL, Standing, learns_text
from .words import FALLING, OVERFIT, late_fall

ENDED = 0.95  # answers that should come to their end by themselves


def verdict(history: History, figures: Figures, found: Standing | None) -> str:
    """One or two sentences: does it answer, how well against what is trivial, when was it best."""
    state = "" if figures.finished else f"Unfinished, after {plural(figures.steps, 'step')}. "
    if found is None or found.value is None:
        if figures.loss is None:
            return state or "Nothing has been measured yet."
        loss = decimal(figures.loss)
        return f"{state}The validation loss is {loss} so far; scores come at the end of the run."
    rows = history.figure("results", "val_rows")
    on = "" if rows is None else f" on {plural(rows, 'row')} it never saw"
    parts = [f"{state}{found.name[:1].upper()}{found.name[1:]} {found.text}{on}"]
    best = _best(found)
    if best is not None:
        name, value = best
        parts.append(f"{_against(found, value)} {name}, which reaches {found.show(value)}")
    if CONTROL in found.others:
        value = found.others[CONTROL]
        parts.append(f"without its pre-training it reaches {found.show(value)}")
    if figures.best_step is not None and figures.finished:
        parts.append(f"best at step {integer(figures.best_step)} of {integer(figures.steps)}")
    return "; ".join(parts) + "."


def _best(found: Standing) -> tuple[str, float] | None:
    """The strongest baseline."""
    trivial = {name: value for name, value in found.others.items() if name != CONTROL}
    return max(trivial.items(), key=lambda pair: pair[1], default=None)


def _against(found: Standing, value: float) -> str:
    assert found.value is not None
    low = found.value if found.low is None else found.low
    high = found.value if found.high is None else found.high
    if low > value:
        return "better than"
    return "worse than" if high < value else "not surely better than"


def advice(history: History, figures: Figures, found: Standing | None) -> list[str]:
    """What could help next, most pressing first; never empty."""
    said: list[str] = []
    if not figures.finished:
        said.append("The run is not finished: the same command again continues it.")
    if figures.loss is None:
        return said or ["Train for longer: the first evaluation has not come yet."]
    if found is not None and found.value is not None:
        said += _from_scores(history, found)
    said += _from_curve(history, figures)
    return said or [
        "Nothing stands out. `scriven evaluate` with rows it never saw tells what to expect of it; "
        "more pre-training on texts like these rows is the next experiment."
    ]


def _from_scores(history: History, found: Standing) -> list[str]:
    said = []
    best = _best(found)
    assert found.value is not None
    if best is not None and _against(found, best[1]) != "better than":
        said.append(
            f"It is {_against(found, best[1])} the trivial baseline {best[0]}: more rows, or more "
            "pre-training on texts like them, come before anything else."
        )
    if CONTROL in found.others and _against(found, found.others[CONTROL]) != "better than":
        said.append(
            "The same model without its pre-training reaches as much within the interval: the text "
            "it was pre-trained on was too short, or too unlike these rows."
        )
    ended = history.figure("results", "val_scores", "ended", "value")
    if ended is not None and ended < ENDED:
        said.append(
            f"{percent(1 - ended)} of its answers did not come to an end by themselves: a longer "
            "budget teaches it to end them."
        )
    return said


def _from_curve(history: History, figures: Figures) -> list[str]:
    measured = [moment for moment in history.evaluations if moment.loss is not None]
    best = best_evaluation(history)
    if best is None or best.loss is None or len(measured) < 2:
        return []
    last = measured[-1]
    assert last.loss is not None
    if last.loss > best.loss * (1 + OVERFIT):
        rise = percent(last.loss / best.loss - 1)
        return [
            f"After step {integer(best.step)} the validation loss rose by {rise}: it learns the "
            f"rows by heart, and the weights of step {integer(best.step)} were kept. More rows "
            "help most; --lora 8 or --head-only change less of the model."
        ]
    fall = late_fall(measured)
    if best.step >= 0.95 * last.step and fall is not None and fall > FALLING:
        return [
            f"The validation loss still fell by {percent(fall)} over the last fifth of the run: a "
            "longer budget would probably go lower."
        ]
    return []


def loss_note(history: History) -> str:
    """Why the training loss is not drawn; empty where it is."""
    if not learns_text(history):
        return ""
    return (
        "The training loss is not drawn: it holds that of the text, which is learned beside the "
        "answers."
    )
