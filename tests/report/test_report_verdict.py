"""Verdict and advice: the sentence that fits the figures, in every case there is."""

import pytest

from scriven.report.run_log import Event, KeyMetrics, MetricPoint, RunLog
from scriven.report.verdict import advice, verdict


def run(results=None, evaluations=(), steps=(), notes=(), **record):
    """A history with (step, loss) lists for evaluations and steps."""

    def moments(pairs):
        return [MetricPoint(s, s * 100.0, s / 10, v, 0.5, 0.01, 2.0, 1000.0) for s, v in pairs]

    content = {
        "task": "language",
        "tokenizer": {"kind": "char", "vocab_size": 65},
        "data": {"train_tokens": 10_000},
        "results": results,
        **record,
    }
    return RunLog(
        "run",
        content,
        moments(steps),
        moments(evaluations),
        notes=[Event(1, 1.0, n) for n in notes],
    )


def results(**changes):
    return {
        "val_loss": 1.47,
        "ngram_loss": 1.669,
        "ngram_order": 5,
        "best_step": 1900,
        "steps": 2000,
        "tokens": 21_000,
        "finished": True,
        **changes,
    }


def say(history: RunLog) -> str:
    return verdict(history)


def advise(history: RunLog) -> str:
    return " ".join(advice(history))


def test_a_good_run_writes():
    assert say(run(results())) == (
        "It writes: 1.47 nats per character against 1.67 for counting 5-grams; "
        "best at step 1,900 of 2,000, 2.1 epochs of the training text."
    )


@pytest.mark.parametrize(
    ("loss", "opening"),
    [
        (1.64, "It writes: 1.64 nats"),
        (1.66, "It writes about as well as counting 5-grams: 1.66 nats per character against 1.67"),
        (1.68, "It writes about as well as counting 5-grams: 1.68"),
        (1.80, "It does not write yet: 1.80 nats per character, and counting 5-grams reaches 1.67"),
    ],
)
def test_the_verdict_compares_with_ngrams(loss, opening):
    assert say(run(results(val_loss=loss))).startswith(opening)


@pytest.mark.parametrize(
    ("kind", "unit"), [("char", "character"), ("byte", "byte"), ("word", "word"), ("bpe", "token")]
)
def test_the_verdict_names_the_unit_of_the_tokenizer(kind, unit):
    history = run(results(), tokenizer={"kind": kind, "vocab_size": 300})
    assert f"nats per {unit} against" in say(history)


def test_without_a_baseline_the_verdict_says_so():
    assert say(run(results(ngram_loss=None))).startswith(
        "It reaches 1.47 nats per character, with no n-gram baseline to compare; best at"
    )


def test_an_unfinished_run_is_called_unfinished():
    history = run(None, [(100, 2.0), (200, 1.9)], [(210, 1.8)])
    assert say(history).startswith("Unfinished, after 210 steps. It reaches 1.90 nats")
    assert "the same command again continues it" in advise(history)


def test_a_stopped_run_is_unfinished_although_it_has_results():
    assert say(run(results(finished=False))).startswith("Unfinished, after 2,000 steps. It writes")


def test_nothing_measured_differs_from_nothing_usable():
    assert say(run()) == "Nothing has been measured yet."
    history = run(None, [(100, None)], [(100, None)])
    assert say(history) == (
        "Unfinished, after 100 steps. No usable validation loss has been measured."
    )
    assert advise(history)


def test_other_tasks_are_not_compared_with_ngrams():
    history = run(results(val_accuracy=0.913), task="classify", measure="label")
    assert say(history).startswith("91.3\u00a0% right, validation loss 1.470; best at step 1,900")
    assert "ounting" not in say(history) + advise(history)


def test_one_epoch_is_singular():
    assert "1.0 epoch of" in say(run(results(tokens=10_000)))


def falling(last: float) -> list[tuple[int, float]]:
    return [(200 * i, 2.0 - 0.01 * i) for i in range(1, 10)] + [(2000, last)]


def test_a_loss_that_still_falls_gets_the_advice_of_a_longer_budget():
    history = run(results(), falling(1.85), [(2000, 1.8)])
    # From 1.92 at step 1,600 to 1.85 at step 2,000.
    assert "still fell by 3.6\u00a0%" in advise(history)


def test_a_loss_that_has_levelled_off_gets_no_advice():
    history = run(results(), [(200 * i, 1.47) for i in range(1, 11)], [(2000, 1.4)])
    assert advise(history).startswith("Nothing stands out")


def test_overfitting_names_the_step_and_the_rise():
    curve = [(500, 1.6), (1000, 1.5), (1500, 1.6), (2000, 1.65)]
    history = run(results(val_loss=1.5, best_step=1000), curve, [(2000, 0.9)])
    text = advise(history)
    assert "It overfits: after step 1,000 the validation loss rose by 10.0\u00a0%" in text
    assert "training loss went down to 0.900" in text
    assert "longer" not in text


def test_a_rise_with_a_training_loss_that_is_no_lower_is_not_called_overfitting():
    curve = [(500, 1.6), (1000, 1.5), (1500, 2.5), (2000, 3.0)]
    assert "overfits" not in advise(run(results(), curve, [(2000, 3.1)]))


def test_memorising_differs_from_still_learning():
    curve = falling(1.85)
    text = advise(run(results(), curve, [(2000, 1.2)]))
    assert "memorise" in text
    assert "still fell" not in text
    assert "memorise" not in advise(run(results(), curve, [(2000, 1.7)]))


def test_a_run_worse_than_ngrams_is_advised_a_longer_budget():
    assert "Counting is still 10.0\u00a0% better" in advise(run(results(val_loss=1.8359)))


def test_less_than_one_epoch_is_said_with_its_fraction():
    history = run(results(tokens=4000), [(100, 2.0), (200, 2.0)])
    assert "read 40\u00a0% of the training text" in advise(history)


def test_several_nan_losses_get_the_advice_of_a_lower_learning_rate():
    note = "step 7: the loss is NaN or infinite; step skipped (1 in a row)"
    assert "learning rate" in advise(run(results(), notes=[note, note, note]))
    assert "learning rate" not in advise(run(results(), notes=[note]))


def test_a_planted_error_of_sign_turns_the_verdict_around(monkeypatch):
    monkeypatch.setattr(
        KeyMetrics,
        "gain_over_ngram",
        property(lambda self: (self.loss or 0) / (self.ngram_loss or 1) - 1),
    )
    with pytest.raises(AssertionError):
        test_a_good_run_writes()


def test_a_rise_from_a_loss_of_zero_is_said_in_nats():
    """A rise in percent of zero would be a division by zero."""
    history = run(results(val_loss=0.0), [(100, 0.0), (200, 0.5)], [(200, 0.1)])
    assert "the validation loss rose to 0.500 while" in advise(history)
