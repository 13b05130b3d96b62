"""The compiled sampling of the next token, beside the logits processors in PyTorch."""

import pytest
import torch

from scriven.errors import InputError
from scriven.generate.sampling import SamplingParams, sample, sample_rows
from scriven.native.library import sample_natively

DRAWN = SamplingParams(temperature=0.9, top_k=20)


@pytest.mark.parametrize("vocab_size", [1, 65, 3000])
def test_tokens_are_those_of_the_logits_processors(vocab_size: int) -> None:
    generator = torch.Generator().manual_seed(vocab_size)
    rows = 200
    flat = torch.randn(rows, vocab_size, generator=generator)
    logits = flat * torch.rand(rows, 1, generator=generator) * 8
    logits[:, vocab_size // 2] = -torch.inf if vocab_size > 1 else 0.0
    uniforms = torch.rand(rows, generator=generator, dtype=torch.float64).tolist()
    for settings in (
        {"temperature": 0}, {}, {"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.8}, {"min_p": 0.1},
        {"temperature": 3.0, "top_k": 700, "top_p": 0.999, "min_p": 0.001},
    ):  # fmt: skip
        params = SamplingParams(**settings)
        assert params.native is not None
        found = sample_natively(logits, [params.native] * rows, uniforms)
        assert found == sample(logits, params, uniforms).tolist()


def test_planted_bug_another_order_of_candidates_would_be_noticed() -> None:
    """The draw walks from the likeliest token on where top-k sorts them, else by id."""
    logits, uniforms = torch.tensor([[0.0, 2.0, 1.0]]), [0.3]
    drawn = [sample_natively(logits, [(1.0, 1.0, 0.0, top_k)], uniforms) for top_k in (0, 2)]
    by_hand = [0.0, 2.0, 1.0]
    weights = [torch.tensor(each).exp().item() for each in by_hand]
    assert weights[0] / sum(weights) < 0.3 < (weights[0] + weights[1]) / sum(weights)
    assert drawn == [[1], [1]]
    assert sample_natively(logits, [(1.0, 1.0, 0.0, 2)], [0.8]) == [[2]][0]
    assert sample_natively(logits, [(1.0, 1.0, 0.0, 0)], [0.05]) == [0]


def test_each_row_has_settings_of_its_own() -> None:
    logits = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    kinds = [SamplingParams(temperature=0), SamplingParams(top_k=3), SamplingParams(top_p=0.5)] * 2
    uniforms = [0.1, 0.9, 0.6, 0.3, 0.2, 0.999]
    expected = [
        int(sample(logits[row : row + 1], each, uniforms[row : row + 1]))
        for row, each in enumerate(kinds)
    ]
    assert sample_rows(logits, kinds, uniforms) == expected
    penalised = [SamplingParams(repetition_penalty=2.0), *kinds[1:]]
    seen = [torch.zeros(40, dtype=torch.bool), *[None] * 5]
    assert sample_rows(logits, penalised, uniforms, seen)[1:] == expected[1:]


def test_logits_that_are_not_finite_are_refused() -> None:
    for value in (torch.nan, torch.inf, -torch.inf):
        logits = torch.zeros(2, 3)
        logits[1] = value
        with pytest.raises(InputError, match="NaN or infinite"):
            sample_rows(logits, [DRAWN, DRAWN], [0.5, 0.5])
