"""What a conversation remembers, what of it the model reads, and what can be taken back."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scriven.errors import DamagedError, InputError, SettingError
from scriven.generate.chat import Conversation
from scriven.generate.engine import GenerationChunk
from scriven.settings import TokenizerSettings
from scriven.tokenizers import Tokenizer, bpe, byte
from scriven.tokenizers.chat_template import render_ids

TEXT = "To be, or not to be: that is the question.\n\nWhether 'tis nobler in the mind?\n" * 20


@pytest.fixture(scope="module", params=["byte", "bpe"])
def talker(request: pytest.FixtureRequest) -> Tokenizer:
    kind = {"byte": byte, "bpe": bpe}[request.param]
    made: Tokenizer = kind.train([TEXT], TokenizerSettings(vocab_size=300))
    return made.with_special_tokens("turn", "end")


class Writer:
    """Stands in for a model: gives prepared answers in pieces, and keeps what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.prompts: list[list[int]] = []
        self.knobs: list[dict[str, Any]] = []

    def __call__(self, prompt: list[int], **knobs: Any) -> Iterator[GenerationChunk]:
        if knobs.get("temperature", 1) < 0:
            raise SettingError("--temperature=-1: between 0 (the likeliest) and 100")
        self.prompts.append(prompt)
        self.knobs.append(knobs)
        return self._steps(self.answers.pop(0) if self.answers else "Well.")

    def _steps(self, answer: str) -> Iterator[GenerationChunk]:
        for number, letter in enumerate(answer, 1):
            yield GenerationChunk(letter, number)
        yield GenerationChunk("", len(answer) + 1, "eos")


def say(conversation: Conversation, text: str, **knobs: Any) -> str:
    return "".join(step.text for step in conversation.ask(text, **knobs))


def turns(*texts: str, system: str | None = None) -> list[dict[str, str]]:
    told = [] if system is None else [{"role": "system", "content": system}]
    roles = ("user", "assistant")
    return [*told, *({"role": roles[i % 2], "content": each} for i, each in enumerate(texts))]


def test_it_reads_all_that_was_said_and_remembers_the_answer(talker: Tokenizer) -> None:
    writer = Writer("Ann.", "Yes.")
    talk = Conversation(writer, talker, 512, system="Be brief.")
    assert say(talk, "Who?") == "Ann."
    assert say(talk, "Sure?") == "Yes."
    assert talk.messages == turns("Who?", "Ann.", "Sure?", "Yes.", system="Be brief.")
    expected = [turns("Who?", system="Be brief."), talk.messages[:-1]]
    assert writer.prompts == [render_ids(talker, each, answer=True) for each in expected]
    assert (talk.left_out, talk.cut) == (0, 0)


def test_knobs_are_handed_on_with_a_seed_of_its_own_for_each_answer(talker: Tokenizer) -> None:
    writer = Writer()
    talk = Conversation(writer, talker, 512)
    say(talk, "Who?", seed=7, temperature=0.5)
    list(talk.regenerate(seed=7))
    assert writer.knobs == [{"seed": 7, "temperature": 0.5}, {"seed": 8}]


def test_a_wrong_knob_is_refused_before_anything_is_written(talker: Tokenizer) -> None:
    talk = Conversation(Writer(), talker, 512)
    with pytest.raises(SettingError):
        talk.ask("Who?", temperature=-1)
    assert talk.messages == []


def test_the_oldest_exchanges_go_first_and_each_as_a_whole(talker: Tokenizer) -> None:
    writer = Writer()
    talk = Conversation(writer, talker, 128, system="Be brief.")
    limit = 96
    for number in range(12):
        say(talk, f"Question {number}?")
        prompt = writer.prompts[-1]
        asked = talk.messages[:-1]
        kept = asked[:1] + asked[1 + talk.left_out :]
        assert talk.left_out % 2 == 0
        assert prompt == render_ids(talker, kept, answer=True)
        assert len(prompt) <= limit
        if talk.left_out:  # one exchange more would not have fitted
            more = asked[:1] + asked[talk.left_out - 1 :]
            assert len(render_ids(talker, more, answer=True)) > limit
    assert talk.left_out > 0 and talk.cut == 0
    assert len(talk.messages) == 25


