"""Conversations as text and as ids, in ChatML: `<|im_start|>role`, a line end, the content,
`<|im_end|>` and a line end for each message. An imported model keeps the template that it came
with (`jinja_template.py`).

Only the template writes the tokens that begin and end a turn; content that spells one of them is
plain text. Knows no model and no files.
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import InputError
from . import jinja_template
from .base import SPECIAL_TOKENS, Tokenizer

Message = Mapping[str, Any]
"""One turn: `role` and `content`; `learn` is False where an answer is to be read, not learned."""

ROLES = ("system", "user", "assistant")
TASKS = ("chat", "instruct", "dpo")
"""Tasks whose models have learnt to answer such conversations."""
LEARN_FIELDS = (
    "weight", "loss", "loss_weight", "loss_mask", "train", "training", "trainable", "learn",
)  # fmt: skip
"""Fields that say whether an answer is to be learned."""
NEEDS = ("turn", "end")
"""Special tokens that a tokenizer needs for them, as named in `Tokenizer.special_token_ids`."""

_TURN, _END = SPECIAL_TOKENS["turn"], SPECIAL_TOKENS["end"]

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '" + _TURN + "' + message['role'] + '\\n' + message['content'] + '" + _END + "' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '" + _TURN + "assistant\\n' }}{% endif %}"
)
"""The format as a Jinja template, which other programs read from the folder of a model. They take
content that spells a special token for that token; `render_ids` does not."""
TEMPLATE_FILE = "chat_template.jinja"
"""Where they look for it, beside tokenizer_config.json."""


def template_of(tokenizer: Tokenizer, task: object) -> str | None:
    """The Jinja template of a model's conversations: its own where it was imported with one, ours
    where it was trained for a task that has conversations; None where it has learnt none."""
    return tokenizer.chat_template or (TEMPLATE if task in TASKS else None)


class Rendered(NamedTuple):
    """A conversation as a model learns it."""

    ids: list[int]
    answers: list[bool]
    """Which of the ids are learned: the assistant's contents, and the `<|im_end|>` after each."""


def check_messages(
    value: object, where: str = "the conversation", *, learn: bool = False
) -> list[dict[str, Any]]:
    """The messages of a conversation: perhaps one of the system, then user and assistant in turn.

    Args:
        value: what a file or a caller gives.
        where: what an error calls it, such as `talks.jsonl, row 3`.
        learn: whether there must be an answer to learn from.

    Raises:
        InputError: it is no conversation; the text names the message and the remedy.
    """
    # 1. a list; a text is a sequence too, of characters
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise InputError(
            f"{where}: messages must be a list of objects with role and content, not "
            f"{type(value).__name__}"
        )
    # 2. each message by itself
    messages = [_check_message(each, f"{where}, message {i}") for i, each in enumerate(value, 1)]
    if not messages:
        raise InputError(f"{where}: there are no messages: give at least one of the user")
    # 3. their order: an optional system message, then strictly alternating turns
    spoken = messages[1:] if messages[0]["role"] == "system" else messages
    first = 1 + len(messages) - len(spoken)
    for number, message in enumerate(spoken):
        expected = ("user", "assistant")[number % 2]
        if message["role"] != expected:
            raise InputError(
                f"{where}, message {first + number} is of the {message['role']} where one of the "
                f"{expected} belongs: after an optional first one of the system, user and "
                "assistant take turns, and the user begins"
            )
    if not spoken:
        raise InputError(f"{where}: there is a system message only: add one of the user")
    if learn and len(spoken) < 2:
        raise InputError(f"{where}: no message of the assistant to learn from: add the answer")
    return messages


