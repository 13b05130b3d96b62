"""Where training rows and validation batches come from: one object for each way to read a text."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import torch

from ..data.batch import Batch
from ..data.corpus import Corpus
from ..data.order import Order
from ..data.pairs import Pairs as PairRows
from ..data.pairs import drawn
from ..data.stream import Stream
from ..tasks.base import Objective
from ..tasks.pairs import Pairs


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


class Streams(Windows):
    """The text in its own order, for a model that remembers."""

    def __init__(
        self, corpus: Corpus, task: Objective, seed: int, rows: int, device: torch.device
    ) -> None:
        super().__init__(corpus, task, seed, rows, device)
        self.stream = Stream(len(corpus.train), task.window, rows, seed)

    def batch(self, sample: int) -> Batch:
        starts, fresh = self.stream.starts(sample)
        pieces = torch.from_numpy(self.corpus.train.windows(starts, self.stream.length))
        made = self.task.exercise(pieces.to(self.device), sample, self.seed)
        return replace(made, fresh=fresh)


class Paired(Windows):
    """Pairs of a source and a target in random order, every one once per pass."""

    def __init__(
        self, corpus: Corpus, task: Pairs, seed: int, rows: int, device: torch.device
    ) -> None:
        self.corpus, self.task, self.seed, self.rows, self.device = corpus, task, seed, rows, device
        self.pairs, self.make = PairRows(corpus.train, corpus.tokenizer.eos), task.batch

    def batch(self, sample: int) -> Batch:
        numbers = drawn(sample, self.rows, len(self.pairs), self.seed)
        return self.make(*self.pairs.read(numbers), self.device)


def feed_for(corpus: Corpus, task: Objective, seed: int, rows: int, device: torch.device) -> Feed:
    """The way that fits the model and the data."""
    if isinstance(task, Pairs):
        return Paired(corpus, task, seed, rows, device)
    kind = Streams if task.backbone.remembers else Windows
    return kind(corpus, task, seed, rows, device)