quick = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@quick
@given(
    texts=st.lists(st.text(st.characters(), max_size=40), min_size=1, max_size=9),
    system=st.none() | st.text(max_size=8),
)
def test_whatever_was_said_the_prompt_fits(
    talker: Tokenizer, texts: list[str], system: str | None
) -> None:
    writer = Writer()
    talk = Conversation(writer, talker, 120, system=system)
    for text in texts:
        say(talk, text)
        assert len(writer.prompts[-1]) <= 90
        assert writer.prompts[-1][-len(talker.encode("assistant\n")) :] == talker.encode(
            "assistant\n"
        )


def test_a_question_longer_than_the_context_loses_its_beginning(talker: Tokenizer) -> None:
    writer = Writer()
    talk = Conversation(writer, talker, 64, system="Hm.")
    say(talk, "Short?")
    long = "é😀 to be " * 50 + "the end?"
    say(talk, long)
    read = talker.decode(writer.prompts[-1])
    assert read.startswith("system\nHm.\nuser\n") and read.endswith("the end?\nassistant\n")
    assert "\ufffd" not in read  # no half character at the cut
    content = read.removeprefix("system\nHm.\nuser\n").removesuffix("\nassistant\n")
    assert long.endswith(content)
    assert 40 <= len(writer.prompts[-1]) <= 48
    whole = len(talker.encode(long))
    assert whole - 1 - len(talker.encode(content)) <= talk.cut <= whole
    assert talk.left_out == 2
    assert talk.messages[-2]["content"] == long  # it is kept whole


def test_a_megabyte_is_no_reason_to_wait(talker: Tokenizer) -> None:
    writer = Writer()
    talk = Conversation(writer, talker, 64)
    say(talk, "to be " * 170_000)
    assert len(writer.prompts[0]) <= 48


def test_room_may_be_kept_otherwise(talker: Tokenizer) -> None:
    assert Conversation(Writer(), talker, 100).limit == 75
    assert Conversation(Writer(), talker, 100, room=0).limit == 100


def test_a_system_message_that_fills_the_context_is_refused(talker: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"leaves no room for a question: .* shorten it"):
        Conversation(Writer(), talker, 64, system="be brief " * 50)
    talk = Conversation(Writer(), talker, 64, system="Hm.")
    with pytest.raises(InputError, match="leaves no room"):
        talk.system = "be brief " * 50
    assert talk.system == "Hm."


def test_regenerate_replaces_the_answer(talker: Tokenizer) -> None:
    writer = Writer("Ann.", "Yes.", "No.")
    talk = Conversation(writer, talker, 512)
    say(talk, "Who?")
    say(talk, "Sure?")
    assert "".join(step.text for step in talk.regenerate()) == "No."
    assert talk.messages == turns("Who?", "Ann.", "Sure?", "No.")
    assert writer.prompts[2] == writer.prompts[1]


def test_undo_takes_an_exchange_back_and_reset_all(talker: Tokenizer) -> None:
    talk = Conversation(Writer(), talker, 512, system="Hm.")
    for text in ("One?", "Two?", "Three?"):
        say(talk, text)
    assert talk.undo() == "Three?"
    assert talk.messages == turns("One?", "Well.", "Two?", "Well.", system="Hm.")
    talk.reset()
    assert talk.messages == turns(system="Hm.")
    for verb in (talk.undo, talk.regenerate):
        with pytest.raises(InputError, match="nothing has been asked yet"):
            verb()
    talk.system = None
    assert talk.messages == []


def test_a_stopped_answer_is_kept_as_far_as_it_came(talker: Tokenizer) -> None:
    talk = Conversation(Writer("A long story.", "Another."), talker, 512)
    steps = talk.ask("Tell!")
    assert [next(steps).text for _ in range(6)] == list("A long")
    steps.close()
    assert talk.messages == turns("Tell!", "A long")
    again = talk.regenerate()
    next(again)
    with pytest.raises(KeyboardInterrupt):
        again.throw(KeyboardInterrupt)
    assert talk.messages == turns("Tell!", "A")


