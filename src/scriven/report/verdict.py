"""Sentences from metrics: how good the model is, and what could help next.

Every rule is a comparison of measured numbers and says which. Knows no HTML.
"""

from collections.abc import Sequence

from ..format import decimal, heading, integer, percent, plural
from .run_log import (
    CONTROL,
    KeyMetrics,
    MainScore,
    MetricPoint,
    RunLog,
    best_evaluation,
    late_mean,
    learns_text,
)

EQUAL = 0.01  # losses closer than 1 % are called equal: seeds of one recipe differ as much
OVERFIT = 0.01  # a rise of the validation loss above its minimum that is worth a word
FALLING = 0.01  # a fall over the last fifth of the run that is not over yet
MEMORISED = 0.15  # training loss this far below validation loss: the model memorises its text
COMPLETE = 0.95  # fraction of answers that should end by themselves

FEW_TOKENS = 1000  # held-out tokens below which chance decides which of two losses is less
SKIPPED = "NaN or infinite"  # in the notes of a run, one for each skipped step


def verdict(run: RunLog) -> str:
    """One or two sentences: how good against n-grams or trivial baselines, and when it was best."""
    metrics = run.metrics
    state = "" if metrics.finished else f"Unfinished, after {plural(metrics.steps, 'step')}. "
    if run.finetuned:
        return state + _finetune_quality(run)
    if metrics.loss is None:
        if metrics.steps == 0:
            return "Nothing has been measured yet."
        return f"{state}No usable validation loss has been measured."
    parts = []
    if metrics.best_step is not None:
        parts.append(_best_step(metrics))
    if metrics.epochs is not None:
        count = decimal(metrics.epochs, 1)
        parts.append(f"{count} {'epoch' if count == '1.0' else 'epochs'} of the training text")
    held_out = run.number("data", "validation_tokens")
    if metrics.is_language_model and held_out is not None and held_out < FEW_TOKENS:
        parts.append(f"on {integer(held_out)} held-out tokens, which are too few to be sure")
    course = f"; {', '.join(parts)}." if parts else "."
    return state + _quality(metrics) + course + _before(run)


def _before(run: RunLog) -> str:
    """What going on from a model was worth, in bits per byte."""
    after, before = (run.number("results", f"{each}val_bits_per_byte") for each in ("", "base_"))
    if after is None or before is None:
        return ""
    name = run.text("base", "name")
    text = f" {name} had {decimal(before)} bits per byte, now it has {decimal(after)}"
    control = run.number("results", "control", "val_bits_per_byte")
    if control is not None:
        text += f"; a new model with the same budget reaches {decimal(control)}"
    names = ("old_bits_per_byte_before", "old_bits_per_byte")
    old, new = (run.number("results", name) for name in names)
    if old is not None and new is not None:
        text += f". On the older text it had {decimal(old)}, now {decimal(new)}"
    return f"{text}."


def _quality(metrics: KeyMetrics) -> str:
    if not metrics.is_language_model:
        accuracy = "" if metrics.accuracy is None else f"{percent(metrics.accuracy)} right, "
        return f"{accuracy}validation loss {decimal(metrics.loss)}"
    loss = f"{decimal(metrics.loss, 2)} nats per {metrics.loss_unit}"
    gain = metrics.gain_over_ngram
    if metrics.ngram_loss is None or gain is None:
        return f"It reaches {loss}, with no n-gram baseline to compare"
    ngram, counting = decimal(metrics.ngram_loss, 2), f"counting {metrics.ngram_order or 'n'}-grams"
    if gain > EQUAL:
        return f"It writes: {loss} against {ngram} for {counting}"
    if gain >= -EQUAL:
        return f"It writes about as well as {counting}: {loss} against {ngram}"
    return f"It does not write yet: {loss}, and {counting} reaches {ngram}"


def _finetune_quality(run: RunLog) -> str:
    metrics, score = run.metrics, run.score
    if score is None or score.value is None:
        if metrics.loss is None:
            return "" if not metrics.finished else "Nothing has been measured yet."
        loss = decimal(metrics.loss)
        return f"The validation loss is {loss} so far; scores come at the end of the run."
    rows = run.number("results", "val_rows")
    on = "" if rows is None else f" on {plural(rows, 'row')} it never saw"
    parts = [f"{heading(score.name)} {score.text}{on}"]
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


def _best_step(metrics: KeyMetrics) -> str:
    total = f" of {integer(metrics.steps)}" if metrics.finished else ""
    return f"best at step {integer(metrics.best_step)}{total}"


def _against(score: MainScore, value: float) -> str:
    """Whether the interval of the score lies above another value, below it or around it."""
    assert score.value is not None
    low = score.value if score.low is None else score.low
    high = score.value if score.high is None else score.high
    if low > value:
        return "better than"
    return "worse than" if high < value else "not surely better than"


