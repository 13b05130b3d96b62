"""The difference between two models on the same rows.

Two intervals that overlap prove nothing: hard rows are hard for both. So the rows are paired, and
what is resampled is each row's difference (Koehn 2004, Statistical Significance Tests, section 4).
"""

import numpy as np
import numpy.typing as npt

from ..bootstrap import SEED, check_rows, mean
from ..score_with_ci import ScoreWithCI


def difference(
    a_correct: npt.ArrayLike,
    b_correct: npt.ArrayLike,
    *,
    name: str = "difference",
    seed: int = SEED,
) -> ScoreWithCI:
    """How much better a is than b, with its interval: sure where 0 is outside.

    Args:
        a_correct, b_correct: (n,) whether each row was right, or any score per row; both of the
            same rows in the same order.

    Raises:
        InputError: there are no rows.
    """
    a, b = np.asarray(a_correct, np.float64), np.asarray(b_correct, np.float64)
    assert a.shape == b.shape and a.ndim == 1, (a.shape, b.shape)
    check_rows(len(a))
    return mean(name, a - b, seed=seed)
