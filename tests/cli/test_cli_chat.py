"""`scriven chat`: on a pipe, with commands on a terminal, and what it refuses."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scriven.cli import run

FOOL = "I am a fool, my lord.\nA poor one."


def greedy(flags: tuple[str, ...]) -> tuple[str, ...]:
    """The flags, with temperature 0 where they name none."""
    return flags if "--temperature" in flags else ("--temperature", "0", *flags)


class Pipe(io.TextIOWrapper):
    """Standard input that is no terminal."""

    def __init__(self, content: str | bytes) -> None:
        raw = content.encode() if isinstance(content, str) else content
        super().__init__(io.BytesIO(raw), encoding="utf-8")


@pytest.fixture
def say(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], talker: Path
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command with lines on a pipe: (exit code, standard output, standard error)."""

    def run_it(content: str | bytes, *flags: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", Pipe(content))
        capsys.readouterr()
        code = run(["chat", str(talker), *greedy(flags)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run_it


@pytest.fixture
def type_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], talker: Path
) -> Callable[..., tuple[int, str, str]]:
    """The same with lines that a person types at a terminal; an exception is a key."""

    def run_it(lines: list[str | type[BaseException]], *flags: str) -> tuple[int, str, str]:
        typed: Iterator[str | type[BaseException]] = iter(lines)

        def type_line(prompt: str = "") -> str:
            line = next(typed, EOFError)
            if isinstance(line, str):
                return line
            raise line

        monkeypatch.setattr("sys.stdin", Pipe(""))
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        monkeypatch.setattr("builtins.input", type_line)
        capsys.readouterr()
        code = run(["chat", str(talker), *greedy(flags)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run_it


def test_each_line_is_a_message_and_is_answered(say: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = say("Who are you?\n\n  \nGood night.\r\n")
    assert (code, out, err) == (0, f"{FOOL}\nSweet rest.\n", "")


def test_json_is_one_object_for_each_answer(say: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = say("Who are you?\nWhat is the hour?", "--json")
    first, second = map(json.loads, out.splitlines())
    assert code == 0
    assert first["text"] == FOOL and second["text"] == "Near midnight – 12."
    assert first["finish_reason"] == "eos" and first["tokens"] > 5
    assert first["seconds"] > 0 and first["tokens_per_second"] > 0
    assert (first["prompt_truncated"], first["messages_left_out"]) == (0, 0)


def test_knobs_reach_the_model(say: Callable[..., tuple[int, str, str]]) -> None:
    assert say("Who are you?", "--stop", ", my")[1] == "I am a fool\n"
    _, out, _ = say("Who are you?", "--max-new-tokens", "3", "--json")
    assert json.loads(out)["tokens"] == 3 and json.loads(out)["finish_reason"] == "length"
    drawn = {say("Who are you?", "--temperature", "2", "--seed", str(i))[1] for i in range(6)}
    assert len(drawn) > 1
    again = [say("Hm?\nHm?", "--temperature", "2", "--seed", "5")[1] for _ in range(2)]
    assert again[0] == again[1]


def test_the_answer_is_that_of_generate(
    say: Callable[..., tuple[int, str, str]], talker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = say("What is the hour?")
    assert run(["generate", str(talker), "What is the hour?", "--temperature", "0"]) == 0
    assert capsys.readouterr().out == out


def test_a_slash_on_a_pipe_is_text(say: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = say("/quit\nGood night.\n", "--json")
    assert code == 0 and len(out.splitlines()) == 2


def test_what_was_left_out_is_told_and_counted(say: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = say("Good night.\n" * 20 + "word " * 200 + "Good night.\n", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(rows) == 21
    assert rows[-2]["messages_left_out"] > 0 and rows[-2]["prompt_truncated"] == 0
    assert "the conversation outgrew the context: its first" in err
    assert rows[-1]["prompt_truncated"] > 500
    assert f"its first {rows[-1]['prompt_truncated']} tokens were dropped" in err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--temperature", "900"), "--temperature=900"),
        (("--max-new-tokens", "-1"), "--max-new-tokens=-1"),
        (("--stop", ""), "--stop=''"),
        (("--load", "nowhere.json"), "nowhere.json is no file"),
        (("--system", "be brief " * 99), "leaves no room for a question"),
    ],
)
def test_a_wrong_flag_is_refused_before_anything_is_asked(
    type_in: Callable[..., tuple[int, str, str]], flags: tuple[str, ...], words: str
) -> None:
    code, out, err = type_in(["Who are you?"], *flags)
    assert (code, out) == (2, "")
    assert err.startswith("scriven: ") and words in err and err.count("\n") == 1


def test_bytes_that_are_no_text_are_refused_with_their_line(
    say: Callable[..., tuple[int, str, str]],
) -> None:
    code, out, err = say(b"Good night.\n\xff\xfe\n")
    assert (code, out) == (2, "Sweet rest.\n")
    assert err == "scriven: standard input, line 2 is not UTF-8: convert it\n"


def test_a_model_that_was_not_fine_tuned_for_it_is_refused_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "book.txt"
    text.write_text("It was a dark and stormy night.\n" * 30, encoding="utf-8")
    book = tmp_path / "book"
    line = ["train", str(text), "--out", str(book), "--budget", "2steps", "--size", "tiny"]
    assert run([*line, "--quiet"]) == 0
    capsys.readouterr()
    assert run(["chat", str(book)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "scriven: book was trained for language, not for chat: "
        f"scriven finetune {book} DATA --task chat\n"
    )


def test_a_person_asks_and_takes_back(type_in: Callable[..., tuple[int, str, str]]) -> None:
    lines = ["Who are you?", "", "Good night.", "/undo", "/regenerate", "/reset", "/undo", "/quit"]
    code, out, err = type_in([*lines, "never reached"])
    assert code == 0
    assert out == f"{FOOL}\nSweet rest.\n{FOOL}\n"
    assert "removed the last message" in err and "removed all messages" in err
    assert "nothing has been asked yet" in err


def test_a_conversation_is_saved_and_gone_on_with(
    type_in: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    path = tmp_path / "my talk.json"
    code, _, err = type_in(["/system Brief.", "Good night.", f"/save {path}", "/save"])
    assert code == 0
    assert f"saved 3 messages in {path}" in err and "/save needs the name of a file" in err
    kept = json.loads(path.read_text(encoding="utf-8"))["messages"]
    assert [each["role"] for each in kept] == ["system", "user", "assistant"]
    other = tmp_path / "next.json"
    lines = ["Who are you?", "/system", f"/save {other}"]
    assert type_in(lines, "--load", str(path))[0] == 0
    following = json.loads(other.read_text(encoding="utf-8"))["messages"]
    assert following[:2] == kept[1:] and len(following) == 4
    code, _, err = type_in([f"/save {tmp_path / 'no' / 'where'}"])
    assert code == 0 and "cannot be written" in err


def test_help_lists_the_commands_and_others_are_named(
    type_in: Callable[..., tuple[int, str, str]],
) -> None:
    code, out, err = type_in(["/help", "/shout", "//quit", KeyboardInterrupt, UnicodeError])
    assert code == 0
    for command in ("/regenerate", "/undo", "/reset", "/save FILE", "/system TEXT", "/quit"):
        assert command in err
    assert "unknown command /shout" in err
    assert "(Ctrl-D or /quit leaves)" in err and "the message is not UTF-8" in err
    assert out  # `//quit` was a message


def test_json_on_a_terminal_keeps_standard_output_clean(
    type_in: Callable[..., tuple[int, str, str]],
) -> None:
    _, out, _ = type_in(["Good night.", "/undo"], "--json")
    assert json.loads(out)["text"] == "Sweet rest."


def test_what_the_model_writes_cannot_rule_the_terminal(
    type_in: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from scriven.generate.engine import Engine, GenerationChunk

    monkeypatch.setattr(
        Engine,
        "stream",
        lambda *_, **__: iter([GenerationChunk("a\x1b[2Jb", 2), GenerationChunk("", 3, "eos")]),
    )
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    _, out, _ = type_in(["Hm?"])
    assert out == "a\\x1b[2Jb\n"


SLOWLY = """
import runpy, time
from scriven.generate.engine import Engine

stream = Engine.stream

def slow_stream(*given, **named):
    for chunk in stream(*given, **named):
        yield chunk
        time.sleep(0.5)

Engine.stream = slow_stream
runpy.run_module("scriven", run_name="__main__", alter_sys=True)
"""
"""`python -m scriven`, whose answers take so long that they can be interrupted."""


class Terminal:
    """The command in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.there, here = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", SLOWLY, "chat", *arguments],
            stdin=here,
            stdout=here,
            stderr=here,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "dumb"},
        )
        os.close(here)
        self.shown = ""

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Until the text has come, after what came before it."""
        until = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < until, f"{text!r} never came: {self.shown!r}"
            self.shown += os.read(self.there, 4096).decode("utf-8", "replace")
        self.shown = self.shown.split(text, 1)[1]

    def wait_for_more(self, count: int) -> None:
        """Until an answer of more than some characters has begun to come."""
        while len(self.shown) < count:
            self.shown += os.read(self.there, 4096).decode("utf-8", "replace")

    def type(self, text: str) -> None:
        os.write(self.there, text.encode())


def test_ctrl_c_stops_the_answer_and_ctrl_d_leaves(talker: Path) -> None:
    # at this temperature the model does not find the end of an answer
    terminal = Terminal(str(talker), "--temperature", "80", "--max-new-tokens", "100000")
    try:
        terminal.wait_for("> ")
        terminal.type("Who are you?\n")
        terminal.wait_for("Who are you?")
        terminal.wait_for_more(20)
        os.killpg(terminal.process.pid, signal.SIGINT)
        terminal.wait_for("(stopped)")
        terminal.wait_for("> ")
        terminal.type("/undo\n")
        terminal.wait_for("> ")
        terminal.type("\x04")
        assert terminal.process.wait(30) == 0
    finally:
        terminal.process.kill()
        os.close(terminal.there)