def test_one_stopped_before_its_first_piece_was_never_asked(talker: Tokenizer) -> None:
    def broken(prompt: list[int], **knobs: Any) -> Iterator[GenerationChunk]:
        raise InputError("the model's weights give NaN or infinite logits")
        yield  # pragma: no cover

    talk = Conversation(Writer(), talker, 512)
    say(talk, "One?")
    talk.stream = broken
    with pytest.raises(InputError, match="NaN or infinite"):
        list(talk.ask("Two?"))
    assert talk.messages == turns("One?", "Well.")


def test_an_answer_without_text_that_ended_by_itself_counts(talker: Tokenizer) -> None:
    talk = Conversation(Writer(""), talker, 512)
    assert say(talk, "Hm?") == ""
    assert talk.messages == turns("Hm?", "")


def test_a_saved_conversation_goes_on(talker: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    first = Conversation(Writer("Ännchen 😀\n"), talker, 512, system="Hm.")
    say(first, "Who?")
    first.save(path)
    assert json.loads(path.read_text(encoding="utf-8")) == {"messages": first.messages}
    assert [each.name for each in tmp_path.iterdir()] == ["talk.json"]
    writer = Writer()
    second = Conversation(writer, talker, 512)
    second.load(path)
    assert second.messages == first.messages and second.system == "Hm."
    say(second, "Sure?")
    assert writer.prompts[0] == render_ids(talker, second.messages[:-1], answer=True)


@pytest.mark.parametrize("messages", [[], turns(system="Hm.")])
def test_one_without_a_question_can_be_saved_too(
    talker: Tokenizer, tmp_path: Path, messages: list[dict[str, str]]
) -> None:
    path = tmp_path / "talk.json"
    talk = Conversation(Writer(), talker, 512)
    talk.messages = list(messages)
    talk.save(path)
    other = Conversation(Writer(), talker, 512, system="Else.")
    other.load(path)
    assert other.messages == messages


@pytest.mark.parametrize(
    ("content", "words", "kind"),
    [
        ("{", "is not JSON", DamagedError),
        ("[" * 100_000, "is not JSON", DamagedError),
        ("[]", "is no conversation", InputError),
        ('{"messages": "Hi"}', "must be a list", InputError),
        ('{"messages": null}', "must be a list", InputError),
        ('{"messages": [{"role": "user", "content": "Hi"}]}', "ends with a question", InputError),
        ('{"messages": [{"role": "tool", "content": "Hi"}]}', "role 'tool' is none", InputError),
        ('{"messages": ["Hi"]}', "message 1: an object", InputError),
    ],
)
def test_a_file_that_is_no_conversation_changes_nothing(
    talker: Tokenizer, tmp_path: Path, content: str, words: str, kind: type[Exception]
) -> None:
    path = tmp_path / "talk.json"
    path.write_text(content, encoding="utf-8")
    talk = Conversation(Writer(), talker, 512)
    say(talk, "One?")
    with pytest.raises(kind, match=words):
        talk.load(path)
    with pytest.raises(InputError, match="is no file"):
        talk.load(tmp_path / "nowhere.json")
    assert talk.messages == turns("One?", "Well.")


def test_a_folder_is_no_place_to_save(talker: Tokenizer, tmp_path: Path) -> None:
    talk = Conversation(Writer(), talker, 512)
    for path in (tmp_path, tmp_path / "nowhere" / "talk.json"):
        with pytest.raises(InputError, match="cannot be written"):
            talk.save(path)


def test_a_lone_surrogate_becomes_the_replacement_character(
    talker: Tokenizer, tmp_path: Path
) -> None:
    talk = Conversation(Writer(), talker, 512)
    say(talk, "a\ud83db")
    assert talk.messages[0]["content"] == "a\ufffdb"
    talk.save(tmp_path / "talk.json")
