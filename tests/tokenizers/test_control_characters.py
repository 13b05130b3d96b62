"""What a model writes cannot rule the terminal it is shown on."""

from hypothesis import given
from hypothesis import strategies as st

from scriven.format import replace_control_characters


@given(st.text())
def test_only_control_characters_are_replaced(text: str) -> None:
    shown = replace_control_characters(text)
    assert len(shown) == len(text)
    for before, after in zip(text, shown, strict=True):
        code = ord(before)
        control = (code < 32 and before not in "\t\n") or 127 <= code < 160
        assert after == ("\ufffd" if control else before)


def test_an_escape_sequence_is_harmless() -> None:
    assert replace_control_characters("a\x1b[2Jb\r\n\tc") == "a\ufffd[2Jb\ufffd\n\tc"
