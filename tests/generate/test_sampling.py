"""The choice of the next token against exact distributions and against transformers."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from scriven.errors import SettingError
from scriven.generate.logits import truncation
from scriven.generate.sampling import SamplingParams, process_logits, sample


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


def drawn(dice: list[torch.Generator]) -> list[float]:
    """The next random number of each."""
    return [float(torch.rand((), generator=each, dtype=torch.float64)) for each in dice]


def distribution(logits: Tensor, sampling: SamplingParams) -> Tensor:
    """(rows, vocabulary) probabilities that `sample` draws from."""
    candidates = process_logits(logits, sampling)
    probabilities = candidates.scores.softmax(-1)
    if candidates.ids is None:
        return probabilities
    return torch.zeros(logits.shape, dtype=torch.float64).scatter(-1, candidates.ids, probabilities)


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Logits after the repetition penalty alone."""
    return process_logits(
        logits, SamplingParams(temperature=0, repetition_penalty=penalty), seen
    ).scores


# --- the distribution, against an independent truth ---------------------------------------------

SETTINGS = [
    SamplingParams(),
    SamplingParams(temperature=0.7),
    SamplingParams(temperature=3.0, top_k=5),
    SamplingParams(top_p=0.6),
    SamplingParams(temperature=1.4, top_p=0.9, top_k=20),
    SamplingParams(min_p=0.2),
    SamplingParams(temperature=0.8, top_k=30, top_p=0.95, min_p=0.05),
    SamplingParams(top_k=10_000, top_p=0.01),
    SamplingParams(temperature=5.0, top_p=0.999),
]


@pytest.mark.parametrize("vocab_size", [40, 3000])
@pytest.mark.parametrize("sampling", SETTINGS)
def test_the_distribution_equals_transformers(sampling: SamplingParams, vocab_size: int) -> None:
    transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")
    generator = torch.Generator().manual_seed(5)
    logits = 3 * torch.randn(6, vocab_size, generator=generator, dtype=torch.float64)
    prompt = torch.randint(0, vocab_size, (6, 12), generator=generator)
    steps = [transformers.RepetitionPenaltyLogitsProcessor(1.3)]
    steps.append(transformers.TemperatureLogitsWarper(sampling.settings["temperature"]))
    if sampling.settings["top_k"]:
        steps.append(transformers.TopKLogitsWarper(sampling.settings["top_k"]))
    if sampling.settings["top_p"] < 1:
        steps.append(transformers.TopPLogitsWarper(sampling.settings["top_p"]))
    if sampling.settings["min_p"]:
        steps.append(transformers.MinPLogitsWarper(sampling.settings["min_p"]))
    expected = transformers.LogitsProcessorList(steps)(prompt, logits.clone()).softmax(-1)
    seen = torch.zeros(6, vocab_size, dtype=torch.bool).scatter(1, prompt, True)
    found = distribution(penalised(logits, seen, 1.3), sampling)
    assert torch.equal(found > 0, expected > 0)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_few_or_all_sorted_gives_the_same_nucleus(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = 4 * torch.randn(8, 900, generator=torch.Generator().manual_seed(1))
    found = []
    for size in (1, 30, 10_000):
        monkeypatch.setattr(truncation, "SORTED_FIRST", size)
        found.append(distribution(logits, SamplingParams(top_p=0.9)))
    torch.testing.assert_close(found[0], found[2], rtol=1e-12, atol=0)
    torch.testing.assert_close(found[1], found[2], rtol=1e-12, atol=0)


def p_of_draws(sample: Callable[..., Tensor], sampling: SamplingParams, exact: Tensor) -> float:
    """p-value of Pearson's chi-square of 100,000 draws from one row of logits."""
    draws, rows = 100_000, 1000
    logits = EXAMPLE.expand(rows, -1)
    dice = generators(rows)
    counts = torch.zeros(len(exact), dtype=torch.float64)
    for _ in range(draws // rows):
        counts += torch.bincount(sample(logits, sampling, drawn(dice)), minlength=len(exact))
    if counts[exact == 0].any():
        return 0.0
    expected = exact[exact > 0] * draws
    statistic = ((counts[exact > 0] - expected) ** 2 / expected).sum()
    freedom = torch.tensor((len(expected) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, statistic / 2))


EXAMPLE = torch.tensor([[2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0]])


def exact(sampling: SamplingParams) -> Tensor:
    """The distribution by plain arithmetic, in the documented order."""
    weights = {
        i: math.exp(x / sampling.settings["temperature"]) for i, x in enumerate(EXAMPLE[0].tolist())
    }
    ranked = sorted(weights, key=lambda i: -weights[i])
    ranked = ranked[: sampling.settings["top_k"] or None]
    total, before, nucleus = sum(weights[i] for i in ranked), 0.0, []
    for i in ranked:
        if before / total < sampling.settings["top_p"]:
            nucleus.append(i)
        before += weights[i]
    kept = [i for i in nucleus if weights[i] >= sampling.settings["min_p"] * weights[nucleus[0]]]
    result = torch.zeros(len(weights), dtype=torch.float64)
    for i in kept:
        result[i] = weights[i]
    return result / result.sum()


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(),
        SamplingParams(temperature=2.0, top_k=4),
        SamplingParams(top_p=0.8),
        SamplingParams(temperature=1.5, top_k=7, top_p=0.95, min_p=0.1),
    ],
)
def test_draws_follow_the_exact_distribution(sampling: SamplingParams) -> None:
    assert p_of_draws(sample, sampling, exact(sampling)) > 1e-6


