"""Text to token ids and back: several kinds of tokenizer, all saved as tokenizer.json; no torch.

base             Tokenizer and StreamDecoder, on top of the library `tokenizers`
char byte ...    one kind each: its class and how its vocabulary is trained
vocabulary       which kind and size suit a text, training
special_tokens   tokens that are no text, and text made safe for a terminal
patterns         how text is split before merging, and where it may be cut
files            loading tokenizer.json and tokenizer_config.json
fast             byte-level BPE through gigatoken, where it is installed
chat_template    conversations as text and as ids
"""

from .base import StreamDecoder, Tokenizer, clean, tokenizer_class
from .files import load_tokenizer
from .special_tokens import EOS, PAD
from .vocabulary import choose_kind, train_tokenizer

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
