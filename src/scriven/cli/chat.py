"""`scriven chat`: a conversation with a model that was fine-tuned for it."""

import contextlib
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, ScrivenError
from ..format import plural
from .base import (
    NO_ANSWER,
    Precision,
    Run,
    UserArch,
    add_sampling_flags,
    emit,
    for_terminal,
    note,
    open_model,
)

if TYPE_CHECKING:
    from ..generate.chat import Conversation
    from ..generate.sequence import GenerationChunk
    from ..model import Model

COMMANDS = """/regenerate   answer the last message again
/undo         remove the last message and its answer
/reset        remove all messages except the system message
/save FILE    save the conversation, for --load
/system TEXT  set the system message; without TEXT remove it
/help         show this list
/quit         leave, as Ctrl-D does
Ctrl-C stops an answer; // at the beginning of a message stands for /"""

PROMPT = "> "


def chat(
    run: Run,
    *,
    system: str | None = None,
    load: str | None = None,
    context: str | None = None,
    max_new_tokens: int = 500,
    sampling: Any = None,
    seed: int = 0,
    stop: tuple[str, ...] = (),
    dtype: Precision = None,
    arch: UserArch = None,
    json: bool = False,
) -> None:
    """Chat with a model that was fine-tuned for it.

    On a terminal messages are read one by one; /help lists the commands. Otherwise each line of
    standard input is a message, and the answers go to standard output.

    Parameters
    ----------
    system
        The system message, which comes before all others.
    load
        Continue a conversation that /save has written.
    context
        A file with a text to ask about: a model for `answer` takes each answer out of it, any other
        reads it as the system message.
    max_new_tokens
        Largest number of tokens of an answer.
    seed
        The same seed and the same messages give the same answers.
    stop
        Stop an answer before this string; may be given several times.
    json
        One JSON object for each answer on standard output.
    """
    settings: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        **asdict(sampling),
        "seed": seed,
        "stop": stop,
    }
    text = None
    if context is not None:
        from ..generate.chat import read_context, takes_spans

        text = read_context(context)
        if system is not None:
            raise InputError("--context and --system: the text becomes the system message")
        model = open_model(run, arch, dtype)
        if takes_spans(model.task):
            if load is not None:
                raise InputError("--load: each question about a --context stands alone")
            _answer_questions(model, text, json)
            return
        system = text
    # 1. the conversation: loaded, then with the system message of the command line
    talk = _open(run, arch, dtype, settings)
    if load is not None:
        talk.load(Path(load))
    if system is not None:
        talk.system = system
    # 2. messages from a terminal, or one from each line of a file or pipe
    if sys.stdin.isatty():
        _Session(talk, settings, json).run()
        return
    for line in _lines():
        _show(talk, talk.ask(line, **settings), json)


add_sampling_flags(chat, temperature=0.8)


def _answer_questions(model: "Model", context: str, as_json: bool) -> None:
    """Answers each line of a terminal or of standard input out of a context."""
    for question in _questions() if sys.stdin.isatty() else _lines():
        ((text, probability),) = model.predict([(context, question)])
        data = {"text": text, "probability": probability}
        emit(data, for_terminal(text or NO_ANSWER), as_json)


def _questions() -> Iterator[str]:
    """The lines of a terminal until Ctrl-D or /quit."""
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while (line := input(PROMPT).strip()) != "/quit":
            if line:
                yield line


def _open(run: str, arch: str | None, dtype: Precision, settings: dict[str, Any]) -> "Conversation":
    """An empty conversation with the model of a run.

    Raises:
        InputError: the model was not fine-tuned for chat. SettingError: a setting out of range.
    """
    from ..generate.chat import Conversation
    from ..tokenizers.chat_template import template_of

    model = open_model(run, arch, dtype)
    task = model.metadata["task"]
    if template_of(model.tokenizer, task) is None:
        raise InputError(
            f"{model.folder.name} was trained for {task}, not for chat: "
            f"scriven finetune {run} DATA --task chat"
        )
    model.stream("", **settings)  # refuses a wrong setting before anybody types a message
    # an encoder reads the conversation by itself, and leaves the decoder all its room
    room = 0 if model.task.backbone.kind == "encoder-decoder" else None
    return Conversation(model.stream, model.tokenizer, model.task.max_context, room=room)


