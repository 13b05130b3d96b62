"""The fast encoder gives the ids of the `tokenizers` library, to every last one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scriven.settings import TokenizerSettings
from scriven.tokenizers import Tokenizer, fast, train_tokenizer
from scriven.tokenizers.fast import PATTERNS, STABLE, fast_encoder
from scriven.tokenizers.patterns import cut_finely

STORY = "It's said; we'll see 1234 of them. Où est-il? \u2014 \u201cQuoth\u201d she\n\n" * 50
pytest.importorskip("gigatoken")


def tokenizer(pattern: str) -> Tokenizer:
    return train_tokenizer("bpe", iter([STORY]), TokenizerSettings("bpe", 500, pattern))  # type: ignore[arg-type]


MADE = {pattern: tokenizer(pattern) for pattern in PATTERNS}
FAST = {pattern: fast_encoder(made) for pattern, made in MADE.items()}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_it_is_used_where_the_pattern_is_known(pattern: str) -> None:
    assert isinstance(FAST[pattern], fast._Fast)


@pytest.mark.parametrize("kind", ["char", "byte", "word"])
def test_other_kinds_are_encoded_as_ever(kind: str) -> None:
    size = 400 if kind == "word" else None
    made = train_tokenizer(kind, iter([STORY]), TokenizerSettings(kind, size))  # type: ignore[arg-type]
    assert fast_encoder(made) == made.encode_chunks


@settings(max_examples=300, deadline=None)
@given(
    text=st.lists(
        st.one_of(
            st.sampled_from(["'s", "'LL", "'\u017f", " ", "\n", "\r\n", "  ", "12", "<|endoftext|>",
                             "\u00a0", "\u3000", "\U0001f600", "\u0301", "漢", "_", "\x00"]),
            st.text(max_size=4),
        ),
        max_size=40,
    ).map("".join),
    pattern=st.sampled_from(PATTERNS),
)  # fmt: skip
def test_any_text_gets_the_same_ids(text: str, pattern: str) -> None:
    (found,) = FAST[pattern]([text])
    assert found.tolist() == MADE[pattern].encode_chunks([text])[0].tolist()
    assert found.dtype == np.int32


@pytest.mark.slow
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_settled_character_is_cut_the_same_way(pattern: str) -> None:
    assert fast._UNSTABLE.search("aé—漢😀") is None
    points = [chr(code) for code in range(0x20000) if not fast._UNSTABLE.search(chr(code))]
    assert len(points) > 35_000, STABLE
    texts = [f"a{c}a1{c}1 {c} \n{c}'s{c}!{c}!'{c} {c}{c}  {c}'ll" for c in points]
    wanted = MADE[pattern].encode_chunks(texts)
    wrong = [
        hex(ord(c))
        for c, text, ids in zip(points, texts, wanted, strict=True)
        if FAST[pattern]([text])[0].tolist() != ids.tolist()
    ]
    assert wrong == []


def test_characters_that_versions_of_unicode_disagree_on_go_to_the_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    new = "a\ua7ce\U00018d09's "
    encoder = FAST["llama3"]
    assert encoder([new])[0].tolist() == MADE["llama3"].encode_chunks([new])[0].tolist()

    class Never:
        def search(self, text: str) -> None:
            return None

    monkeypatch.setattr(fast, "_UNSTABLE", Never())
    assert encoder([new])[0].tolist() != MADE["llama3"].encode_chunks([new])[0].tolist()


@settings(max_examples=100, deadline=None)
@given(
    words=st.lists(
        st.sampled_from([" ", "\n", "it's", "12", "\ua7ce", "\u3000", "a", ".\n", "  "]),
        max_size=60,
    ),
    size=st.integers(1, 9),
)
def test_text_that_is_cut_finely_has_the_ids_of_the_whole(words: list[str], size: int) -> None:
    whole = "".join(words)
    parts = list(cut_finely(whole, size))
    assert "".join(parts) == whole
    for made in MADE.values():
        ids = [number for part in parts for number in made.encode(part)]
        assert ids == made.encode(whole)


def test_an_encoder_that_errs_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: object, texts: list[str]) -> list[fast.Ids]:
        return [np.zeros(3, dtype=np.int32) for _ in texts]

    monkeypatch.setattr(fast._Fast, "__call__", wrong)
    made = MADE["llama3"]
    assert fast_encoder(made) == made.encode_chunks


def test_it_is_made_anew_before_it_remembers_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_RENEW_AFTER", 10)
    encoder = fast_encoder(MADE["gpt2"])
    for _ in range(3):
        (found,) = encoder([STORY])
        assert found.tolist() == MADE["gpt2"].encode_chunks([STORY])[0].tolist()
