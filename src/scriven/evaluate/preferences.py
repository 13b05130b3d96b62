"""Scores of preferences beside their accuracy: the rewards that a model gives to both answers, and
what its reference model prefers.

After Rafailov et al. 2023 (section 4) the reward of an answer is beta times the logarithm of how
much likelier the model makes it than its reference model does: what training has changed. Both
rewards fall together where a model drifts from its reference, though its accuracy may be high.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..tasks.dpo import REFERENCE
from ..tasks.shared.columns import Row
from .bootstrap import Statistic, bootstrap, mean, proportion


def reward_statistics(pairs: Sequence[Sequence[float]]) -> dict[str, Statistic]:
    """`likelier` (how often the chosen answer is the likelier one), `reward_margin`,
    `chosen_reward` and `rejected_reward`.

    Args:
        pairs: of each row the rewards of the chosen and of the rejected answer, and their
            log-probabilities: (n, 4).
    """
    chosen, rejected, log_p_chosen, log_p_rejected = np.array(pairs, np.float64).T  # (n,) each
    return {
        "likelier": proportion(log_p_chosen > log_p_rejected),
        "reward_margin": mean(chosen - rejected),
        "chosen_reward": mean(chosen),
        "rejected_reward": mean(rejected),
    }


def reference_baseline(rows: Sequence[Row]) -> dict[str, Any]:
    """What the reference model itself prefers, as a baseline of `baseline_scores`; empty where its
    log-probabilities are not known."""
    if not all(REFERENCE in row for row in rows):
        return {}
    log_probs = np.array([row[REFERENCE] for row in rows], np.float64)  # (n, 2)
    (score,) = bootstrap({"accuracy": proportion(log_probs[:, 0] > log_probs[:, 1])})
    scores = {"accuracy": {"value": score.value, "low": score.low, "high": score.high}}
    return {"reference_model": {"note": "the likelier answer", "scores": scores}}
