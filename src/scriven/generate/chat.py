"""A conversation with a model: its messages, truncated to the context, and streamed answers.

Knows how messages become token ids (`tokenizers/chat_template.py`), and of the model only that it
continues token ids. `read_context` and `takes_spans` are for questions about a text (`--context`):
a model for `answer` takes the answer out of it, any other reads the text above the question.
"""

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..data.formats.base import read_documents
from ..errors import DamagedError, InputError
from ..files import printable, write_file
from ..manifest import read_file
from ..settings import DataSettings
from ..tasks.answer import Answer
from ..tokenizers import clean
from ..tokenizers.base import Tokenizer
from ..tokenizers.chat_template import Message, check_messages, render_ids
from .sequence import GenerationChunk

Stream = Callable[..., Iterator[GenerationChunk]]
"""Continues token ids: `Engine.stream`, `Model.stream`, or anything that is called as they are."""

MAX_FILE_BYTES = 64 << 20

_CONTINUATION_BYTES = bytes(range(0x80, 0xC0))  # bytes of UTF-8 that begin no character


class Conversation:
    """A chat history, and how much of it the model reads.

    What no longer fits is left out of the prompt, never out of `messages`: the oldest exchanges go
    first, each as a whole; the system message stays; a question that is too long even alone loses
    its beginning.
    """

    def __init__(
        self,
        stream: Stream,
        tokenizer: Tokenizer,
        context: int,
        *,
        system: str | None = None,
        room: int | None = None,
    ) -> None:
        """An empty conversation.

        Args:
            stream: continues token ids; the sampling arguments of `ask` are passed on to it.
            context: the most tokens the model can read.
            room: tokens of the context that are kept for the answer; a quarter by default.

        Raises:
            InputError: the tokenizer has no chat template, or the system message fills the context.
        """
        self.stream, self.tokenizer = stream, tokenizer
        # the most tokens of a prompt
        self.limit = context - (context // 4 if room is None else room)
        self.messages: list[Message] = []
        # of the last prompt: messages left out, and tokens cut off the beginning of the question
        self.left_out = self.cut = self._num_answers = 0
        self.system = system

    @property
    def system(self) -> str | None:
        """The system message."""
        first = self.messages[:1]
        return first[0]["content"] if first and first[0]["role"] == "system" else None

    @system.setter
    def system(self, text: str | None) -> None:
        system = [] if text is None else [_message("system", text)]
        shortest = [*system, _message("user", "")]
        needed = len(render_ids(self.tokenizer, shortest, answer=True))
        if needed >= self.limit:
            raise InputError(
                f"the system message leaves no room for a question: {needed} of the "
                f"{self.limit} tokens that fit beside an answer; shorten it"
            )
        self.messages = [*system, *self._exchanges]

    @property
    def _exchanges(self) -> list[Message]:
        """The messages of user and assistant."""
        return [each for each in self.messages if each["role"] != "system"]

    def ask(self, text: str, **sampling: Any) -> Generator[GenerationChunk]:
        """The answer, piece by piece; the last chunk has a `finish_reason`.

        An answer that is stopped (by closing the iterator, or by an error) is kept as far as it
        came; without any text the question is forgotten. Every call has a seed of its own, `seed`
        plus the number of calls before.

        Raises:
            InputError: `text` is no string. SettingError: a setting out of its range.
        """
        return self._answer(self.messages, text, sampling)

    def regenerate(self, **sampling: Any) -> Generator[GenerationChunk]:
        """Another answer to the last question, which replaces the first. Raises InputError without
        a question."""
        before, text = self._last()
        return self._answer(before, text, sampling)

    def undo(self) -> str:
        """Removes the last question and its answer, and returns the question. Raises InputError
        where there is none."""
        self.messages, text = self._last()
        return text

    def reset(self) -> None:
        """Removes all messages but the system message."""
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
        """Continues with saved messages, the system message included.

        Raises:
            InputError: no such file, or no conversation. DamagedError: the file is no JSON.
        """
        before, self.messages = self.messages, list(load_messages(path))
        try:
            self.system = self.system  # its setter refuses one that leaves no room in this model
        except InputError:
            self.messages = before
            raise

    def fit(self, messages: Sequence[Message]) -> list[int]:
        """The token ids of as much of a conversation as fits; `left_out` and `cut` count the rest.

        Args:
            messages: the last one is the user's.
        """
        system = [each for each in messages[:1] if each["role"] == "system"]
        rest = messages[len(system) :]

        def render(first: int) -> list[int]:
            return render_ids(self.tokenizer, [*system, *rest[first:]], answer=True)

        # 1. all of it, or the newest exchanges that fit; a template may write the same message
        # otherwise in another place, so each attempt is rendered as a whole
        low, high = 0, (len(rest) - 1) // 2  # exchanges that are left out
        ids = render(0)
        while low < high and (len(ids) > self.limit or low):
            middle = (low + high) // 2
            if len(render(2 * middle)) <= self.limit:
                high = middle
            else:
                low = middle + 1
        if len(ids) > self.limit:
            ids = render(2 * low)
        self.left_out, self.cut = 2 * low, 0
        # 2. not even the last question fits: its end is read
        return ids if len(ids) <= self.limit else self._truncate(system, rest[-1])

    def _truncate(self, system: Sequence[Message], message: Message) -> list[int]:
        """The ids of a prompt with the end of its question; `cut` counts the rest."""
        whole = tail = self.tokenizer.encode(message["content"])
        excess = len(whole)
        while excess > 0:
            short = _message(message["role"], self._decode_tail(tail))
            ids = render_ids(self.tokenizer, [*system, short], answer=True)
            excess = len(ids) - self.limit
            if not tail:  # never: the setter of `system` leaves room for a question
                break
            if excess > 0:
                tail = tail[min(excess, len(tail)) :]
        self.cut = len(whole) - len(tail)
        return ids

    def _decode_tail(self, ids: list[int]) -> str:
        """The text of the last ids of a text, without a character that lost its first bytes."""
        spelled = b"".join(self.tokenizer.spell(number) for number in ids)
        return spelled.lstrip(_CONTINUATION_BYTES).decode("utf-8", "replace")

    def _last(self) -> tuple[list[Message], str]:
        """(the messages before the last question, its text)."""
        if not self._exchanges:
            raise InputError("nothing has been asked yet")
        return self.messages[:-2], self.messages[-2]["content"]

    def _answer(
        self, before: Sequence[Message], text: str, sampling: dict[str, Any]
    ) -> Generator[GenerationChunk]:
        """Starts at once, so that a wrong setting is refused before anything is generated."""
        if not isinstance(text, str):
            raise InputError(f"a message must be text, not {type(text).__name__}")
        messages = [*before, _message("user", text)]
        # another seed each time, or /regenerate would give the same answer again
        seed = sampling.get("seed", 0) + self._num_answers
        chunks = self.stream(self.fit(messages), **{**sampling, "seed": seed})
        return self._remember(chunks, messages)

    def _remember(
        self, chunks: Iterator[GenerationChunk], messages: list[Message]
    ) -> Generator[GenerationChunk]:
        """The chunks of an answer, which becomes a message when they end."""
        self._num_answers += 1
        texts, finished = [], False
        try:
            for chunk in chunks:
                texts.append(chunk.text)
                finished = chunk.finish_reason is not None
                yield chunk
        finally:
            # also after Ctrl-C: what was shown is a part of the conversation
            answer = "".join(texts)
            if finished or answer:
                self.messages = [*messages, _message("assistant", answer)]


def load_messages(path: Path) -> list[dict[str, str]]:
    """The messages of a saved conversation, checked.

    Raises:
        InputError: no such file, or no conversation. DamagedError: the file is no JSON.
    """
    where = printable(path)
    if not path.is_file():
        raise InputError(f"{where} is no file: name a conversation that /save has written")
    try:
        content = json.loads(read_file(path, MAX_FILE_BYTES))
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
    # a question is added for the check, so that a conversation without any passes
    return check_messages([*messages, _message("user", "")], where)[:-1]


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": clean(content)}


def read_context(name: str) -> str:
    """The text of a file in any format that `train` reads.

    Raises:
        InputError: no such file, or nothing in it.
    """
    path = Path(name)
    if not path.is_file():
        raise InputError(f"--context {printable(path)} is no file: name one with a text")
    text = "".join(chunk.text for chunk in read_documents(path, DataSettings())).strip()
    if not text:
        raise InputError(f"--context {printable(path)} is empty: name a file with a text")
    return text


def takes_spans(task: Any) -> bool:
    """Whether a model answers with a part of the context."""
    return isinstance(task, Answer)
