"""Sentences from figures: whether the model writes, and what could help next.

Every rule is a comparison of measured figures and says which. Knows no HTML.
"""

from collections.abc import Sequence

from ..format import decimal, integer, percent, plural
from .figures import Figures, best_evaluation
from .history import History, Moment

SAME = 0.01  # losses closer than 1 % are called equal: seeds of one recipe differ as much
OVERFIT = 0.01  # a rise of the validation loss above its minimum that is worth a word
FALLING = 0.01  # a fall over the last fifth of the run that is not over yet
MEMORY = 0.15  # training loss this far below validation loss: the model knows its text by heart


def verdict(figures: Figures) -> str:
    """One or two sentences: does it write, how good against counting, and when was it best."""
    state = "" if figures.finished else f"Unfinished, after {plural(figures.steps, 'step')}. "
    if figures.loss is None:
        if figures.steps == 0:
            return "Nothing has been measured yet."
        return f"{state}No usable validation loss has been measured."
    return f"{state}{_quality(figures)}{_course(figures)}"


def _quality(figures: Figures) -> str:
    if not figures.language:
        accuracy = "" if figures.accuracy is None else f"{percent(figures.accuracy)} right, "
        return f"{accuracy}validation loss {decimal(figures.loss)}"
    loss = f"{decimal(figures.loss, 2)} nats per {figures.unit}"
    if figures.baseline is None or figures.gain is None:
        return f"It reaches {loss}, with no counting baseline to compare"
    counting = f"counting {figures.order or 'n'}-grams"
    if figures.gain > SAME:
        return f"It writes: {loss} against {decimal(figures.baseline, 2)} for {counting}"
    if figures.gain >= -SAME:
        return f"It writes about as well as {counting}: {loss} against " + decimal(
            figures.baseline, 2
        )
    return f"It does not write yet: {loss}, and {counting} reaches {decimal(figures.baseline, 2)}"


def _course(figures: Figures) -> str:
    parts = []
    if figures.best_step is not None and figures.finished:
        parts.append(f"best at step {integer(figures.best_step)} of {integer(figures.steps)}")
    elif figures.best_step is not None:
        parts.append(f"best at step {integer(figures.best_step)}")
    if figures.passes is not None:
        count = decimal(figures.passes, 1)
        parts.append(f"{count} {'pass' if count == '1.0' else 'passes'} through the training text")
    return f"; {', '.join(parts)}." if parts else "."


def advice(history: History, figures: Figures) -> list[str]:
    """What could help next, most pressing first; never empty."""
    found: list[str] = []
    if not figures.finished:
        found.append("The run is not finished: the same command again continues it.")
    skipped = sum("not a number" in note.text for note in history.notes)
    if skipped > 1:
        found.append(
            f"{plural(skipped, 'note')} below tell of a loss that was not a number: half the "
            "learning rate (--optim.muon_lr, --optim.lr) would be steadier."
        )
    if figures.loss is None and history.pick("imported"):
        return ["It was trained elsewhere: `scriven evaluate` measures it on a text of yours."]
    if figures.loss is None:
        return found or ["Train for longer: the first evaluation has not come yet."]
    if figures.language and figures.gain is not None and figures.gain < -SAME:
        found.append(
            f"Counting is still {percent(-figures.gain)} better than the model: a longer budget "
            "comes first, and a smaller model if the machine is slow."
        )
    found += _from_curves(history, figures)
    return found or [
        "Nothing stands out: the validation loss has levelled off without overfitting. A larger "
        "model (--size) with a longer budget is the next experiment."
    ]


def _from_curves(history: History, figures: Figures) -> list[str]:
    measured = [moment for moment in history.evaluations if moment.loss is not None]
    best = best_evaluation(history)
    if best is None or best.loss is None or len(measured) < 2:
        return []
    last = measured[-1]
    assert last.loss is not None
    training = _late_training_loss(history.steps)
    if training is not None and last.loss > best.loss * (1 + OVERFIT) and training < last.loss:
        rise = percent(last.loss / best.loss - 1)
        return [
            f"It overfits: after step {integer(best.step)} the validation loss rose by {rise} "
            f"while the training loss went down to {decimal(training)}. The weights of step "
            f"{integer(best.step)} were kept. More text helps most; a smaller model, dropout or a "
            "shorter budget help too."
        ]
    found = []
    remembers = training is not None and training < best.loss * (1 - MEMORY)
    if training is not None and remembers:
        found.append(
            f"The training loss ({decimal(training)}) is far below the validation loss "
            f"({decimal(best.loss)}): the model begins to know its text by heart. More text or "
            "dropout would help; a larger model would not."
        )
    fall = late_fall(measured)
    if not remembers and best.step >= 0.95 * last.step and fall is not None and fall > FALLING:
        found.append(
            f"The validation loss still fell by {percent(fall)} over the last fifth of the run: "
            "a longer budget would probably go lower."
        )
    if figures.passes is not None and figures.passes < 1:
        found.append(
            f"It has read {percent(figures.passes, 0)} of the training text so far; a longer "
            "budget would show it the rest."
        )
    return found


def _late_training_loss(steps: Sequence[Moment]) -> float | None:
    """Mean training loss over the last twentieth of the log, which is noisy line by line."""
    losses = [moment.loss for moment in steps if moment.loss is not None]
    late = losses[-max(1, len(losses) // 20) :]
    return sum(late) / len(late) if late else None


def late_fall(measured: Sequence[Moment]) -> float | None:
    """Relative fall of the validation loss over the last fifth of the steps."""
    last = measured[-1]
    earlier = [moment for moment in measured if moment.step <= 0.8 * last.step]
    if not earlier or last.loss is None or not earlier[-1].loss:
        return None
    return 1 - last.loss / earlier[-1].loss
