"""Contestants take turns, only one runs at a time, and one that computes something else is out."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import racing
import training_race
from contest import PeerFailed, interleave, ratios, summarise
from entries import Entry
from gates import GateFailed, check_distinctive, same_texts

FakePeer = Callable[..., Entry]
TERMS = training_race.Terms(
    rows=4, micro=[4], gate_steps=2, steps=1, repeats=5, windows=8, threads=1, seed=1
)


def ticks(folder: Path, name: str) -> int:
    return len((folder / f"{name}.ticks").read_text())


def test_turns_interleave_and_the_ratio_is_that_of_the_medians(
    fake: FakePeer, stack: ExitStack, tmp_path: Path
) -> None:
    entries = [fake("scriven", slowness=0.01), fake("B", slowness=0.03)]
    contest = racing.enter(stack, entries, tmp_path, 1)
    contest.each(lambda one: racing.prepare(one, tmp_path))
    found = interleave({one.entry.name: training_race._turn(one, 1) for one in contest.field}, 5)
    assert (tmp_path / "order").read_text() == "scrivenB" * 5
    assert ratios(found, "scriven")["B"] == pytest.approx(3)
    assert summarise(found["B"])["max"] == pytest.approx(0.03)


def test_a_slow_minute_hits_both_and_leaves_the_ratio() -> None:
    weather = iter([1, 1, 9, 9, 1, 1])
    found = interleave({"A": lambda: 1.0 * next(weather), "B": lambda: 2.0 * next(weather)}, 3)
    assert ratios(found, "A")["B"] == 2


def test_who_is_not_asked_does_not_run(fake: FakePeer, stack: ExitStack, tmp_path: Path) -> None:
    contest = racing.enter(stack, [fake("scriven"), fake("B", slowness=0.3)], tmp_path, 1)
    contest.each(lambda one: racing.prepare(one, tmp_path))
    before = ticks(tmp_path, "scriven"), ticks(tmp_path, "B")
    contest.field[1].peer.ask("step", count=1)
    after = ticks(tmp_path, "scriven"), ticks(tmp_path, "B")
    assert after[0] == before[0], "an idle thread spun"
    assert after[1] > before[1], "the test would see it"
    time.sleep(0.1)  # a file written while it was being stopped may appear a moment later
    settled = ticks(tmp_path, "B")
    time.sleep(0.3)
    assert ticks(tmp_path, "B") == settled


def test_the_same_weights_pass_the_gates(fake: FakePeer, stack: ExitStack, tmp_path: Path) -> None:
    contest = racing.enter(stack, [fake("scriven"), fake("B")], tmp_path, 1)
    contest.each(lambda one: racing.prepare(one, tmp_path))
    training_race._gate(contest, TERMS)
    assert [one.entry.name for one in contest.field] == ["scriven", "B"]
    assert contest.field[1].facts["loss_difference"] == 0


def test_planted_bug_other_weights_are_out_before_any_clock_is_started(
    fake: FakePeer, stack: ExitStack, tmp_path: Path
) -> None:
    contest = racing.enter(stack, [fake("scriven"), fake("B"), fake("C", seed=1)], tmp_path, 1)
    contest.each(lambda one: racing.prepare(one, tmp_path))
    training_race._gate(contest, TERMS)
    assert [one.entry.name for one in contest.field] == ["scriven", "B"]
    assert "C has other weights or another model" in contest.failures[0]


def test_planted_bug_other_learning_is_out(
    fake: FakePeer, stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contest = racing.enter(stack, [fake("scriven"), fake("B")], tmp_path, 1)
    contest.each(lambda one: racing.prepare(one, tmp_path))
    ask = contest.field[1].peer.ask
    monkeypatch.setattr(
        contest.field[1].peer,
        "ask",
        lambda do, **rest: ask(do, **rest) if do != "step" else {},  # never learns
    )
    monkeypatch.setattr("gates.LEARNT", 0.001)
    training_race._gate(contest, TERMS)
    assert "B trains differently" in contest.failures[0]


def test_ours_failing_ends_the_contest(fake: FakePeer, stack: ExitStack, tmp_path: Path) -> None:
    contest = racing.enter(stack, [fake("scriven"), fake("B")], tmp_path, 1)
    with pytest.raises(PeerFailed, match="scriven ended: no reason given"):
        contest.each(lambda one: one.peer.ask("leave"))


def test_the_fastest_settings_are_kept_and_impossible_ones_passed_over(
    fake: FakePeer, stack: ExitStack, tmp_path: Path
) -> None:
    choices = [{"micro": 3}, {"micro": 1}, {"micro": 2}]
    contest = racing.enter(stack, [fake("scriven", choices=choices)], tmp_path, 1)

    def attempt(one: racing.Contestant) -> float:
        racing.prepare(one, tmp_path)
        return {1: 0.5, 2: 0.25}[one.settings["micro"]]

    racing.choose(contest.ours, attempt)
    assert contest.ours.settings == {"micro": 2}
    assert [each["seconds"] for each in contest.ours.facts["tried"]] == [0.5, 0.25]


def test_compile_is_tried_with_the_fastest_settings_and_kept_only_where_it_pays(
    fake: FakePeer, stack: ExitStack, tmp_path: Path
) -> None:
    entry = replace(fake("scriven", choices=[{"micro": 1}, {"micro": 2}]), compiles=True)
    contest = racing.enter(stack, [entry], tmp_path, 1)
    for seconds, kept in ((0.1, {"micro": 2, "compile": True}), (0.4, {"micro": 2})):
        speed = {(1, False): 0.5, (2, False): 0.25, (2, True): seconds}

        def attempt(one: racing.Contestant, speed: dict[tuple[int, bool], float] = speed) -> float:
            return speed[one.settings["micro"], "compile" in one.settings]

        racing.choose(contest.ours, attempt)
        assert contest.ours.settings == kept


def test_where_nothing_works_the_reason_is_one_line(
    fake: FakePeer, stack: ExitStack, tmp_path: Path
) -> None:
    entry = fake("scriven", choices=[{"micro": 3}, {"micro": 3}])
    contest = racing.enter(stack, [entry], tmp_path, 1)
    with pytest.raises(PeerFailed, match=r"ValueError: 3 rows do not divide$"):
        racing.choose(contest.ours, lambda one: racing.prepare(one, tmp_path) or 0.0)


def test_texts_must_be_the_same_letter_by_letter() -> None:
    ours = ["abcdefgh", "ijklmnop"]
    assert same_texts("B", ours, ours, 1.0) == {"same_text": 1.0}
    with pytest.raises(GateFailed, match="after 75% of their"):
        same_texts("B", ["abcdXfgh", "ijklmnop"], ours, 1.0)
    assert same_texts("B", ["abcdXfgh", "ijklmnop"], ours, 0.5) == {"same_text": 0.75}


@pytest.mark.parametrize("texts", [["a a a a a a"], ["same text, twelve+"] * 2])
def test_texts_that_any_model_writes_are_refused(texts: list[str]) -> None:
    with pytest.raises(GateFailed, match="do not distinguish models"):
        check_distinctive(texts)
