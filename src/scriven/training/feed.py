"""Where training rows and validation batches come from: one object for each way to read a text."""

from collections.abc import Iterator
from typing import Protocol

import torch

from ..data.batch import Batch
from ..data.corpus import Corpus
from ..data.order import Order
from ..tasks.base import Objective


class Feed(Protocol):
    """What a run reads."""

    def batch(self, sample: int) -> Batch:
        """The training batch whose first row has this number."""
        ...

    def examine(self) -> Iterator[Batch]:
        """The whole validation part."""
        ...


class Windows:
    """Pieces of the text in random order, every one once per pass."""

    def __init__(
        self, corpus: Corpus, task: Objective, seed: int, rows: int, device: torch.device
    ) -> None:
        self.corpus, self.task, self.seed, self.rows, self.device = corpus, task, seed, rows, device
        self.order = Order(len(corpus.train), task.window, seed)

    def batch(self, sample: int) -> Batch:
        starts = self.order.starts(sample, self.rows)
        pieces = torch.from_numpy(self.corpus.train.windows(starts, self.order.length))
        return self.task.exercise(pieces.to(self.device), sample, self.seed)

    def examine(self) -> Iterator[Batch]:
        return self.task.examine(self.corpus.validation, self.device)


def feed_for(corpus: Corpus, task: Objective, seed: int, rows: int, device: torch.device) -> Feed:
    """The way that fits the model and the data."""
    return Windows(corpus, task, seed, rows, device)
