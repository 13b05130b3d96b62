"""Scores of labels: accuracy, macro-averaged F1, Matthews correlation.

All three follow from how often each pair of true and predicted label occurs, so a data set of any
size is scored from one small number per row. Knows ids only: no names of labels, no logits.
"""

from array import array

import numpy as np
import numpy.typing as npt

from ..bootstrap import SEED, Floats, Ids, check_rows, figure, share
from ..score_with_ci import ScoreWithCI

UNKNOWN = -1
"""Stands for a true label that the model was never taught, and for no answer: always wrong."""


class Labels:
    """True and predicted labels, gathered batch by batch; 8 bytes per row."""

    def __init__(self, count: int) -> None:
        """count: how many labels the model knows."""
        assert count >= 1, count
        self.count = count
        # The unknown truth and the missing answer are two more, so that they are never equal.
        self._side = count + 2
        self._pairs = array("q")

    def add(self, truth: npt.ArrayLike, predicted: npt.ArrayLike) -> None:
        """Rows of a batch: (n,) ids from 0 to `count - 1`, or `UNKNOWN`."""
        true, answered = self._checked(truth), self._checked(predicted)
        assert true.shape == answered.shape, (true.shape, answered.shape)
        true = np.where(true == UNKNOWN, self.count, true)
        answered = np.where(answered == UNKNOWN, self.count + 1, answered)
        self._pairs.frombytes((true * self._side + answered).tobytes())

    def __len__(self) -> int:
        """Rows so far."""
        return len(self._pairs)

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """(n,) whether each row was right, in the order they came; for `difference`."""
        true, answered = np.divmod(np.array(self._pairs, np.int64), self._side)
        return np.asarray(true == answered)

    def figures(self, seed: int = SEED) -> list[ScoreWithCI]:
        """accuracy, macro_f1, matthews.

        Raises:
            InputError: there are no rows.
        """
        check_rows(len(self))
        pairs, counts = np.unique(np.array(self._pairs, np.int64), return_counts=True)
        table = Table(pairs // self._side, pairs % self._side)
        once = counts[None].astype(np.float64)
        return [
            share("accuracy", self.correct, seed=seed),
            figure("macro_f1", float(table.macro_f1(once)[0]), counts, table.macro_f1, seed=seed),
            figure("matthews", float(table.matthews(once)[0]), counts, table.matthews, seed=seed),
        ]

    def _checked(self, ids: npt.ArrayLike) -> Ids:
        found = np.asarray(ids)
        assert found.ndim == 1, found.shape
        assert not len(found) or found.dtype.kind in "iu", found.dtype
        assert not len(found) or (found.min() >= UNKNOWN and found.max() < self.count)
        return found.astype(np.int64)


def score_labels(
    truth: npt.ArrayLike, predicted: npt.ArrayLike, count: int, *, seed: int = SEED
) -> list[ScoreWithCI]:
    """accuracy, macro_f1 and matthews of (n,) ids below `count`; see `Labels`.

    Raises:
        InputError: there are no rows.
    """
    labels = Labels(count)
    labels.add(truth, predicted)
    return labels.figures(seed)


class Table:
    """The pairs of true and predicted label that occur, and the scores of any numbers of them.

    Every method takes (r, k) how often each of the k pairs occurs in each of r sets of rows, and
    gives (r,) scores.
    """

    def __init__(self, truth: Ids, predicted: Ids) -> None:
        """truth, predicted: (k,) the labels of each pair, ordered by truth."""
        self.diagonal = truth == predicted
        self.labels = np.unique(np.concatenate([truth, predicted]))
        self.truth = np.searchsorted(self.labels, truth)
        self.predicted = np.searchsorted(self.labels, predicted)

    def macro_f1(self, pairs: Floats) -> Floats:
        """F1 = 2 · right / (true + predicted) of each label, and the plain mean over labels.

        A label counts where it is true or predicted at least once in the set.
        """
        truth, predicted, right = self._sums(pairs)
        either = truth + predicted
        found = either > 0
        each = np.divide(2 * right, either, out=np.zeros_like(right), where=found)
        return np.asarray(each.sum(axis=1) / found.sum(axis=1))

    def matthews(self, pairs: Floats) -> Floats:
        """The correlation of truth and prediction over many labels (Gorodkin 2004, equation 8).

        From -1 to 1; of two labels it is Matthews' own (1975). 0 where truth or prediction has
        one label only, as it is undefined there.
        """
        truth, predicted, right = self._sums(pairs)
        rows, correct = truth.sum(axis=1), right.sum(axis=1)
        both = correct * rows - (truth * predicted).sum(axis=1)
        spread = (rows**2 - (truth**2).sum(axis=1)) * (rows**2 - (predicted**2).sum(axis=1))
        root = np.sqrt(spread)
        found = np.divide(both, root, out=np.zeros_like(both), where=root > 0)
        return np.asarray(found.clip(-1.0, 1.0))

    def _sums(self, pairs: Floats) -> tuple[Floats, Floats, Floats]:
        """(r, labels) rows that are truly, predictedly and rightly of each label."""
        return (
            self._by(pairs, self.truth),
            self._by(pairs, self.predicted),
            self._by(pairs[:, self.diagonal], self.truth[self.diagonal]),
        )

    def _by(self, pairs: Floats, label: Ids) -> Floats:
        """Adds up the columns of one label each."""
        total = np.zeros((len(pairs), len(self.labels)))
        order = np.argsort(label, kind="stable")
        present, starts = np.unique(label[order], return_index=True)
        if len(present):
            total[:, present] = np.add.reduceat(pairs[:, order], starts, axis=1)
        return total
