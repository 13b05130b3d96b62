"""From the texts a user names to shards of ids; `batch` and `order` beside it feed the training.

Importing this loads no torch.
"""

from .cache import cache_folder
from .corpus import Corpus, open_corpus, read_manifest
from .prepare import prepare
from .shards import Shard

__all__ = ["Corpus", "Shard", "cache_folder", "open_corpus", "prepare", "read_manifest"]
