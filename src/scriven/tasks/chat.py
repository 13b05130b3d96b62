"""Dialogue: learn the assistant's turns of conversations in ChatML.

A conversation that is too long for the context loses its oldest exchanges, then the beginning of
its last question, then the end of its answer. An encoder-decoder reads the conversation as its
source and learns the last answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from ..data.batch import IGNORE_INDEX
from ..errors import InputError
from ..tokenizers.base import Tokenizer
from ..tokenizers.chat_template import (
    Message,
    Rendered,
    check_messages,
    is_learned,
    render_conversation,
    render_ids,
)
from .shared.columns import BadValue, Column, NothingToLearn, Row, parse_json_list
from .shared.supervised import Example, Ids
from .shared.text_generation import TextGeneration

ROLE_ALIASES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
"""Roles by other names, in logs with `from` and `value` for `role` and `content`."""


def read_messages(value: Any) -> list[dict[str, Any]]:
    """Checked messages, up to the last answer that is to be learned, if there is any."""
    value = parse_json_list(value)
    if isinstance(value, list):
        value = [_message(each) for each in value]
    try:
        messages = check_messages(value, "messages")
    except InputError as error:
        raise BadValue(str(error).removeprefix("messages").lstrip(":, ")) from None
    answers = [i for i, each in enumerate(messages) if each["role"] == "assistant"]
    learned = [i for i in answers if messages[i].get("learn", True)]
    return messages[: learned[-1] + 1] if learned and answers[-1] > learned[-1] else messages


def _message(value: Any) -> Any:
    """A message with the fields `role` and `content`, where it has `from` and `value`."""
    if not isinstance(value, dict) or not isinstance(value.get("from"), str):
        return value
    role = ROLE_ALIASES.get(value["from"], value["from"])
    rest = {name: field for name, field in value.items() if name not in ("from", "value")}
    return {**rest, "role": role, **({"content": value["value"]} if "value" in value else {})}


class Chat(TextGeneration):
    """messages -> the assistant's answers."""

    EXTRA_TOKENS = ("turn", "end")
    COLUMNS: ClassVar = {
        "messages": Column(("messages", "conversation", "conversations"), read_messages)
    }
    ANSWER_TYPE = "turns"
    ANSWER_COLUMN = "messages"

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """The end of a turn, and of everything."""
        return frozenset({self.special["end"], self.special["eos"]})

    def encode_prompt(self, tokenizer: Tokenizer, text: str) -> Ids:
        """A text as the user's only message."""
        return render_ids(tokenizer, [{"role": "user", "content": text}], answer=True)

    def truncate_prompt(self, prompt: Ids) -> Ids:
        """As much of a conversation as fits: its end."""
        return prompt[-self.max_question :]

    @classmethod
    def check_fields(cls, fields: Row) -> None:
        """Honours a weight of the whole row."""
        try:
            if not is_learned(fields, "the row", ("weight", "train")):
                raise NothingToLearn("their weight is 0")
        except InputError as error:
            raise BadValue(f"cannot be used: {error}") from None

    @classmethod
    def check_answer(cls, row: Row) -> None:
        """There must be an answer at the end: it is what is learned and evaluated."""
        if row["messages"][-1]["role"] != "assistant":
            raise BadValue("has no answer of the assistant at its end to learn from")
        if not row["messages"][-1].get("learn", True):
            raise NothingToLearn("no answer has a weight above 0")

    @classmethod
    def without_answer(cls, row: Row) -> Row:
        """A conversation up to where its last answer begins."""
        messages = row["messages"]
        return {"messages": messages[:-1] if messages[-1]["role"] == "assistant" else messages}

    @classmethod
    def gold_answer(cls, row: Row) -> Any:
        """The last answer."""
        return str(row["messages"][-1]["content"])

    @classmethod
    def format_row(cls, row: Row) -> str:
        """The conversation before the last answer."""
        before = cls.without_answer(row)["messages"]
        return "\n".join(f"{each['role']}: {each['content']}" for each in before)

    def conversation(self, row: Row) -> list[dict[str, Any]]:
        """The messages of a row."""
        messages: list[dict[str, Any]] = row["messages"]
        return messages

    def encode(self, tokenizer: Tokenizer, row: Row) -> Example:
        """All answers of a conversation, or as many of its last exchanges as fit; without an
        answer at its end, the conversation up to where it begins."""
        messages: list[Message] = list(self.conversation(row))
        is_answered = messages[-1]["role"] == "assistant"
        # 1. a decoder learns all answers of a conversation that fits
        if self.backbone.kind == "decoder" and is_answered:
            rendered, cut = drop_oldest_until_fit(
                messages, self.max_length, lambda part: render_conversation(tokenizer, part)
            )
            if len(rendered.ids) <= self.max_length:
                pairs = zip(rendered.ids[1:], rendered.answers[1:], strict=True)
                targets = [token if is_answer else IGNORE_INDEX for token, is_answer in pairs]
                # position i predicts token i + 1, and only tokens of answers count
                return Example((rendered.ids,), ([*targets, IGNORE_INDEX],), cut=cut)
        # 2. otherwise the last answer alone, after as much of the conversation as fits
        answer = None
        # the end-of-turn token is a part of the answer: the model learns when to stop
        if is_answered:
            answer = [*tokenizer.encode(messages[-1]["content"]), self.special["end"]]
            messages = messages[:-1]
        prompt, cut = drop_oldest_until_fit(
            messages,
            self.max_question,
            lambda part: Rendered(render_ids(tokenizer, part, answer=True), []),
        )
        example = self.build_example(prompt.ids, answer)
        return replace(example, cut=example.cut + cut)


def drop_oldest_until_fit(
    messages: Sequence[Message], room: int, render: Callable[[Sequence[Message]], Rendered]
) -> tuple[Rendered, int]:
    """A conversation without as many of its oldest exchanges as needed for at most `room` tokens,
    and how many tokens were cut; the last exchange stays, whatever its length."""
    # the turns' own tokens count as well, so a part is rendered anew to know its length
    rendered = render(messages)
    whole = len(rendered.ids)
    first = 1 if messages[0]["role"] == "system" else 0
    while len(rendered.ids) > room and len(messages) - first > 2:
        messages = [*messages[:first], *messages[first + 2 :]]
        rendered = render(messages)
    return rendered, whole - len(rendered.ids)


Task = Chat
