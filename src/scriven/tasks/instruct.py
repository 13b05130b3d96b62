"""Instructions and open questions with one answer each: a conversation of two messages.

An `input` stands below its instruction, a `context` above its question; of a prompt that is too
long the end stays, with the question.
"""

from typing import Any, ClassVar

from ..tokenizers.chat_template import from_prompt
from .chat import Chat
from .shared.columns import Column, Row, text


class Instruct(Chat):
    """prompt -> completion."""

    COLUMNS: ClassVar = {
        "prompt": Column(("prompt", "instruction", "question"), text),
        "completion": Column(("completion", "response", "output", "answer"), text, answer=True),
        "input": Column(("input",), text, joins="prompt"),
        "context": Column(("context", "passage"), text, joins="prompt", before=True),
    }
    # scored as texts, though it is learned as a turn of a conversation
    ANSWER_TYPE = "texts"
    ANSWER_COLUMN = "completion"

    @classmethod
    def check_answer(cls, row: Row) -> None:
        """Every completion is an answer."""

    @classmethod
    def without_answer(cls, row: Row) -> Row:
        """The prompt alone."""
        return {"prompt": row["prompt"]}

    @classmethod
    def gold_answer(cls, row: Row) -> str:
        """The completion."""
        return str(row["completion"])

    @classmethod
    def format_row(cls, row: Row) -> str:
        """The prompt."""
        return str(row["prompt"])

    def conversation(self, row: Row) -> list[dict[str, Any]]:
        """The prompt as the user's message, the completion as the assistant's."""
        if "completion" not in row:
            return [{"role": "user", "content": row["prompt"]}]
        return from_prompt(row["prompt"], row["completion"])


Task = Instruct
