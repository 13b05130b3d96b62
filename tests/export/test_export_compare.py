"""The comparison itself, against answers made by hand."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scriven.export.base import ParityProbe, ProbeAnswer
from scriven.export.parity_check import ParityReport, compare_outputs, make_probe, reference_logits
from scriven.runs.load import Loaded, load_run

RunOf = Callable[[str], Path]


@pytest.fixture(scope="module")
def loaded(run_of: RunOf) -> Loaded:
    return load_run(run_of("words"))


@pytest.fixture(scope="module")
def probe(loaded: Loaded) -> ParityProbe:
    return make_probe(loaded)


def greedy(loaded: Loaded, probe: ParityProbe, flip: int | None = None) -> ProbeAnswer:
    """What a program says that computes the same; at step `flip` it takes the second best."""
    tokens, logits = [], []
    for prompt, count in zip(probe.prompts, probe.counts, strict=True):
        written: list[int] = []
        for step in range(count):
            scores = reference_logits(loaded, probe, list(prompt), [*written, 0])[-1]
            scores[list(probe.never)] = -np.inf
            best = scores.topk(2).indices.tolist()
            written.append(best[1] if step == flip else best[0])
        tokens.append(written)
        logits.append(reference_logits(loaded, probe, list(prompt), written).numpy())
    return ProbeAnswer([loaded.tokenizer.encode(text) for text in probe.texts], tokens, logits)


def judged(loaded: Loaded, probe: ParityProbe, answer: ProbeAnswer) -> ParityReport:
    return compare_outputs(loaded, probe, answer, "a test", 0.01)


def test_three_prompts_and_every_sort_of_text_are_asked(loaded: Loaded, probe: ParityProbe) -> None:
    context = loaded.task.backbone.config.context_length
    assert probe.counts == [64] * 3
    lengths = [len(prompt) for prompt in probe.prompts]
    assert lengths[0] < lengths[1] < lengths[2] and lengths[2] + 64 < context
    assert any("\n" in text for text in probe.texts)
    assert any("<|endoftext|>" in text for text in probe.texts)
    assert any("東京" in text for text in probe.texts)


def test_the_same_is_the_same(loaded: Loaded, probe: ParityProbe) -> None:
    found = judged(loaded, probe, greedy(loaded, probe))
    assert found.problem is None
    assert found.logit_difference < 1e-5
    assert found.greedy_equal == found.greedy_tokens == 192


def test_probabilities_do_as_well_as_logits(loaded: Loaded, probe: ParityProbe) -> None:
    answer = greedy(loaded, probe)
    shifted = []
    for logits in answer.logits:
        wide = logits.astype(np.float64)
        wide -= np.log(np.exp(wide).sum(-1, keepdims=True))
        shifted.append(wide.astype(np.float32))
    assert judged(loaded, probe, replace(answer, logits=shifted)).problem is not None
    known = replace(answer, logits=shifted, normalised=True)
    assert judged(loaded, probe, known).problem is None


def test_another_token_far_from_a_tie_is_a_failure(loaded: Loaded, probe: ParityProbe) -> None:
    found = judged(loaded, probe, greedy(loaded, probe, flip=3))
    assert found.greedy_equal == 189
    assert found.unexplained >= 1
    assert "greedy" in str(found.problem)


def test_another_token_at_a_tie_is_none(loaded: Loaded, probe: ParityProbe) -> None:
    answer = greedy(loaded, probe, flip=3)
    rough = [logits + np.float32(1) * np.random.default_rng(0).standard_normal(logits.shape)
             for logits in answer.logits]  # fmt: skip
    rough = [each.astype(np.float32) for each in rough]
    found = compare_outputs(loaded, probe, replace(answer, logits=rough), "a test", 100.0)
    assert found.greedy_equal == 189 and found.unexplained == 0
    assert found.problem is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_never_passes(loaded: Loaded, probe: ParityProbe, value: float) -> None:
    answer = greedy(loaded, probe)
    answer.logits[1][5, 7] = value
    assert "not all numbers" in str(judged(loaded, probe, answer).problem)
    quantised = compare_outputs(loaded, probe, answer, "a test", None)
    assert "not all numbers" in str(quantised.problem)


def test_one_other_id_never_passes(loaded: Loaded, probe: ParityProbe) -> None:
    answer = greedy(loaded, probe)
    ids = [list(each) for each in answer.ids]
    ids[2][-1] ^= 1
    found = compare_outputs(loaded, probe, replace(answer, ids=ids), "a test", None)
    assert "encodes" in str(found.problem)
