"""From the texts a user names to files of token ids, and from these to batches.

Importing this loads no torch.
"""

from .pipeline import load_dataset
from .shards import TokenDataset, TokenFile, cache_folder, open_dataset

__all__ = ["TokenDataset", "TokenFile", "cache_folder", "load_dataset", "open_dataset"]