def test_a_planted_bug_in_the_draw_is_noticed() -> None:
    def order_swapped(logits: Tensor, sampling: SamplingParams, numbers: list[float]) -> Tensor:
        """top-p before the temperature."""
        logits, _ = logits.sort(descending=True)
        kept = logits.softmax(-1).cumsum(-1) - logits.softmax(-1) < sampling.settings["top_p"]
        cut = logits.masked_fill(~kept, -math.inf)
        return sample(cut, SamplingParams(temperature=sampling.settings["temperature"]), numbers)

    def biased(logits: Tensor, sampling: SamplingParams, numbers: list[float]) -> Tensor:
        """A temperature that is five percent off."""
        return sample(logits * 1.05, sampling, numbers)

    hot = SamplingParams(temperature=2.0, top_p=0.8)
    assert p_of_draws(sample, hot, exact(hot)) > 1e-6
    assert p_of_draws(order_swapped, hot, exact(hot)) < 1e-6
    assert p_of_draws(biased, SamplingParams(), exact(SamplingParams())) < 1e-6


def test_first_draws_of_neighbouring_seeds_are_independent() -> None:
    rows = 20_000
    first = sample(torch.zeros(rows, 10), SamplingParams(), drawn(generators(rows)))
    counts = torch.bincount(first, minlength=10).double()
    pairs = torch.bincount(first[1:] * 10 + first[:-1], minlength=100).double()
    for found, cells in ((counts, 10), (pairs, 100)):
        expected = found.sum() / cells
        statistic = ((found - expected) ** 2 / expected).sum()
        freedom = torch.tensor((cells - 1) / 2, dtype=torch.float64)
        assert float(torch.special.gammaincc(freedom, statistic / 2)) > 1e-6


# --- single pieces ------------------------------------------------------------------------------


def test_greedy_takes_the_likeliest_and_needs_no_numbers() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, -1.0, 2.0]])
    assert sample(logits, SamplingParams(temperature=0), []).tolist() == [1, 0]
    assert sample(logits, SamplingParams(top_k=1), []).tolist() == [1, 0]


def test_the_penalty_divides_above_zero_and_multiplies_below() -> None:
    logits = torch.tensor([[2.0, -2.0, 2.0, -2.0]])
    seen = torch.tensor([[True, True, False, False]])
    assert penalised(logits, seen, 2.0).tolist() == [[1.0, -4.0, 2.0, -2.0]]
    assert penalised(logits, seen, 0.5).tolist() == [[4.0, -1.0, 2.0, -2.0]]


def test_a_row_is_drawn_alike_alone_and_among_others() -> None:
    logits = torch.randn(16, 200, generator=torch.Generator().manual_seed(3))
    for sampling in (
        SamplingParams(),
        SamplingParams(top_p=0.7),
        SamplingParams(top_k=9, min_p=0.1),
    ):
        numbers = drawn(generators(16))
        together = sample(logits, sampling, numbers).tolist()
        alone = [int(sample(logits[i : i + 1], sampling, numbers[i : i + 1])) for i in range(16)]
        assert together == alone


def test_what_is_banned_is_never_drawn_by_any_setting() -> None:
    logits = torch.randn(64, 12, generator=torch.Generator().manual_seed(4))
    logits[:, 3] = -math.inf
    seen = torch.ones(64, 12, dtype=torch.bool)
    for temperature, top_k, nucleus, min_p, penalty in itertools.product(
        (0, 1e-320, 0.5, 100), (0, 1, 12, 99), (5e-324, 0.5, 1), (0, 1), (5e-324, 1, 1000)
    ):
        sampling = SamplingParams(
            temperature=temperature,
            top_k=top_k,
            top_p=nucleus,
            min_p=min_p,
            repetition_penalty=penalty,
        )
        found = sample(logits, sampling, drawn(generators(64)), seen)
        assert 3 not in found.tolist(), sampling
        assert int(found.min()) >= 0
        assert int(found.max()) < 12


def test_extreme_logits_do_not_crash_and_keep_the_best() -> None:
    logits = torch.tensor([[3e38, -3e38, 0.0, -math.inf]])
    seen = torch.tensor([[True, True, False, False]])
    for temperature, penalty in itertools.product((1e-4, 1, 100), (0.001, 1.2)):
        sampling = SamplingParams(temperature=temperature, repetition_penalty=penalty, top_p=0.5)
        assert sample(logits, sampling, drawn(generators(1)), seen).tolist() == [0]


# --- the settings -------------------------------------------------------------------------------

NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "flag", "values"),
    [
        ("temperature", "--temperature=", [-1, -1e-9, 100.1, 1e6, NAN, INFINITE, "1", None, True]),
        ("top_k", "--top-k=", [-1, 0.5, NAN, INFINITE, "5", None]),
        ("top_p", "--top-p=", [-1, 0, 1.0001, 2, NAN, "0.5"]),
        ("min_p", "--min-p=", [-0.1, 1.1, NAN, -INFINITE]),
        ("repetition_penalty", "--repetition-penalty=", [0, -1, NAN, INFINITE, 1e300]),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(name: str, flag: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(SettingError) as caught:
            SamplingParams(**{name: value})
        assert str(caught.value).startswith(f"{flag}{value}:")
        assert "\n" not in str(caught.value)


def test_the_limits_themselves_are_allowed() -> None:
    SamplingParams(temperature=0, top_k=0, top_p=1, min_p=0)
    SamplingParams(temperature=100, top_k=10**9, top_p=1e-9, min_p=1, repetition_penalty=1000)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_the_ends_of_the_random_numbers_draw_no_banned_token(uniform: float) -> None:
    logits = torch.tensor([[-math.inf, 0.0, 1.0, -math.inf]], dtype=torch.float64)
    token = int(sample(logits, SamplingParams(), [uniform]))
    assert token == (1 if uniform == 0 else 2)
