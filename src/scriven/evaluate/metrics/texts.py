"""Scores of written texts against reference texts: BLEU, chrF, ROUGE-L, exact match.

BLEU and chrF are sacrebleu's (extra `eval`). Its counts of each text are taken once and resampled;
no text is cut into words again. Knows texts only: no tokenizer, no model.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import MissingExtra
from ..bootstrap import SEED, Floats, between, check_rows, draws, mean, share
from ..score_with_ci import ScoreWithCI
from .rouge import SIGNATURE, rouge_l


def score_texts(
    references: Sequence[str], written: Sequence[str], *, seed: int = SEED
) -> list[ScoreWithCI]:
    """bleu, chrf and rouge_l, from 0 to 100, and exact_match, from 0 to 1.

    Args:
        references: what should have been written, one text per row.
        written: what was; an empty text counts and scores 0, against an empty reference too.
            Of exact matches alone, two empty texts are one.

    Raises:
        MissingExtra: sacrebleu is not installed.
        InputError: there are no rows.
    """
    assert len(references) == len(written), (len(references), len(written))
    check_rows(len(written))
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as error:
        raise MissingExtra("sacrebleu", "eval", "scoring texts") from error

    same = [a.strip() == b.strip() for a, b in zip(references, written, strict=True)]
    overlaps = [100 * rouge_l(a, b) for a, b in zip(references, written, strict=True)]
    return [
        _resampled("bleu", BLEU(force=True), references, written, seed),
        _resampled("chrf", CHRF(), references, written, seed),
        mean("rouge_l", np.array(overlaps), signature=SIGNATURE, seed=seed),
        share("exact_match", np.array(same), seed=seed),
    ]


def _resampled(
    name: str, metric: Any, references: Sequence[str], written: Sequence[str], seed: int
) -> ScoreWithCI:
    """A metric of sacrebleu: its score, and those of resampled sums of its counts."""
    counts = np.array(metric._extract_corpus_statistics(written, [references]), np.float64)
    score: Callable[[list[int]], Any] = metric._compute_score_from_stats

    def scores(sums: Floats) -> Floats:
        return np.array([score(each).score for each in sums.astype(np.int64).tolist()])

    each_once = np.ones(len(counts), np.int64)
    found = np.concatenate([scores(drawn @ counts) for drawn in draws(each_once, seed)])
    value = float(scores(counts.sum(axis=0, keepdims=True))[0])
    return between(name, value, found, str(metric.get_signature()))
