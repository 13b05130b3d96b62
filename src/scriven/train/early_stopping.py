"""Early stopping: a run ends when its validation score improves no more (Prechelt 1998).

A schedule that is still flat (wsd) first lets its learning rate fall, which helps most.
"""

from ..evaluate.loss import Score
from ..settings import Settings
from .schedule import TrainingHorizon, flat_until
from .train_state import TrainState


def stop_early(
    state: TrainState, score: Score, horizon: TrainingHorizon, now: float, settings: Settings
) -> str | None:
    """Decides after an evaluation whether the run has converged, and sets `state.converged`; or
    brings the decay of its learning rate forward.

    Args:
        state: of the run, changed in place.
        score: of the evaluation that has just been made.
        horizon: the end of the run, which may be brought forward.
        now: seconds of the run.

    Returns:
        A sentence for the log, if anything was decided.
    """
    patience, flat = settings.train.patience, flat_until(settings.optim)
    if not patience or state.evals_without_improvement < patience:
        return None
    text = (
        f"no better validation {'accuracy' if score.by_accuracy else 'loss'} in {patience} "
        "evaluations: "
    )
    if flat is None:
        state.converged = True
        return text + "stopping"
    if horizon.progress(state.step, now) >= flat:
        return None
    horizon.start_early_decay(state.step, now, flat)
    state.early_end, state.evals_without_improvement = horizon.early_end, 0
    return text + "the learning rate falls from here, and the run ends early"
