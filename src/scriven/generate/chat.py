"""A conversation with a model: what was said so far, cut to what the model can read, and the answer
as it is written.

Knows how messages become ids (`text/chat.py`), and of the model only that it goes on with ids.
"""

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import DamagedError, InputError
from ..files import printable, read_file, write_file
from ..tokenizers import clean
from ..tokenizers.base import Tokenizer
from ..tokenizers.chat_template import Message, check_messages, render_ids
from .sequence import GenerationChunk

Write = Callable[..., Iterator[GenerationChunk]]
"""Goes on with ids: `Engine.stream`, `Model.stream`, or anything that is called as they are."""

LONGEST_FILE = 64 << 20

_CONTINUATION = bytes(range(0x80, 0xC0))  # bytes of UTF-8 that begin no character


class Conversation:
    """Asks, remembers, and can take back.

    What no longer fits is left out of what the model reads, never out of `messages`: the oldest
    exchanges go first, each as a whole; the system's message stays; a question that is too long
    even alone loses its beginning.
    """

    def __init__(
        self,
        write: Write,
        tokenizer: Tokenizer,
        context: int,
        *,
        system: str | None = None,
        room: int | None = None,
    ) -> None:
        """Nothing is read yet.

        Args:
            write: goes on with ids; the knobs of `ask` are handed on to it.
            tokenizer: with tokens for turns.
            context: the most tokens the model can see.
            system: what the model is told before everything else.
            room: tokens of the context that are kept for the answer; a quarter by default.

        Raises:
            InputError: the tokenizer knows no turns, or the system's message fills the context.
        """
        self.write, self.tokenizer = write, tokenizer
        self.limit = context - (context // 4 if room is None else room)
        """The most tokens of a prompt."""
        self.messages: list[Message] = []
        self.left_out = 0
        """Messages that the last prompt had no room for."""
        self.cut = 0
        """Tokens that the last question lost at its beginning."""
        self._asked = 0
        self.system = system

    @property
    def system(self) -> str | None:
        """What the model is told before everything else."""
        first = self.messages[:1]
        return first[0]["content"] if first and first[0]["role"] == "system" else None

    @system.setter
    def system(self, text: str | None) -> None:
        told = [] if text is None else [_message("system", text)]
        empty = [*told, _message("user", "")]
        needed = len(render_ids(self.tokenizer, empty, answer=True))
        if needed >= self.limit:
            raise InputError(
                f"the system's message leaves no room for a question: {needed} of the "
                f"{self.limit} tokens that fit beside an answer; shorten it"
            )
        self.messages = [*told, *self._exchanges]

    @property
    def _exchanges(self) -> list[Message]:
        """The messages of user and assistant."""
        return [each for each in self.messages if each["role"] != "system"]

    def ask(self, text: str, **knobs: Any) -> Generator[GenerationChunk]:
        """The answer, piece by piece; the last step has a `finish_reason`.

        An answer that is stopped (by closing the iterator, or by an error) is kept as far as it
        came; one without any text is as if it was never asked. Every call draws from a seed of its
        own, `seed` plus the number of calls before.

        Raises:
            InputError: a text that is none. SettingError: a knob out of its range.
        """
        return self._answer(self.messages, text, knobs)

    def regenerate(self, **knobs: Any) -> Generator[GenerationChunk]:
        """Another answer to the last question, in the place of the one there is.

        Raises:
            InputError: there is no question yet.
        """
        before, text = self._last()
        return self._answer(before, text, knobs)

    def undo(self) -> str:
        """Takes the last question and its answer back, and returns the question.

        Raises:
            InputError: there is none.
        """
        self.messages, text = self._last()
        return text

    def reset(self) -> None:
        """Forgets everything but the system's message."""
        self.messages = [each for each in self.messages if each["role"] == "system"]

    def save(self, path: Path) -> None:
        """Writes the messages as JSON, the whole file or none of it.

        Raises:
            InputError: it cannot be written. ResourceError: the disk is full.
        """
        if path.is_dir() or not path.parent.is_dir():
            raise InputError(
                f"{printable(path)} cannot be written: name a file in a folder there is"
            )
        text = json.dumps({"messages": self.messages}, indent=2, ensure_ascii=False)
        write_file(path, (text + "\n").encode())

    def load(self, path: Path) -> None:
        """Goes on with saved messages, the system's among them.

        Raises:
            InputError: no such file, or no conversation. DamagedError: the file is no JSON.
        """
        messages = read_messages(path)
        kept = self.messages
        self.messages = list(messages)
        try:
            self.system = self.system  # which must fit this model too
        except InputError:
            self.messages = kept
            raise

    def fit(self, messages: Sequence[Message]) -> list[int]:
        """The ids of as much of a conversation as can be read; `left_out` and `cut` count the rest.

        Args:
            messages: end with the user's.
        """
        told = [each for each in messages[:1] if each["role"] == "system"]
        rest = messages[len(told) :]
        # each message has its own ids, so lengths add up
        free = self.limit - len(self._ids(told))
        first = len(rest) - 1
        needed = self._length(rest[first])
        while first >= 2:
            more = self._length(rest[first - 1]) + self._length(rest[first - 2])
            if needed + more > free:
                break
            first, needed = first - 2, needed + more
        self.left_out, self.cut = first, 0
        if needed <= free:
            return self._ids([*told, *rest[first:]])
        return self._ids([*told, self._shortened(rest[first], free)])

    def _shortened(self, message: Message, free: int) -> Message:
        """The end of a message, of at most `free` tokens in all; `cut` counts the rest."""
        whole = self.tokenizer.encode(message["content"])
        kept = whole[-free:]
        short = _message(message["role"], self._tail(kept))
        while (over := self._length(short) - free) > 0:
            kept = kept[min(over, len(kept)) :]
            short = _message(message["role"], self._tail(kept))
        self.cut = len(whole) - len(kept)
        return short

    def _length(self, message: Message) -> int:
        return len(render_ids(self.tokenizer, [message]))

    def _ids(self, messages: Sequence[Message]) -> list[int]:
        return render_ids(self.tokenizer, messages, answer=True)

    def _tail(self, ids: list[int]) -> str:
        """The text of the last ids of a longer text, without a character that lost its head."""
        spelled = b"".join(self.tokenizer.spell(number) for number in ids)
        return spelled.lstrip(_CONTINUATION).decode("utf-8", "replace")

    def _last(self) -> tuple[list[Message], str]:
        """(the messages before the last question, its text)."""
        if not self._exchanges:
            raise InputError("nothing has been asked yet")
        return self.messages[:-2], self.messages[-2]["content"]

    def _answer(
        self, before: Sequence[Message], text: str, knobs: dict[str, Any]
    ) -> Generator[GenerationChunk]:
        """Asks at once, so that a wrong knob shows before anything is written."""
        if not isinstance(text, str):
            raise InputError(f"a message must be text, not {type(text).__name__}")
        asked = [*before, _message("user", text)]
        prompt = self.fit(asked)
        steps = self.write(prompt, **{**knobs, "seed": knobs.get("seed", 0) + self._asked})
        return self._follow(steps, asked)

    def _follow(
        self, steps: Iterator[GenerationChunk], asked: list[Message]
    ) -> Generator[GenerationChunk]:
        """The steps of an answer, which is remembered when they end."""
        self._asked += 1
        written, finished = [], False
        try:
            for step in steps:
                written.append(step.text)
                finished = step.finish_reason is not None
                yield step
        finally:
            answer = "".join(written)
            if finished or answer:
                self.messages = [*asked, _message("assistant", answer)]


def read_messages(path: Path) -> list[dict[str, str]]:
    """The messages of a saved conversation, checked.

    Raises:
        InputError: no such file, or no conversation. DamagedError: the file is no JSON.
    """
    where = printable(path)
    if not path.is_file():
        raise InputError(f"{where} is no file: name a conversation that /save has written")
    try:
        content = json.loads(read_file(path, LONGEST_FILE))
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{where} is not JSON: name a file that /save has written") from error
    if not isinstance(content, dict) or "messages" not in content:
        raise InputError(f'{where} is no conversation: it needs {{"messages": [...]}}')
    messages = content["messages"]
    if not isinstance(messages, list):
        return check_messages(messages, where)  # which says what is wrong
    last = messages[-1] if messages else None
    if isinstance(last, dict) and last.get("role") == "user":
        raise InputError(f"{where} ends with a question: add the answer or remove it")
    # so that one without any question passes too
    return check_messages([*messages, _message("user", "")], where)[:-1]


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": clean(content)}
