"""Averages over the updates of the last seconds, for the progress line."""

from .train_step import StepMetrics


class Window:
    """Averages over the updates since a moment."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.updates = self.tokens = self.counted = 0
        self.losses = self.accuracies = 0.0

    def add(self, update: StepMetrics) -> None:
        """One update; a bad one counts as time but never hides in the mean."""
        self.updates += 1
        self.tokens += update.read
        if update.applied:
            self.counted += 1
            self.losses += update.loss
            self.accuracies += update.accuracy

    @property
    def loss(self) -> float | None:
        """Mean loss of the updates that were applied."""
        return self.losses / self.counted if self.counted else None

    @property
    def accuracy(self) -> float | None:
        """Mean accuracy of the updates that were applied."""
        return self.accuracies / self.counted if self.counted else None

    def rate(self, now: float) -> float:
        """Tokens per second of training."""
        return self.tokens / max(1e-9, now - self.began)