def advice(run: RunLog) -> list[str]:
    """What could help next, most pressing first; never empty."""
    metrics, sentences = run.metrics, []
    if not metrics.finished:
        sentences.append("The run is not finished: the same command again continues it.")
    # 1. before there is a loss: whether training goes at all
    skipped = 0 if run.finetuned else sum(SKIPPED in note.text for note in run.notes)
    if skipped > 1:
        sentences.append(
            f"{plural(skipped, 'note')} below tell of a loss that was NaN or infinite: half the "
            "learning rate (--optim.muon_lr, --optim.lr) would be steadier."
        )
    if metrics.loss is None and run.get("imported") and not run.finetuned:
        return ["It was trained elsewhere: `scriven evaluate` measures it on a text of yours."]
    if metrics.loss is None:
        return sentences or ["Train for longer: the first evaluation has not come yet."]
    # 2. against what is trivial
    gain = metrics.gain_over_ngram
    if run.finetuned:
        sentences += _from_scores(run)
    elif metrics.is_language_model and gain is not None and gain < -EQUAL:
        sentences.append(
            f"Counting is still {percent(-gain)} better than the model: a longer budget "
            "comes first, and a smaller model if the machine is slow."
        )
    # 3. from the course of the losses
    sentences += _from_curves(run)
    if sentences:
        return sentences
    if run.finetuned:
        return [
            "Nothing stands out. `scriven evaluate` with rows it never saw tells what to expect of "
            "it; more pre-training on texts like these rows is the next experiment."
        ]
    return [
        "Nothing stands out: the validation loss has levelled off without overfitting. A larger "
        "model (--size) with a longer budget is the next experiment."
    ]


def _from_scores(run: RunLog) -> list[str]:
    score, sentences = run.score, []
    if score is None or score.value is None:
        return []
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


def _from_curves(run: RunLog) -> list[str]:
    losses = [(point.step, point.loss) for point in run.evaluations if point.loss is not None]
    best = best_evaluation(run)
    if best is None or best.loss is None or len(losses) < 2:
        return []
    last = losses[-1][1]
    # the training loss of a fine-tuning may include another loss, so it is not compared
    training = None if run.finetuned else late_mean(run.steps, "loss")
    # 1. the validation loss rises, and the training loss lies below it: overfitting
    if last > best.loss * (1 + OVERFIT):
        rise = f"by {percent(last / best.loss - 1)}" if best.loss else f"to {decimal(last)}"
        step = integer(best.step)
        if run.finetuned:
            return [
                f"After step {step} the validation loss rose {rise}: it memorises the rows, and "
                f"the weights of step {step} were kept. More rows help most; --lora 8 or "
                "--head-only change less of the model."
            ]
        if training is not None and training < last:
            return [
                f"It overfits: after step {step} the validation loss rose {rise} while the "
                f"training loss went down to {decimal(training)}. The weights of step {step} were "
                "kept. More text helps most; a smaller model, dropout or a shorter budget help too."
            ]
    sentences = []
    # 2. a training loss far below the validation loss: memorisation
    if training is not None and training < best.loss * (1 - MEMORISED):
        sentences.append(
            f"The training loss ({decimal(training)}) is far below the validation loss "
            f"({decimal(best.loss)}): the model begins to memorise its text. More text or "
            "dropout would help; a larger model would not."
        )
    # 3. a validation loss that still falls, or text that was not read yet: a longer budget
    elif (fall := _late_fall(losses, best)) > FALLING:
        sentences.append(
            f"The validation loss still fell by {percent(fall)} over the last fifth of the run: "
            "a longer budget would probably go lower."
        )
    epochs = run.metrics.epochs
    if epochs is not None and epochs < 1 and not run.finetuned:
        sentences.append(
            f"It has read {percent(epochs, 0)} of the training text so far; a longer "
            "budget would show it the rest."
        )
    return sentences


def _late_fall(losses: Sequence[tuple[int, float]], best: MetricPoint) -> float:
    """The fraction by which the validation loss fell over the last fifth of the steps; 0 where the
    best evaluation was before the end."""
    last_step, last = losses[-1]
    earlier = [loss for step, loss in losses if step <= 0.8 * last_step]
    if best.step < 0.95 * last_step or not earlier or not earlier[-1]:
        return 0.0
    return 1 - last / earlier[-1]


def loss_note(run: RunLog) -> str:
    """Why the training loss is not drawn; empty where it is."""
    if not learns_text(run):
        return ""
    return (
        "The training loss is not drawn: it includes the language modelling loss, which is learned "
        "beside the answers."
    )
