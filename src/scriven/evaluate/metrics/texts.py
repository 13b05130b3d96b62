"""Metrics of written texts against references: exact match, and BLEU and chrF by sacrebleu."""

from functools import partial
from typing import Any

import numpy as np

from ...errors import MissingExtra
from ..bootstrap import Floats, Statistic, proportion
from .base import Metric, row_statistic


def sacrebleu_statistic(name: str, references: list[str], written: list[str]) -> Statistic:
    """BLEU or CHRF, from 0 to 100; the counts of each text are taken once and then resampled.

    An empty written text scores 0, against an empty reference too.

    Raises:
        MissingExtra: sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as error:
        raise MissingExtra("sacrebleu", "eval", "scoring texts") from error

    metric: Any = BLEU(force=True) if name == "BLEU" else CHRF()
    counts = np.array(metric._extract_corpus_statistics(written, [references]), np.float64)

    def score(drawn: Floats) -> Floats:  # (r, n) -> (r,)
        sums = (drawn @ counts).astype(np.int64).tolist()  # (r, s) sums of s counts per text
        return np.array([metric._compute_score_from_stats(each).score for each in sums])

    one = row_statistic(len(counts), score)
    return Statistic(one.value, one.counts, score, str(metric.get_signature()))


def exact_match(references: list[str], written: list[str]) -> Statistic:
    """The fraction of texts that equal their reference but for outer spaces."""
    same = [a.strip() == b.strip() for a, b in zip(references, written, strict=True)]
    return proportion(np.array(same))


METRICS = {
    "bleu": Metric(("texts",), 1, partial(sacrebleu_statistic, "BLEU")),
    "chrf": Metric(("texts",), 2, partial(sacrebleu_statistic, "CHRF")),
    "exact_match": Metric(("texts",), 4, exact_match),
}
