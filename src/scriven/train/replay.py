"""Old text mixed into the batches of a new one, against forgetting (Robins 1995, "Catastrophic
forgetting, rehearsal and pseudorehearsal"; Ibrahim et al. 2024, arXiv 2403.08763)."""

import numpy as np
import torch

from ..data.batch import Batch
from ..data.sampler import ShuffledSampler
from ..data.shards import TokenDataset
from .datasets import TextDataset


class ReplayDataset(TextDataset):
    """Windows of a text, of which every so many come from an older one.

    Args:
        fraction: share of the windows of the older text.
    """

    def __init__(self, corpus: TokenDataset, older: TokenDataset, fraction: float) -> None:
        super().__init__(corpus)
        self.older, self.fraction = older, fraction

    def batch(self, sample: int) -> Batch:
        first, count = sample + self.rows.start, self.rows.stop - self.rows.start
        # sample n is an older one if the whole number below n times the fraction grows with it, so
        # that which window it reads is a function of n alone
        older = np.floor(np.arange(first, first + count + 1) * self.fraction).astype(np.int64)
        length = self.task.window
        newer_sampler, older_sampler = (
            ShuffledSampler(len(text.train), length, self.seed)
            for text in (self.corpus, self.older)
        )
        rows = np.empty((count, length), dtype=np.int64)
        for row in range(count):
            if older[row + 1] > older[row]:
                starts = older_sampler.starts(int(older[row]), 1)
                rows[row] = self.older.train.read_windows(starts, length)[0]
            else:
                starts = newer_sampler.starts(first + row - int(older[row]), 1)
                rows[row] = self.corpus.train.read_windows(starts, length)[0]
        windows = torch.from_numpy(rows)  # (B, T + 1)
        return self.task.training_batch(windows.to(self.device), first, self.seed)
