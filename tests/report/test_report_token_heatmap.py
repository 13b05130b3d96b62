"""The heat map: classes by probability, every token once, the nats beside it."""

import math
import re

import pytest

from scriven.report import token_heatmap as heatmap_module
from scriven.report.page import render_macro
from scriven.report.token_heatmap import level


def token_heatmap(pairs: list[tuple[str, float]], unit: str) -> str:
    """The markup of a heat map."""
    return render_macro("heatmap", *heatmap_module.token_heatmap(pairs, unit))


def check_levels() -> None:
    """Classes against probabilities turned into nats by hand: -ln 0.8, 0.5, 0.2, 0.05, 0.01."""
    edges = [0.2231436, 0.6931472, 1.6094379, 2.9957323, 4.6051702]
    for index, edge in enumerate(edges):
        assert level(edge - 1e-6) == index
        assert level(edge + 1e-6) == index + 1


def test_classes_change_at_80_50_20_5_and_1_percent():
    check_levels()


def test_the_check_above_notices_bits_taken_for_nats(monkeypatch):
    monkeypatch.setattr(heatmap_module, "_probability", lambda nats: 2.0**-nats)
    with pytest.raises(AssertionError):
        check_levels()


@pytest.mark.parametrize(
    ("nats", "expected"),
    [(0.0, 0), (-1.0, 0), (math.inf, 5), (-math.inf, 0), (math.nan, 5), (1e308, 5)],
)
def test_values_without_meaning_have_a_class(nats, expected):
    assert level(nats) == expected


def tokens_of(page: str) -> list[tuple[str, str]]:
    """(class, title) of each token in the order of the text."""
    return re.findall(r'<span class="(s\d)" title="([^"]*)">', page)


def test_every_token_is_there_once_with_its_nats_and_probability():
    pairs = [("To", 0.1), (" be", 1.0), ("\n", 3.5)]
    page = token_heatmap(pairs, "token")
    assert tokens_of(page) == [
        ("s0", "0.10 nats, 90.5\u00a0%"),
        ("s2", "1.00 nats, 36.8\u00a0%"),
        ("s4", "3.50 nats, 3.0\u00a0%"),
    ]
    assert "On average 1.53 nats per token here" in page


def test_line_breaks_and_empty_tokens_can_be_seen():
    page = token_heatmap([("\n", 1.0), ("", 1.0), ("\r\n", 1.0)], "token")
    assert page.count("↵\n</span>") == 2
    assert ">∅</span>" in page


def test_a_long_text_is_cut():
    assert len(tokens_of(token_heatmap([("a", 1.0)] * 5000, "character"))) == 1500


def test_the_least_probable_tokens_are_listed_with_their_context():
    pairs = [(letter, 0.5) for letter in "the quick brown fo"] + [
        ("z", 7.0),
        (" ", 3.0),
        ("j", 0.1),
    ]
    page = token_heatmap(pairs, "character")
    rows = re.findall(r"<code>([^<]*)</code></td><td><code>([^<]*)</code>", page)
    assert rows == [("the quick brown fo", "z"), ("the quick brown foz", "␣")]


def test_no_improbable_token_no_list():
    assert "<table" not in token_heatmap([("a", 0.1), ("b", math.nan)], "character")
