"""The tables made from the plays: split by play, nothing shared, and no choice betrays itself."""

import hashlib
import json
import re
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scriven import registry
from scriven.data.corpora import shakespeare
from scriven.data.sources import Sources
from scriven.data.table import builtin
from scriven.data.tables import base, shakespeare_next
from scriven.errors import MissingExtra

PARTS: tuple[base.SplitName, ...] = ("train", "validation", "test")
Rows = dict[tuple[str, str], list[dict[str, Any]]]

NAMES = [name.replace("_", "-") for name in registry.names("scriven.data.tables")]

DIGESTS = {
    "shakespeare-genre": "24c3e35edb3d705d",
    "shakespeare-next": "d5ca3c9207a61aff",
    "shakespeare-reply": "32516ec57a7e4b53",
}
"""Of every part as JSON: the same rows on every machine."""


@pytest.fixture(scope="module")
def rows() -> Rows:
    try:
        next(shakespeare.plays())
    except MissingExtra as error:
        pytest.skip(str(error))
    return {(name, part): list(_read(name)(part)) for name in NAMES for part in PARTS}


def _read(name: str) -> Callable[[base.SplitName], Any]:
    module = builtin(name)
    assert module is not None
    found: Callable[[base.SplitName], Any] = module.read
    return found


def texts(name: str, row: dict[str, Any]) -> list[str]:
    """What a model is to read or write in a row, without the context of a choice."""
    if name == "shakespeare-genre":
        return [row["text"]]
    if name == "shakespeare-next":
        return list(row["choices"])
    return [" ".join(turn["content"] for turn in row["messages"])]


def shared(name: str, earlier: list[dict[str, Any]], later: list[dict[str, Any]]) -> set[str]:
    """The texts of two lists of rows that are the same by their words."""
    first = {base.normalised(text) for row in earlier for text in texts(name, row)}
    return first & {base.normalised(text) for row in later for text in texts(name, row)}


def test_names_are_typed_with_dashes() -> None:
    assert NAMES == ["shakespeare-genre", "shakespeare-next", "shakespeare-reply"]
    assert builtin("shakespeare_next") is builtin("shakespeare-next")
    for name in ("base", "rows.csv", "./shakespeare-genre", "shakespeare", ""):
        assert builtin(name) is None


def test_rows_have_the_columns_that_are_promised(rows: Rows) -> None:
    for (name, part), found in rows.items():
        module = builtin(name)
        assert module is not None and len(found) > 1000, (name, part)
        assert all(tuple(row) == module.COLUMNS for row in found)


def test_rows_are_the_same_everywhere(rows: Rows) -> None:
    for name, digest in DIGESTS.items():
        text = json.dumps([rows[name, part] for part in PARTS], ensure_ascii=False)
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest, name


def test_the_documented_counts_are_the_real_ones(rows: Rows) -> None:
    page = Path(__file__).parents[2] / "docs" / "plays-tasks.md"
    lines = page.read_text(encoding="utf-8").splitlines()
    for name in NAMES:
        counts = " | ".join(f"{len(rows[name, part]):,}" for part in PARTS)
        assert f"| `{name}` | {counts} |" in lines


def test_plays_are_drawn_not_chosen(rows: Rows) -> None:
    every = [play for part in PARTS for play in base.plays_of(part)]
    assert len(every) == len({play.name for play in every}) == 38
    assert {*base.BOUND, *base.TEST, *base.VALIDATION, *base.TRAGEDIES} <= {
        play.name for play in every
    }
    test, validation = [], []
    for kind, more in (("comedy", 2), ("history", 1), ("tragedy", 2)):
        free = [play.name for play in every if base.genre_of(play) == kind]
        free = sorted((name for name in free if name not in base.BOUND), key=base.hash_rank)
        test += free[:2]
        validation += free[2 : 2 + more]
    assert (tuple(test), tuple(validation)) == (base.TEST, base.VALIDATION)


@pytest.mark.parametrize("name", NAMES)
def test_no_passage_of_a_later_part_occurs_in_an_earlier_one(name: str, rows: Rows) -> None:
    for earlier, later in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert shared(name, rows[name, earlier], rows[name, later]) == set()


def test_a_leaked_row_is_noticed(rows: Rows) -> None:
    name = "shakespeare-next"
    leaked = [*rows[name, "train"], rows[name, "test"][7]]
    assert len(shared(name, leaked, rows[name, "test"])) == 4


