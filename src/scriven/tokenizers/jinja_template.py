"""Conversations as the chat template of an imported model writes them.

The template is a stranger's Jinja program. It is rendered in the sandbox that transformers uses,
with the same names, so the ids are those of `apply_chat_template`; but content that spells a
special token is plain text here.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import tokenizers

from ..errors import InputError
from .base import Tokenizer

Message = Mapping[str, str]

MAX_TEMPLATE = 1 << 20
"""Characters."""

_GENERATION = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")
"""Marks of transformers around what the assistant says; they write nothing."""
_SHIELD = "\ue0f5"
"""Stands inside content that spells a special token, while the template is rendered."""


def render_jinja_text(
    template: str,
    messages: Sequence[Message],
    *,
    answer: bool = False,
    tokens: Mapping[str, str | None] | None = None,
) -> str:
    """A conversation as a template writes it; with `answer` up to where the answer begins.

    Args:
        template: the Jinja source.
        messages: with role and content.
        tokens: the texts of bos_token, eos_token and so on.

    Raises:
        InputError: the template is broken, or refuses the conversation.
    """
    import jinja2

    try:
        return str(
            _compiled(template).render(
                messages=[dict(each) for each in messages],
                add_generation_prompt=answer,
                tools=None,
                documents=None,
                **{name: token or "" for name, token in (tokens or {}).items()},
            )
        )
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the model's chat template refuses this conversation: {reason}"
        ) from error
    except (RecursionError, MemoryError, AttributeError) as error:
        raise InputError("the model's chat template is broken: restore the file") from error


@cache
def _compiled(template: str) -> Any:
    from jinja2 import TemplateError, TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # as in transformers

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    if len(template) > MAX_TEMPLATE:
        raise InputError("the model's chat template is too long: restore the file")
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(
        value, ensure_ascii=False, indent=options.get("indent")
    )
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    plain = _GENERATION.sub(
        lambda mark: f"{{%{mark[1]} {'endif' if mark[2] else 'if true'} {mark[3]}%}}", template
    )
    try:
        return environment.from_string(plain)
    except (TemplateSyntaxError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the model's chat template is broken: {reason}") from error


def render_jinja_ids(
    tokenizer: Tokenizer, messages: Sequence[Message], *, answer: bool = False
) -> list[int]:
    """The ids of a conversation; with `answer` up to where the answer begins."""
    return [number for number, _ in _encode(tokenizer, _render(tokenizer, messages, answer))]


def render_jinja_conversation(
    tokenizer: Tokenizer, messages: Sequence[Message]
) -> tuple[list[int], list[bool]]:
    """The ids of a conversation, and which of them the assistant writes: its contents, and the
    special token that ends each.

    Raises:
        InputError: the template refuses the conversation, or writes other answers than were said.
    """
    text = _render(tokenizer, messages)
    spans = list(_answers(tokenizer, messages, text))
    encoded = _encode(tokenizer, text)
    answers = [any(begin <= start < end for begin, end in spans) for _, start in encoded]
    return [number for number, _ in encoded], answers


def turn_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """The special tokens that begin a turn (`turn`) and end an answer (`end`), where there are any;
    nothing for a template that cannot be rendered."""
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    try:
        text = _render(tokenizer, messages)
        _, end = next(_answers(tokenizer, messages, text))
    except InputError:
        return {}
    found: dict[str, int] = {}
    tokens = list(_special_pattern(tokenizer).finditer(text))
    for token in tokens:
        if token.end() == end:
            found["end"] = tokenizer.special[token[0]]
        elif token[0] not in (tokenizer.bos_token, tokenizer.eos_token) and "turn" not in found:
            found["turn"] = tokenizer.special[token[0]]
    return found


def _render(tokenizer: Tokenizer, messages: Sequence[Message], answer: bool = False) -> str:
    assert tokenizer.chat_template is not None
    special = _special_pattern(tokenizer)
    shielded = [
        {**each, "content": special.sub(_shield, each["content"].replace(_SHIELD, ""))}
        for each in messages
    ]
    names = {
        "bos_token": tokenizer.bos_token,
        "eos_token": tokenizer.eos_token,
        "pad_token": tokenizer.pad_token,
        "unk_token": tokenizer.unk_token,
    }
    return render_jinja_text(tokenizer.chat_template, shielded, answer=answer, tokens=names)


def _shield(token: re.Match[str]) -> str:
    return token[0][:1] + _SHIELD + token[0][1:]


def _special_pattern(tokenizer: Tokenizer) -> re.Pattern[str]:
    # the longest first, as one may begin another
    names = sorted(filter(None, tokenizer.special), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names)) or r"(?!)")


def _encode(tokenizer: Tokenizer, text: str) -> list[tuple[int, int]]:
    """(id, place of its first character) of a rendered conversation."""
    backend = _parsing_backend(tokenizer)
    if _SHIELD not in text:
        encoding = backend.encode(text, add_special_tokens=False)
        return [
            (number, start)
            for number, (start, _) in zip(encoding.ids, encoding.offsets, strict=True)
        ]
    # content spells a special token: the text between special tokens is encoded piece by piece
    found: list[tuple[int, int]] = []
    special, at = _special_pattern(tokenizer), 0
    for token in [*special.finditer(text), None]:
        piece = text[at : len(text) if token is None else token.start()]
        encoding = tokenizer.backend.encode(piece.replace(_SHIELD, ""), add_special_tokens=False)
        # places in the text with its shields
        places = [index for index, each in enumerate(piece) if each != _SHIELD] or [0]
        found += [
            (number, at + places[min(start, len(places) - 1)])
            for number, (start, _) in zip(encoding.ids, encoding.offsets, strict=True)
        ]
        if token is not None:
            found.append((tokenizer.special[token[0]], token.start()))
            at = token.end()
    return found


def _parsing_backend(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """The library's tokenizer that takes special tokens in a text for what they are."""
    backend = vars(tokenizer).get("_parsing")
    if backend is None:
        backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
        backend.encode_special_tokens = False
        vars(tokenizer)["_parsing"] = backend
    found: tokenizers.Tokenizer = backend
    return found


def _answers(
    tokenizer: Tokenizer, messages: Sequence[Message], text: str
) -> Iterator[tuple[int, int]]:
    """(begin, end) of each answer in a rendered conversation, with the token that ends it."""
    special, at = _special_pattern(tokenizer), 0
    for number, message in enumerate(messages):
        said = special.sub(_shield, message["content"].replace(_SHIELD, "")).strip()
        begin = at
        if message["role"] == "assistant":
            # where a prompt for this answer ends; a template may write history otherwise
            before = _render(tokenizer, messages[:number], answer=True)
            if text.startswith(before):
                begin = at = max(at, len(before))
        place = text.find(said, at)
        if place < 0:
            if message["role"] != "assistant":
                continue  # moved or left out: a system message, say
            raise InputError(
                "the model's chat template changes what the assistant says, so answers cannot be "
                "learnt in it: fine-tune a model without a template of its own"
            )
        at = place + len(said)
        if message["role"] == "assistant":
            begin = begin if begin > 0 and text[begin:place].strip() == "" else place
            # the token that ends the turn, perhaps after a space
            token = special.match(text, at + len(text[at:]) - len(text[at:].lstrip()))
            at = at if token is None else token.end()
            yield begin, at
