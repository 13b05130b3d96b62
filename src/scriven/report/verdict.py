"""Sentences from metrics: how good the model is, and what could help next.

Every rule is a comparison of measured numbers and says which. Knows no HTML.
"""

import re
from collections.abc import Sequence

from ..format import decimal, integer, percent, plural
from .finetune_section import CONTROL, MainScore, learns_text
from .run_log import KeyMetrics, MetricPoint, RunLog, best_evaluation

EQUAL = 0.01  # losses closer than 1 % are called equal: seeds of one recipe differ as much
OVERFIT = 0.01  # a rise of the validation loss above its minimum that is worth a word
FALLING = 0.01  # a fall over the last fifth of the run that is not over yet
MEMORISED = 0.15  # training loss this far below validation loss: the model memorises its text
COMPLETE = 0.95  # fraction of answers that should end by themselves

UNFINISHED = "The run is not finished: the same command again continues it."
SKIPPED = re.compile("NaN or infinite|not a (finite )?number")  # as older runs say it
NOT_EVALUATED = "Train for longer: the first evaluation has not come yet."


def verdict(metrics: KeyMetrics) -> str:
    """One or two sentences: does it write, how good against n-grams, and when was it best."""
    if metrics.loss is None:
        if metrics.steps == 0:
            return "Nothing has been measured yet."
        return f"{_state(metrics)}No usable validation loss has been measured."
    return f"{_state(metrics)}{_quality(metrics)}{_course(metrics)}"


def _state(metrics: KeyMetrics) -> str:
    return "" if metrics.finished else f"Unfinished, after {plural(metrics.steps, 'step')}. "


def _quality(metrics: KeyMetrics) -> str:
    if not metrics.is_language_model:
        accuracy = "" if metrics.accuracy is None else f"{percent(metrics.accuracy)} right, "
        return f"{accuracy}validation loss {decimal(metrics.loss)}"
    loss = f"{decimal(metrics.loss, 2)} nats per {metrics.loss_unit}"
    gain = metrics.gain_over_ngram
    if metrics.ngram_loss is None or gain is None:
        return f"It reaches {loss}, with no counting baseline to compare"
    ngram, counting = decimal(metrics.ngram_loss, 2), f"counting {metrics.ngram_order or 'n'}-grams"
    if gain > EQUAL:
        return f"It writes: {loss} against {ngram} for {counting}"
    if gain >= -EQUAL:
        return f"It writes about as well as {counting}: {loss} against {ngram}"
    return f"It does not write yet: {loss}, and {counting} reaches {ngram}"


def _course(metrics: KeyMetrics) -> str:
    parts = []
    if metrics.best_step is not None:
        parts.append(_best_step(metrics))
    if metrics.epochs is not None:
        count = decimal(metrics.epochs, 1)
        parts.append(f"{count} {'epoch' if count == '1.0' else 'epochs'} of the training text")
    return f"; {', '.join(parts)}." if parts else "."


def _best_step(metrics: KeyMetrics) -> str:
    total = f" of {integer(metrics.steps)}" if metrics.finished else ""
    return f"best at step {integer(metrics.best_step)}{total}"


def advice(run: RunLog, metrics: KeyMetrics) -> list[str]:
    """What could help next, most pressing first; never empty."""
    sentences = [] if metrics.finished else [UNFINISHED]
    skipped = sum(bool(SKIPPED.search(note.text)) for note in run.notes)
    if skipped > 1:
        sentences.append(
            f"{plural(skipped, 'note')} below tell of a loss that was NaN or infinite: half the "
            "learning rate (--optim.muon_lr, --optim.lr) would be steadier."
        )
    if metrics.loss is None and run.get("imported"):
        return ["It was trained elsewhere: `scriven evaluate` measures it on a text of yours."]
    if metrics.loss is None:
        return sentences or [NOT_EVALUATED]
    gain = metrics.gain_over_ngram
    if metrics.is_language_model and gain is not None and gain < -EQUAL:
        sentences.append(
            f"Counting is still {percent(-gain)} better than the model: a longer budget "
            "comes first, and a smaller model if the machine is slow."
        )
    sentences += _from_curves(run, metrics)
    return sentences or [
        "Nothing stands out: the validation loss has levelled off without overfitting. A larger "
        "model (--size) with a longer budget is the next experiment."
    ]


def _from_curves(run: RunLog, metrics: KeyMetrics) -> list[str]:
    measured = _measured(run)
    best = best_evaluation(run)
    if best is None or best.loss is None or len(measured) < 2:
        return []
    last = measured[-1]
    assert last.loss is not None
    training = late_training_loss(run.steps)
    # 1. the validation loss rises while the training loss does not: overfitting
    if training is not None and last.loss > best.loss * (1 + OVERFIT) and training < last.loss:
        rise = percent(last.loss / best.loss - 1)
        return [
            f"It overfits: after step {integer(best.step)} the validation loss rose by {rise} "
            f"while the training loss went down to {decimal(training)}. The weights of step "
            f"{integer(best.step)} were kept. More text helps most; a smaller model, dropout or a "
            "shorter budget help too."
        ]
    sentences = []
    # 2. a training loss far below the validation loss: memorisation
    memorises = training is not None and training < best.loss * (1 - MEMORISED)
    if training is not None and memorises:
        sentences.append(
            f"The training loss ({decimal(training)}) is far below the validation loss "
            f"({decimal(best.loss)}): the model begins to memorise its text. More text or "
            "dropout would help; a larger model would not."
        )
    # 3. a validation loss that still falls, or text that was not read yet: a longer budget
    elif falling := _still_falling(measured, best):
        sentences.append(falling)
    if metrics.epochs is not None and metrics.epochs < 1:
        sentences.append(
            f"It has read {percent(metrics.epochs, 0)} of the training text so far; a longer "
            "budget would show it the rest."
        )
    return sentences