def test_pretraining_text_holds_no_speech_of_the_other_plays() -> None:
    with Sources(["shakespeare-train"]) as sources:
        documents = [piece.text for piece in sources.read()]
    assert sources.name == "shakespeare-train"
    assert len(documents) == len(list(base.plays_of("train"))) == 27
    held = [*base.plays_of("validation"), *base.plays_of("test")]
    speeches = [base.normalised(speech.text).split() for play in held for speech in play.speeches]
    size = base.SHORT + 1
    openings = {" ".join(words[:size]) for words in speeches if len(words) >= size}
    assert len(openings) > 5000
    words = base.normalised("\n".join(documents)).split()
    found = {" ".join(words[at : at + size]) for at in range(len(words))}
    assert openings & found == set()
    assert openings & {"to be or not to be that is the"}  # hamlet is a test play


def test_every_part_of_the_genres_has_every_label(rows: Rows) -> None:
    for part in PARTS:
        counts = Counter(row["label"] for row in rows["shakespeare-genre", part])
        assert set(counts) == {"comedy", "history", "tragedy"}
        assert min(counts.values()) > 0.15 * sum(counts.values())


def test_passages_have_the_length_promised_and_no_names_of_speakers(rows: Rows) -> None:
    found = [row["text"] for part in PARTS for row in rows["shakespeare-genre", part]]
    assert all(60 <= base.count_words(text) <= 120 for text in found)
    speakers = {speech.speaker for part in PARTS for play in base.plays_of(part)
                for speech in play.speeches}  # fmt: skip
    lines = (line for text in found for line in text.split("\n"))
    assert [line for line in lines if line.rstrip(":") in speakers and line.endswith(":")] == []


def test_the_answer_follows_its_context_in_the_play(rows: Rows) -> None:
    whole = {play.text for play in base.plays_of("test")}
    for row in rows["shakespeare-next", "test"][::50]:
        written = f"{row['context']}\n{row['choices'][row['answer']]}\n\n"
        others = [text for place, text in enumerate(row["choices"]) if place != row["answer"]]
        assert any(written in text for text in whole)
        assert not any(f"{row['context']}\n{other}\n\n" in text for other in others
                       for text in whole)  # fmt: skip
        assert len(set(row["choices"])) == 4
        assert 1 <= len(re.findall(r"\n\n", row["context"])) <= 3


def hits(rows: list[dict[str, Any]], score: Callable[[str], float]) -> float:
    """How often the choice with the highest score is the right one."""
    right = 0
    for row in rows:
        scores = [score(text) for text in row["choices"]]
        right += scores.index(max(scores)) == row["answer"]
    return right / len(rows)


def weights_of_words(rows: list[dict[str, Any]]) -> dict[str, float]:
    """How much oftener a word stands in right choices than in wrong ones, without a context."""
    right: Counter[str] = Counter()
    every: Counter[str] = Counter()
    for row in rows:
        for place, text in enumerate(row["choices"]):
            found = set(base.normalised(text).split())
            every.update(found)
            right.update(found if place == row["answer"] else ())
    return {word: (right[word] + 5) / (count + 20) - 0.25 for word, count in every.items()}


def test_a_choice_alone_does_not_tell_whether_it_is_right(rows: Rows) -> None:
    train, test = (rows["shakespeare-next", part] for part in ("train", "test"))
    weights = weights_of_words(train)

    def by_words(text: str) -> float:
        found = [weights.get(word, 0.0) for word in base.normalised(text).split()]
        return statistics.fmean(found or [0.0])

    scores: tuple[Callable[[str], float], ...] = (
        len, lambda text: -len(text), base.count_words, lambda text: text.count("\n") / len(text),
        lambda text: text.count("?"), lambda text: -len(set(text)), by_words,
    )  # fmt: skip
    chance = 3 * (0.25 * 0.75 / len(test)) ** 0.5
    for part in (test, train):
        for score in scores[:-1]:
            assert abs(hits(part, score) - 0.25) < chance
    assert abs(hits(test, by_words) - 0.25) < chance
    assert abs(Counter(row["answer"] for row in train)[0] / len(train) - 0.25) < 0.02


def test_wrong_choices_of_any_length_would_be_noticed(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: the shortest speeches of a group as wrong choices."""

    def shortest(key: str, place: int, group: list[int], plain: list[str]) -> list[int]:
        return sorted((at for at in group if at != place), key=lambda at: len(plain[at]))[:3]

    monkeypatch.setattr(shakespeare_next, "_draw", shortest)
    planted = list(shakespeare_next.read("test"))
    assert hits(planted, len) > 0.4


def test_replies_are_short_and_answer_another_speaker(rows: Rows) -> None:
    whole = "".join(play.text for play in base.plays_of("validation"))
    for row in rows["shakespeare-reply", "validation"][::20]:
        cue, reply = row["messages"]
        assert (cue["role"], reply["role"]) == ("user", "assistant")
        assert 2 <= base.count_words(reply["content"]) <= 60
        between = re.escape(cue["content"]) + r"\n\n([^\n]+):\n" + re.escape(reply["content"])
        assert re.search(between, whole)
