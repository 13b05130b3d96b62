"""TensorBoard: curves in the folder `tensorboard` of the run, for `tensorboard --logdir runs`."""

from typing import Any

from ...errors import MissingExtra
from ...evaluate.loss import Score
from ..train_state import Run, TrainState
from .base import BaseTracker, StepReport

# imported with this file, which is only imported by name: other runs need no tensorboard
try:
    from torch.utils.tensorboard.writer import SummaryWriter
except ImportError as error:
    raise MissingExtra("tensorboard", "tensorboard", "--train.trackers tensorboard") from error


class Tracker(BaseTracker):
    """Scalars by training step, and the generated samples as texts."""

    def on_start(self, run: Run) -> None:
        self.writer: Any = SummaryWriter(str(run.folder / "tensorboard"))

    def on_step(self, state: TrainState, report: StepReport) -> None:
        values = {
            "train/loss": report.train_loss,
            "train/accuracy": report.train_accuracy,
            "train/lr": report.lr,
            "train/grad_norm": report.grad_norm,
            "train/tokens_per_second": report.tokens_per_second,
        }
        self._add(state.step, values)

    def on_eval(self, state: TrainState, score: Score, is_best: bool) -> None:
        values: dict[str, float | None] = {
            "val/loss": score.loss,
            "val/accuracy": score.accuracy,
            "val/bits_per_byte": score.bits_per_byte,
            **{f"val/{name}": value for name, value in score.metrics.items()},
        }
        self._add(state.step, values)

    def on_sample(self, state: TrainState, text: str) -> None:
        self.writer.add_text("sample", text, state.step)

    def close(self) -> None:
        if hasattr(self, "writer"):
            self.writer.close()

    def _add(self, step: int, values: dict[str, float | None]) -> None:
        for name, value in values.items():
            if value is not None:
                self.writer.add_scalar(name, value, step)