def _check_message(value: object, where: str) -> dict[str, Any]:
    """Role and content of one message, and whether it is to be learned; other fields are left
    out."""
    if not isinstance(value, Mapping):
        raise InputError(
            f"{where}: an object with role and content is needed, not {type(value).__name__}"
        )
    for field in ("role", "content"):
        if field not in value:
            names = ", ".join(str(name)[:40] for name in list(value)[:10]) or "nothing"
            raise InputError(
                f"{where} has no {field}: name the fields role and content, not {names}"
            )
    role, content = value["role"], value["content"]
    if role not in ROLES:
        raise InputError(f"{where}: the role {str(role)[:40]!r} is none of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise InputError(f"{where}: the content must be text, not {type(content).__name__}")
    learn = is_learned(value, where, LEARN_FIELDS)
    return {"role": role, "content": content, **({} if learn else {"learn": False})}


def is_learned(fields: Mapping[str, Any], where: str, names: Collection[str]) -> bool:
    """Whether a message or a row is to be learned, as those of its fields say.

    Raises:
        InputError: a value other than 0, 1, true or false, as no loss is weighted.
    """
    values = {name: str(fields[name]).strip().lower() for name in names if name in fields}
    for name, value in values.items():
        if value not in ("0", "0.0", "false", "1", "1.0", "true", "none", ""):
            raise InputError(
                f"{where}: {name} is {value[:40]}, and answers are learned or not: give 1 or 0"
            )
    return not {"0", "0.0", "false"} & set(values.values())


def from_prompt(
    prompt: object, completion: object, where: str = "the row", system: str | None = None
) -> list[dict[str, str]]:
    """A question and its answer as messages.

    Raises:
        InputError: one of them is not text.
    """
    for name, value in (("prompt", prompt), ("completion", completion)):
        if not isinstance(value, str):
            raise InputError(f"{where}: the {name} must be text, not {type(value).__name__}")
    messages = [("user", prompt), ("assistant", completion)]
    if system is not None:
        messages.insert(0, ("system", system))
    return [{"role": role, "content": str(content)} for role, content in messages]


def render_text(
    messages: Sequence[Message], *, answer: bool = False, template: str = TEMPLATE
) -> str:
    """The conversation as a template renders it; with `answer` up to where the answer begins."""
    return jinja_template.render_jinja_text(template, messages, answer=answer)


def render_ids(
    tokenizer: Tokenizer, messages: Sequence[Message], *, answer: bool = False
) -> list[int]:
    """The ids of a conversation; with `answer` up to where the answer begins.

    The ids are those of `render_text` wherever no content spells a special token.

    Raises:
        InputError: the tokenizer has no tokens for turns.
    """
    if tokenizer.chat_template is not None:
        return jinja_template.render_jinja_ids(tokenizer, messages, answer=answer)
    ids = render_conversation(tokenizer, messages).ids
    if answer:
        ids += [tokenizer.special_token_ids["turn"], *tokenizer.encode("assistant\n")]
    return ids


def render_conversation(tokenizer: Tokenizer, messages: Sequence[Message]) -> Rendered:
    """The ids of a conversation, and which of them a model should learn to write.

    Other programs cut text at special tokens only, so role, line end and content are encoded as
    one piece here too. Where a merge joins the line end with the beginning of an answer, that token
    is not learnt: a prompt ends with the line end, so the model never has to write it.

    Raises:
        InputError: the tokenizer has no tokens for turns.
    """
    if tokenizer.chat_template is not None:
        return Rendered(*jinja_template.render_jinja_conversation(tokenizer, messages))
    special = tokenizer.special_token_ids
    if any(name not in special for name in NEEDS):
        raise InputError(
            f"the tokenizer has no tokens {_TURN} and {_END}: only a model fine-tuned for chat has"
        )
    # encoded once; the same ids after every turn
    line_end = tokenizer.encode("\n")
    ids: list[int] = []
    answers: list[bool] = []
    for message in messages:
        heading = message["role"] + "\n"
        turn = tokenizer.encode(heading + message["content"])
        is_answer = message["role"] == "assistant" and message.get("learn", True)
        # an id is learnt where its first byte belongs to the content
        lengths = itertools.accumulate((len(tokenizer.spell(id)) for id in turn), initial=0)
        content = [
            is_answer and start >= len(heading) for start, _ in zip(lengths, turn, strict=False)
        ]
        # <|im_start|>  role, line end, content  <|im_end|>  line end
        ids += [special["turn"], *turn, special["end"], *line_end]
        answers += [False, *content, is_answer, *[False] * len(line_end)]
    return Rendered(ids, answers)
