"""Text to numbers and back: tokenizers of four kinds, all saved as one tokenizer.json; no torch."""

from .base import Tokenizer
from .choose import choose_kind, train_tokenizer
from .files import load_tokenizer, save_tokenizer
from .special_tokens import EOS, PAD, clean
from .stream import StreamDecoder

__all__ = [
    "EOS",
    "PAD",
    "StreamDecoder",
    "Tokenizer",
    "choose_kind",
    "clean",
    "load_tokenizer",
    "save_tokenizer",
    "train_tokenizer",
]