def _measured(run: RunLog) -> list[MetricPoint]:
    return [point for point in run.evaluations if point.loss is not None]


def late_training_loss(steps: Sequence[MetricPoint]) -> float | None:
    """Mean training loss over the last 5 % of the log, which is noisy line by line."""
    losses = [point.loss for point in steps if point.loss is not None]
    late = losses[-max(1, len(losses) // 20) :]
    return sum(late) / len(late) if late else None


def _still_falling(measured: Sequence[MetricPoint], best: MetricPoint) -> str:
    """A sentence on a validation loss that falls until the end; empty where it does not."""
    last = measured[-1]
    earlier = [point for point in measured if point.step <= 0.8 * last.step]
    if best.step < 0.95 * last.step or not earlier or last.loss is None or not earlier[-1].loss:
        return ""
    fall = 1 - last.loss / earlier[-1].loss
    if fall <= FALLING:
        return ""
    return (
        f"The validation loss still fell by {percent(fall)} over the last fifth of the run: "
        "a longer budget would probably go lower."
    )


def finetune_verdict(run: RunLog, metrics: KeyMetrics, score: MainScore | None) -> str:
    """One or two sentences: how well it answers against trivial baselines, and when it was best."""
    state = _state(metrics)
    if score is None or score.value is None:
        if metrics.loss is None:
            return state or "Nothing has been measured yet."
        loss = decimal(metrics.loss)
        return f"{state}The validation loss is {loss} so far; scores come at the end of the run."
    rows = run.number("results", "val_rows")
    on = "" if rows is None else f" on {plural(rows, 'row')} it never saw"
    parts = [f"{state}{score.title} {score.text}{on}"]
    best = score.best_baseline()
    if best is not None:
        name, value = best
        parts.append(f"{_against(score, value)} {name}, which reaches {score.show(value)}")
    if CONTROL in score.references:
        value = score.references[CONTROL]
        parts.append(f"without its pre-training it reaches {score.show(value)}")
    if metrics.best_step is not None and metrics.finished:
        parts.append(_best_step(metrics))
    return "; ".join(parts) + "."


def _against(score: MainScore, value: float) -> str:
    """Whether the interval of the score lies above another value, below it or around it."""
    assert score.value is not None
    low = score.value if score.low is None else score.low
    high = score.value if score.high is None else score.high
    if low > value:
        return "better than"
    return "worse than" if high < value else "not surely better than"


def finetune_advice(run: RunLog, metrics: KeyMetrics, score: MainScore | None) -> list[str]:
    """What could help next, most pressing first; never empty."""
    sentences = [] if metrics.finished else [UNFINISHED]
    if metrics.loss is None:
        return sentences or [NOT_EVALUATED]
    if score is not None and score.value is not None:
        sentences += _from_scores(run, score)
    sentences += _from_finetune_curve(run)
    return sentences or [
        "Nothing stands out. `scriven evaluate` with rows it never saw tells what to expect of it; "
        "more pre-training on texts like these rows is the next experiment."
    ]


def _from_scores(run: RunLog, score: MainScore) -> list[str]:
    sentences = []
    best = score.best_baseline()
    if best is not None and _against(score, best[1]) != "better than":
        sentences.append(
            f"It is {_against(score, best[1])} the trivial baseline {best[0]}: more rows, or more "
            "pre-training on texts like them, come before anything else."
        )
    control = score.references.get(CONTROL)
    if control is not None and _against(score, control) != "better than":
        sentences.append(
            "The same model without its pre-training reaches as much within the interval: the text "
            "it was pre-trained on was too short, or too unlike these rows."
        )
    complete = run.number("results", "val_scores", "ended", "value")
    if complete is not None and complete < COMPLETE:
        sentences.append(
            f"{percent(1 - complete)} of its answers did not come to an end by themselves: a "
            "longer budget teaches it to end them."
        )
    return sentences


def _from_finetune_curve(run: RunLog) -> list[str]:
    measured = _measured(run)
    best = best_evaluation(run)
    if best is None or best.loss is None or len(measured) < 2:
        return []
    last = measured[-1]
    assert last.loss is not None
    if last.loss > best.loss * (1 + OVERFIT):
        rise = percent(last.loss / best.loss - 1)
        return [
            f"After step {integer(best.step)} the validation loss rose by {rise}: it memorises the "
            f"rows, and the weights of step {integer(best.step)} were kept. More rows "
            "help most; --lora 8 or --head-only change less of the model."
        ]
    falling = _still_falling(measured, best)
    return [falling] if falling else []


def loss_note(run: RunLog) -> str:
    """Why the training loss is not drawn; empty where it is."""
    if not learns_text(run):
        return ""
    return (
        "The training loss is not drawn: it includes the language modelling loss, which is learned "
        "beside the answers."
    )