def _lines() -> Iterator[str]:
    """The messages on standard input, one a line; blank lines are skipped."""
    # decoded here and not by Python, so that an error can name the line
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InputError(f"standard input, line {number} is not UTF-8: convert it") from error
        if text.strip():
            yield text


def _show(talk: "Conversation", chunks: "Generator[GenerationChunk]", as_json: bool) -> None:
    """Prints an answer while it is generated; stops generating when interrupted."""
    began, pieces, last = time.perf_counter(), [], None
    _warn(talk)
    # closing the generator stops decoding when Ctrl-C arrives
    with contextlib.closing(chunks):
        for last in chunks:
            pieces.append(last.text)
            if not as_json:
                sys.stdout.write(for_terminal(last.text))
                sys.stdout.flush()
    assert last is not None
    if not as_json:
        sys.stdout.write("\n")
        sys.stdout.flush()
        return
    seconds = max(time.perf_counter() - began, 1e-9)
    data = {
        "text": "".join(pieces),
        "tokens": last.tokens,
        "seconds": round(seconds, 4),
        "tokens_per_second": round(last.tokens / seconds, 1),
        "finish_reason": last.finish_reason,
        "prompt_truncated": talk.cut,
        "messages_left_out": talk.left_out,
    }
    emit(data, "", True)


def _warn(talk: "Conversation") -> None:
    """Warns of the part of the conversation that does not fit into the context."""
    if talk.cut:
        dropped = plural(talk.cut, "token was dropped", "tokens were dropped")
        note(f"the message is longer than the context: its first {dropped}")
    if talk.left_out:
        dropped = plural(talk.left_out, "message is dropped", "messages are dropped")
        note(f"the conversation outgrew the context: its first {dropped}")


class _Session:
    """A conversation on a terminal."""

    def __init__(self, talk: "Conversation", settings: dict[str, Any], as_json: bool) -> None:
        self.talk, self.settings, self.as_json = talk, settings, as_json

    def run(self) -> None:
        """Reads lines until /quit or Ctrl-D."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  arrow keys and history for input()
        note("/help lists the commands; Ctrl-D leaves")
        while True:
            try:
                line = self._read()
            except EOFError:
                note("")
                return
            except KeyboardInterrupt:
                note("\n(Ctrl-D or /quit leaves)")
                continue
            except UnicodeError:
                note("the message is not UTF-8")
                continue
            try:
                if not self._obey(line):
                    return
            except ScrivenError as error:
                note(str(error))
            except KeyboardInterrupt:
                note("\n(stopped)")

    def _read(self) -> str:
        """A line of input. The prompt stays out of a file that the answers go to."""
        if sys.stdout.isatty() and not self.as_json:
            return input(PROMPT)
        sys.stderr.write(PROMPT)
        sys.stderr.flush()
        return input()

    def _obey(self, line: str) -> bool:
        """Answers a message, or runs a command; False to leave."""
        if not line.startswith("/") or line.startswith("//"):
            if line.strip():
                text = line[1:] if line.startswith("/") else line
                _show(self.talk, self.talk.ask(text, **self.settings), self.as_json)
            return True
        command, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if command == "/quit":
            return False
        if command == "/regenerate":
            _show(self.talk, self.talk.regenerate(**self.settings), self.as_json)
        elif command == "/undo":
            self.talk.undo()
            note("removed the last message and its answer")
        elif command == "/reset":
            self.talk.reset()
            note("removed all messages")
        elif command == "/save":
            if not rest:
                raise InputError("/save needs the name of a file")
            self.talk.save(Path(rest))
            note(f"saved {plural(len(self.talk.messages), 'message')} in {rest}")
        elif command == "/system":
            self.talk.system = rest or None
            note("system message set" if rest else "system message removed")
        elif command == "/help":
            note(COMMANDS)
        else:
            raise InputError(f"unknown command {command}: /help lists the commands")
        return True
