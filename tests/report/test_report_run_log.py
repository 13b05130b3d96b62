"""Reading a run folder, and the key metrics computed from it."""

import json
import math

import pytest

from scriven.format import compact, decimal, duration, percent, plural, significant
from scriven.report.run_log import finite, read_run_log


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        (-2.5, -2.5),
        (None, None),
        ("3", None),
        (True, None),
        (float("nan"), None),
        (float("-inf"), None),
        (10**400, None),
        (1e300, None),
        ([], None),
    ],
)
def test_only_finite_numbers_are_numbers(value, number):
    assert finite(value) == number


def test_broken_lines_are_counted_and_left_out(make_run):
    folder = make_run(lines=[])
    good = json.dumps({"event": "step", "step": 3, "loss": 2.0})
    bad = [
        "{",
        "[]",
        "7",
        "null",
        '{"event":"step"}',
        '{"event":"step","step":-1}',
        '{"step":1e999}',
    ]
    text = "\n".join([good, *bad, "", '{"event":"step","step":4,"loss":NaN}', '{"event":"st'])
    (folder / "metrics.jsonl").write_text(text)
    history = read_run_log(folder)
    assert [(each.step, each.loss) for each in history.steps] == [(3, 2.0), (4, None)]
    assert history.unreadable == len(bad) + 1


def test_invalid_utf8_loses_only_its_line(make_run):
    folder = make_run(lines=[])
    (folder / "metrics.jsonl").write_bytes(b'\xff\xfe\n{"event":"step","step":1,"loss":2}\n')
    assert len(read_run_log(folder).steps) == 1


def test_steps_repeated_after_a_resume_replace_the_first_ones(make_run):
    events = [(10, 3.0), (20, 2.5), (30, 2.2), (20, 2.6), (30, 2.3), (40, 2.1)]
    lines = [{"event": "evaluation", "step": step, "loss": loss} for step, loss in events]
    history = read_run_log(make_run(lines=lines))
    found = [(each.step, each.loss) for each in history.evaluations]
    assert found == [(10, 3.0), (20, 2.6), (30, 2.3), (40, 2.1)]


def test_several_samples_of_one_step_are_kept(make_run):
    lines = [{"event": "sample", "step": 5, "text": text} for text in ("one", "two")]
    assert [each.text for each in read_run_log(make_run(lines=lines)).samples] == ["one", "two"]


def test_no_metrics_file_is_an_empty_history(make_run):
    folder = make_run()
    (folder / "metrics.jsonl").unlink()
    assert read_run_log(folder).steps == []


def test_metrics_of_a_finished_run_are_its_results(make_run):
    figures = read_run_log(make_run()).metrics
    assert figures.perplexity == pytest.approx(4.4816890703)  # exp(1.5)
    assert figures.uniform_loss == pytest.approx(4.1743872699)  # ln 65
    assert figures.epochs == pytest.approx(12.0)
    assert figures.gain_over_ngram == pytest.approx(1 - 1.5 / 1.67)
    assert (figures.best_step, figures.steps, figures.ngram_order) == (600, 600, 5)


def test_metrics_of_an_unfinished_run_are_those_of_its_best_evaluation(make_run, a_record):
    lines = [
        {"event": "evaluation", "step": 10, "loss": 2.0, "accuracy": 0.4, "bits_per_byte": 2.9},
        {"event": "evaluation", "step": 20, "loss": 1.8, "accuracy": 0.5, "bits_per_byte": 2.6},
        {"event": "evaluation", "step": 30, "loss": 1.9, "accuracy": 0.45, "bits_per_byte": 2.7},
        {"event": "step", "step": 35, "tokens": 5000, "seconds": 7.0, "loss": 1.0},
    ]
    figures = read_run_log(make_run(a_record(results=None), lines)).metrics
    assert (figures.loss, figures.accuracy, figures.bits_per_byte) == (1.8, 0.5, 2.6)
    assert (figures.best_step, figures.steps, figures.seconds) == (20, 35, 7.0)
    assert figures.epochs == pytest.approx(0.05)
    assert not figures.finished


def test_the_perplexity_of_an_absurd_loss_is_no_overflow(make_run, a_record):
    figures = read_run_log(make_run(a_record(results={"val_loss": 1e9}), [])).metrics
    assert figures.perplexity is None


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (compact(811_904), "812 k"),
        (compact(6_225_920), "6.2 M"),
        (compact(999_960), "1.0 M"),
        (compact(999), "999"),
        (compact(1.3e9), "1.3 B"),
        (compact(None), "–"),
        (decimal(1234.5678), "1,234.568"),
        (decimal(1.23456e8), "1.23e+08"),
        (percent(0.5), "50.0\u00a0%"),
        (duration(3.14), "3.1\u00a0s"),
        (duration(59.7), "1\u00a0min"),
        (duration(192.3), "3\u00a0min 12\u00a0s"),
        (duration(7200), "2\u00a0h"),
        (duration(90_061), "1\u00a0d 1\u00a0h"),
        (significant(4.3291), "4.33"),
        (significant(0.004), "0.00400"),
        (significant(1234.5), "1,234"),
        (significant(1e-9), "1.00e-09"),
        (significant(math.exp(20)), "4.85e+08"),
        (significant(0), "0"),
    ],
)
def test_numbers_read_as_people_write_them(number, text):
    assert number == text


def test_one_is_not_several():
    assert [plural(n, "row") for n in (0, 1, 2, 1234)] == [
        "0 rows",
        "1 row",
        "2 rows",
        "1,234 rows",
    ]
    assert plural(1, "row was skipped", "rows were skipped") == "1 row was skipped"
    assert plural(2, "row was skipped", "rows were skipped") == "2 rows were skipped"
