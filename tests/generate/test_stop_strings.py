"""Stop strings, however the text is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriven.errors import SettingError
from scriven.generate.sequence import StopFilter, check_stop_strings


def letter_by_letter(text: str, stops: list[str]) -> tuple[str, bool]:
    """The plain meaning: read on until the text ends with a stop string, then leave it out."""
    for end in range(1, len(text) + 1):
        matches = [stop for stop in stops if text[:end].endswith(stop)]
        if matches:
            return text[: end - max(map(len, matches))], True
    return text, False


@given(
    pieces=st.lists(st.text("abc", max_size=4), max_size=12),
    stops=st.lists(st.text("abc", min_size=1, max_size=5), max_size=3),
)
def test_any_cut_of_the_text_gives_the_same_result(pieces: list[str], stops: list[str]) -> None:
    filter_ = StopFilter(stops)
    shown = ""
    for piece in pieces:
        shown += filter_.push(piece)
        arrived = "".join(pieces)
        assert arrived.startswith(shown)
    shown += filter_.flush()
    assert (shown, filter_.hit) == letter_by_letter("".join(pieces), stops)


@given(st.text("ab", max_size=10), st.text("ab", min_size=1, max_size=4))
def test_nothing_is_held_back_that_cannot_begin_a_stop(text: str, stop: str) -> None:
    filter_ = StopFilter([stop])
    shown = filter_.push(text)
    if not filter_.hit:
        held = text[len(shown) :]
        assert stop.startswith(held)


def test_nothing_comes_after_the_stop() -> None:
    filter_ = StopFilter(["end"])
    assert filter_.push("the e") == "the "
    assert filter_.push("nd of it") == ""
    assert filter_.hit
    assert filter_.push("more") == ""
    assert filter_.flush() == ""


def test_one_string_is_one_stop_and_an_empty_one_is_refused() -> None:
    assert check_stop_strings("end") == ("end",)
    assert check_stop_strings(["a", "b"]) == ("a", "b")
    for bad in ("", ["a", ""]):
        with pytest.raises(SettingError, match="--stop"):
            check_stop_strings(bad)
