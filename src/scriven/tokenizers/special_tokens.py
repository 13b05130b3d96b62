"""The special tokens of our tokenizers, and text made safe for a terminal. Loads no library."""

import re

EOS = "<|endoftext|>"
PAD = "<|pad|>"
MASK = "<mask>"
"""Stands for hidden text; only tokenizers of models that fill gaps have it."""


SPECIAL_TOKENS = {
    "mask": MASK,
    "start": "<|start|>",
    "delimiter": "<|delimiter|>",
    "extract": "<|extract|>",
    "turn": "<|im_start|>",
    "end": "<|im_end|>",
}
"""Special tokens that a task may need, by what they are for: hidden text; the beginning, the border
between two parts and the end of a labelled input (GPT-1 paper, section 3.3); the beginning and the
end of a turn in a dialogue (ChatML)."""


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def replace_control_characters(text: str) -> str:
    """Text as a terminal may show it: control characters but tab and line feed become U+FFFD.

    An untrained model writes any bytes at all, and some of them would rule the terminal.
    """
    return _CONTROL.sub("\ufffd", text)
