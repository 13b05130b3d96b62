"""Text to token ids and back: several kinds of tokenizer, all saved as tokenizer.json; no torch."""

from .base import (
    EOS,
    PAD,
    StreamDecoder,
    Tokenizer,
    choose_kind,
    clean,
    tokenizer_class,
    train_tokenizer,
)
from .files import load_tokenizer

__all__ = [
    "EOS",
    "PAD",
    "StreamDecoder",
    "Tokenizer",
    "choose_kind",
    "clean",
    "load_tokenizer",
    "tokenizer_class",
    "train_tokenizer",
]
