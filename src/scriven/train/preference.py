"""Training on preferences (`tasks/dpo.py`): its defaults, and the reference model, which is the
model before the first step.

The log-probabilities of the reference model are computed once and kept beside the checkpoints, so
that a second copy of the model is never in memory and a run that resumes needs no base model.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..data.batch import Batch
from ..errors import DamagedError, InputError
from ..files import make_folder
from ..runs import checkpoint
from ..runs.weights import load_tensors, save_tensors
from ..runtime import preserve_rng_state
from ..settings import OptimSettings, Settings
from ..tasks.dpo import REFERENCE, Dpo
from ..tasks.shared.columns import Row
from ..tasks.shared.supervised import Example, length_bucketed_batches
from .optim.adamw import scaled_to_width
from .schedule import Budget
from .table_dataset import TableDataset
from .train_state import TrainState
from .trainer import Trainer

FILE = "reference.safetensors"
"""In the folder of the checkpoints: float32 (N, 2), chosen and rejected, for each part."""

BUDGET = Budget("epochs", 3)
FULL_LR, LORA_LR = 5e-5, 5e-4
"""Learning rates at a width of 128, a twentieth of those of other fine-tunings, as the loss pulls a
model away from what it has learnt."""


def preference_defaults(d_model: int, weights: str) -> Settings:
    """Where training on preferences begins; `weights` as in FinetuneSettings."""
    lr = scaled_to_width(LORA_LR if weights == "lora" else FULL_LR, d_model)
    optim = OptimSettings(
        optimizer="adamw", lr=lr, lr_schedule="linear", warmup_fraction=0.1, weight_decay=0.0
    )
    return Settings(optim=optim)


class PreferenceTrainer(Trainer):
    """As `Trainer`, after the reference model has read all pairs."""

    def restore_or_init(self) -> TrainState:
        """Sets the log-probabilities of the reference model, before weights are restored."""
        assert isinstance(self.dataset, TableDataset)
        dataset, path = self.dataset, self.run.folder / checkpoint.FOLDER / FILE
        found = self._read(
            path, {"train": len(dataset.train), "validation": len(dataset.validation)}
        )
        if found is None:
            self.trackers.on_message("the model reads all pairs once, as the reference")
            found = {
                "train": self.log_probs(dataset.train),
                "validation": self.log_probs(dataset.validation),
            }
            make_folder(path.parent)
            save_tensors(path, found)
        dataset.train = with_labels(dataset.train, found["train"])
        dataset.validation = with_labels(dataset.validation, found["validation"])
        dataset.validation_rows = with_reference(dataset.validation_rows, found["validation"])
        return super().restore_or_init()

    def log_probs(self, examples: Sequence[Example]) -> torch.Tensor:
        """(N, 2) float32 log-probabilities of the answers of pairs, under the present weights."""
        task = self.task
        assert isinstance(task, Dpo)
        found = torch.empty(len(examples), 2)
        training = task.training
        task.eval()
        with preserve_rng_state(self.device), torch.inference_mode(), self.run.runtime.autocast():
            for numbers in length_bucketed_batches(examples):
                batch: Batch = task.collate([examples[each] for each in numbers], self.device)
                found[numbers] = task.answer_log_probs(batch).float().cpu()
        task.train(training)
        return found

    def _read(self, path: Path, sizes: dict[str, int]) -> dict[str, torch.Tensor] | None:
        """What an earlier process has computed; None where the reference model is still here.

        Args:
            sizes: pairs of each part.

        Raises:
            InputError: neither is there.
        """
        try:
            found = load_tensors(path)
            if {name: len(each) for name, each in found.items()} == sizes:
                return found
        except (InputError, DamagedError):
            pass
        is_fresh = self.run.metadata["finetune"]["base"]["fresh"]
        if self.run.components.base_weights is None and not is_fresh:
            raise InputError(
                f"{path} is missing or damaged, and the model that {self.run.folder} was trained "
                "from is not at hand to compute it again: put one of them back"
            )
        return None


def with_labels(examples: Sequence[Example], log_probs: torch.Tensor) -> list[Example]:
    """Pairs with their (N, 2) log-probabilities under the reference model."""
    pairs = zip(examples, log_probs.tolist(), strict=True)
    return [replace(example, label=tuple(pair)) for example, pair in pairs]


def with_reference(rows: Sequence[Row], log_probs: torch.Tensor) -> list[Row]:
    """As `with_labels`, of the rows of a table."""
    pairs = zip(rows, log_probs.tolist(), strict=True)
    return [{**row, REFERENCE: pair} for row, pair in pairs]
