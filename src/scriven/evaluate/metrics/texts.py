"""Metrics of written texts against references: exact match, and BLEU and chrF by sacrebleu."""

from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from ...errors import MissingExtra
from ..bootstrap import Floats, Statistic, proportion
from .base import Metric, row_statistic
from .rouge_l import UNSPACED


def sacrebleu_statistic(name: str, references: list[str], written: list[str]) -> Statistic:
    """BLEU or CHRF, from 0 to 100; the counts of each text are taken once and then resampled.

    An empty written text scores 0, against an empty reference too. The signature names the
    tokenization of BLEU.

    Raises:
        MissingExtra: sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as error:
        raise MissingExtra("sacrebleu", "eval", "scoring texts") from error

    metric: Any = CHRF()
    if name == "BLEU":
        metric = BLEU(force=True, tokenize=bleu_tokenization(references))
    counts = np.array(metric._extract_corpus_statistics(written, [references]), np.float64)

    def score(drawn: Floats) -> Floats:  # (r, n) -> (r,)
        sums = (drawn @ counts).astype(np.int64).tolist()  # (r, s) sums of s counts per text
        return np.array([metric._compute_score_from_stats(each).score for each in sums])

    one = row_statistic(len(counts), score)
    return Statistic(one.value, one.counts, score, str(metric.get_signature()))


def bleu_tokenization(references: list[str]) -> str:
    """sacrebleu's name of the tokenization for the script that most letters belong to.

    Text without spaces would be one long token otherwise, which never matches.
    """
    letters = [letter for text in references for letter in text if letter.isalpha()]
    unspaced = [letter for letter in letters if UNSPACED.match(letter)]
    if 2 * len(unspaced) <= len(letters):
        return "13a"
    han = sum(letter >= "\u3400" for letter in unspaced)
    kana = sum("\u3040" <= letter < "\u3400" for letter in unspaced)
    if 20 * kana < han:
        return "zh"
    has_mecab = all(find_spec(package) for package in ("MeCab", "ipadic"))
    return "ja-mecab" if kana and has_mecab else "char"


def exact_match(references: list[str], written: list[str]) -> Statistic:
    """The fraction of texts that equal their reference but for outer spaces."""
    same = [a.strip() == b.strip() for a, b in zip(references, written, strict=True)]
    return proportion(np.array(same))


METRICS = {
    "bleu": Metric(("texts",), 1, partial(sacrebleu_statistic, "BLEU")),
    "chrf": Metric(("texts",), 2, partial(sacrebleu_statistic, "CHRF")),
    "exact_match": Metric(("texts",), 4, exact_match),
}
