"""What a person asks to be gone on with, as token ids.

Knows no context: what does not fit is the task's to leave out.
"""

from collections.abc import Sequence

from ..errors import InputError
from ..tasks.base import BaseTask
from ..tokenizers.base import Tokenizer

Prompt = str | Sequence[int]
"""A text, or the token ids that the model is to read."""


def prompt_ids(task: BaseTask, tokenizer: Tokenizer, prompt: Prompt) -> list[int]:
    """A text as the model's task puts it; token ids as they are.

    Raises:
        InputError: neither a text nor ids of the vocabulary.
    """
    if isinstance(prompt, str):
        return task.encode_prompt(tokenizer, prompt)
    if not isinstance(prompt, list | tuple):
        raise InputError(f"a prompt must be text, not {type(prompt).__name__}")
    ids = list(prompt)
    for token in ids:
        if not isinstance(token, int) or not 0 <= token < tokenizer.vocab_size:
            raise InputError(
                f"a prompt of token ids holds {token!r}: ids go from 0 to "
                f"{tokenizer.vocab_size - 1}; or give a text"
            )
    return ids
