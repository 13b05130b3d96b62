"""Any text survives, on the fast path and on the library's own."""

import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scriven.errors import InputError
from scriven.tokenizers import EOS, PAD, StreamDecoder, Tokenizer, char, clean, patterns

quick = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
anything = st.text(st.characters())  # surrogates included
ODD = [
    "",
    "\r\n \r a\n\n b \n",
    "\x00\x00nul",
    "\ufeffbom",
    "a\u2028b\u2029c\x85d\x1ce",
    "שלום \u202eabc\u202c",
    "e\u0301 n\u0303 \u200b\u200d\u00ad",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪",
    "<0x41><0xE2> Ġ Ċ ▁",
    "中文，没有空格。" * 3,
]


@quick
@given(text=anything)
def test_any_text_round_trips(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == clean(text)


@pytest.mark.parametrize("text", ODD)
def test_odd_texts_round_trip(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@quick
@given(text=anything)
def test_the_fast_path_gives_the_ids_of_the_library(tokenizer: Tokenizer, text: str) -> None:
    slow = tokenizer.backend.encode(clean(text), add_special_tokens=False).ids
    assert tokenizer.encode_array(text).tolist() == slow
    assert tokenizer.backend.decode(slow) == clean(text)


def test_the_fast_path_is_found_out_when_it_is_wrong(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["char"]
    assert isinstance(tokenizer, char.Tokenizer)
    right = tokenizer.encode_array("aé中😀").tolist()
    table, tokenizer.table = tokenizer.table, np.roll(tokenizer.table, 1)
    try:
        assert tokenizer.encode_array("aé中😀").tolist() != right
    finally:
        tokenizer.table = table


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("\ud83d", "\ufffd"),
        ("a\udc00b", "a\ufffdb"),
        ("\ud83d\ude00", "😀"),
        ("\ud83dx", "\ufffdx"),
    ],
)
def test_lone_surrogates_become_the_replacement_character(
    tokenizer: Tokenizer, given_text: str, expected: str
) -> None:
    assert tokenizer.decode(tokenizer.encode(given_text)) == expected
    assert tokenizer.encode_array(given_text).tolist() == tokenizer.encode(expected)


@quick
@given(text=st.text(st.characters(min_codepoint=0x3000, exclude_categories=["Cs"])))
def test_characters_never_seen_are_encoded(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert all(0 <= number < tokenizer.vocab_size for number in ids)
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("token", [EOS, PAD, f"a{EOS}{EOS} b", f"{EOS}\n{PAD}"])
def test_special_tokens_in_text_are_plain_text(tokenizer: Tokenizer, token: str) -> None:
    ids = tokenizer.encode(token)
    assert tokenizer.eos not in ids
    assert tokenizer.pad not in ids
    assert tokenizer.decode(ids) == token
    assert tokenizer.decode([tokenizer.eos, *ids, tokenizer.pad]) == token


@pytest.mark.parametrize("symbol", ["a", " ", "\n", ".", "1", "é", "中", "x "])
def test_many_equal_characters_take_seconds(tokenizer: Tokenizer, symbol: str) -> None:
    text = symbol * (250_000 // len(symbol))  # with time quadratic in the length, minutes
    start = time.perf_counter()
    ids = tokenizer.encode_array(text)
    assert time.perf_counter() - start < 10
    assert tokenizer.decode(ids.tolist()) == text


def test_ids_outside_the_vocabulary_are_refused(tokenizer: Tokenizer) -> None:
    for number in (-1, tokenizer.vocab_size):
        with pytest.raises(InputError, match="outside the vocabulary"):
            tokenizer.decode([number])


@quick
@given(data=st.data())
def test_the_stream_joined_is_the_whole(tokenizer: Tokenizer, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
    stream = StreamDecoder(tokenizer)
    parts = [stream.push(number) for number in ids]
    assert "".join([*parts, stream.flush()]) == tokenizer.decode(ids)


def test_the_stream_holds_unfinished_characters_back(tokenizers: dict[str, Tokenizer]) -> None:
    stream = StreamDecoder(tokenizers["byte"])
    assert [stream.push(number) for number in "😀".encode()] == ["", "", "", "😀"]
    assert stream.push(0xF0) == ""
    assert stream.flush() == "\ufffd"


TRICKY = ["a", "It's", " ", "  ", "\n", "\n\n", "\r\n", "\t", "12345", ".", "!!", "é", "e\u0301"]
TRICKY += [
    "中文",
    "，",
    "\u2028",
    "\x85",
    "\x1c",
    "\u200b",
    "\u180e",
    "\u3000",
    "\u00a0",
    "😀",
    "_",
]


@quick
@given(
    words=st.lists(st.sampled_from(TRICKY), max_size=120), which=st.sampled_from(["bpe", "word"])
)
def test_cutting_text_does_not_change_its_ids(
    tokenizers: dict[str, Tokenizer], words: list[str], which: str
) -> None:
    text = "".join(words)
    tokenizer = tokenizers[which]
    whole = tokenizer.backend.encode(text, add_special_tokens=False).ids
    cuts = [found.start() for found in patterns._BOUNDARY.finditer(text)]
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert np.concatenate(tokenizer.encode_chunks(parts)).tolist() == whole


def test_a_wrong_cut_would_change_the_ids(tokenizers: dict[str, Tokenizer]) -> None:
    text = "again again"
    parts = tokenizers["bpe"].encode_chunks([text[:3], text[3:]])
    assert np.concatenate(parts).tolist() != tokenizers["bpe"].encode(text)


@pytest.mark.parametrize("text", ["word " * 40_000, "x" * 200_000, "line\nline\n\n" * 20_000])
def test_chunks_are_short_and_whole(text: str) -> None:
    parts = list(patterns.chunks(text))
    assert "".join(parts) == text
    assert max(map(len, parts)) <= patterns.CHUNK
    assert len(parts) <= len(text) // patterns.CHUNK * 1.01 + 1
