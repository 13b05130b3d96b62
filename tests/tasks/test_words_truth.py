"""Tags and answer spans against plain loops over one row at a time, and long texts in windows."""

import itertools
import math
from typing import Any

import pytest
import torch
from task_models import LABELS, batch, make, rows, tokenizer

from scriven.data.batch import IGNORE_INDEX, Batch
from scriven.nn.span_head import exact_matches
from scriven.tasks.answer import BEGINS, ENDS, Answer
from scriven.tasks.shared import words
from scriven.tasks.shared.columns import BadValue
from scriven.tasks.shared.words import word_spans

MODELS = ["gpt2", "rnn", "roberta", "transformer"]
each = pytest.mark.parametrize("model", MODELS)


def layout(task: Any, name: str, said: list[str], before: list[str]) -> tuple[list[int], list[int]]:
    """(the row that is read, the place of each word's last token), as the documents draw them."""
    known = tokenizer(name)
    start, border, extract = (known.special[f"<|{x}|>"] for x in ("start", "delimiter", "extract"))
    ids = [start, *(token for word in before for token in known.encode(f" {word}"))]
    ids += [border] * bool(before)
    text = [known.encode(f" {word}") for word in said]
    flat = [token for piece in text for token in piece]
    if task.backbone.kind == "decoder":
        ids += [*flat, border]
    places = [len(ids) - 1 + sum(map(len, text[: n + 1])) for n in range(len(text))]
    return [*ids, *flat, extract], places


def scores(task: Any, name: str, ids: list[int]) -> torch.Tensor:
    """(T, outputs) of one row that is not padded."""
    tokens = torch.tensor([ids])
    if task.backbone.kind == "encoder-decoder":
        hidden = task.backbone(tokens, source=tokens)
    else:
        hidden = task.backbone(tokens)
    if name == "tag":
        return hidden[0] @ task.head.weight.T
    border = ids.index(tokenizer(name).special["<|delimiter|>"])
    asked = torch.tensor([[0 < place < border for place in range(len(ids))]])
    return task.head(hidden, tokens, asked, torch.ones_like(asked))[0]


def log_share(numbers: list[float], place: int) -> float:
    top = max(numbers)
    return numbers[place] - top - math.log(sum(math.exp(one - top) for one in numbers))


# ---------------------------------------------------------------- tags


@each
def test_the_loss_of_tags_is_the_mean_over_the_words(model: str) -> None:
    task, table = make("tag", model), rows("tag", 3)
    total = 0.0
    with torch.no_grad():
        for row in table:
            ids, places = layout(task, "tag", row["tokens"], [])
            found = scores(task, "tag", ids)
            pairs = zip(places, row["tags"], strict=True)
            losses = [-log_share(found[n].tolist(), LABELS.index(tag)) for n, tag in pairs]
            total += sum(losses) / len(losses)
        measured = task.eval()(batch(task, "tag", table))
    assert float(measured.loss) == pytest.approx(total, rel=1e-12)
    assert int(measured.tokens) == 3


def test_reading_the_first_copy_of_the_text_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = Batch.to

    def wrong(self: Batch, device: torch.device) -> Batch:
        moved = right(self, device)
        half = (moved.targets.size(1) + 1) // 2
        moved.targets[:] = moved.targets.roll(-half + 1, 1)
        return moved

    monkeypatch.setattr(Batch, "to", wrong)
    with pytest.raises(AssertionError):
        test_the_loss_of_tags_is_the_mean_over_the_words("gpt2")


@each
def test_a_long_text_is_tagged_in_windows(model: str) -> None:
    """Every word gets its tag, whatever the context; a short context reads more rows."""
    task = make("tag", model, context_length=32).eval()
    said = [*"abcdefghijk", "abc", "def", "ghi", "jk", "abcd", "efgh"] * 2
    example = task.encode(tokenizer("tag"), {"tokens": said, "tags": ["no"] * len(said)})
    if task.backbone.max_position is not None:
        assert len(example.rows) > 2
        assert max(map(len, example.rows)) <= 32
    found = task.predictions(task.collate([example], torch.device("cpu"))).tolist()
    text, tags, _ = task.format_answer(found[0], {}, example)
    assert len(tags) == len(said)
    assert text == " ".join(tags) and {*tags} <= {*LABELS}
    assert example.cut == 0


# ---------------------------------------------------------------- spans


def numbers_of(task: Any, row: dict[str, Any]) -> tuple[list[list[float]], list[tuple[int, int]]]:
    """(scores of the first and of the last word: of every word, then of no answer; the words)."""
    spans = word_spans(row["context"])
    said = [row["context"][a:b] for a, b in spans]
    asked = [row["question"][a:b] for a, b in word_spans(row["question"])]
    ids, places = layout(task, "answer", said, asked)
    found = scores(task, "answer", ids)
    return [found[[*places, len(ids) - 1], side].tolist() for side in (0, 1)], spans


@each
def test_the_loss_of_a_span_is_that_of_both_of_its_ends(model: str) -> None:
    task, table = make("answer", model, context_length=256), rows("answer", 4)
    total = 0.0
    with torch.no_grad():
        for row in table:
            sides, spans = numbers_of(task, row)
            first = last = len(spans)
            if row["answers"]:
                start = row["answers"][0]["start"]
                end = start + len(row["answers"][0]["text"])
                first = next(n for n, span in enumerate(spans) if span[1] > start)
                last = max(n for n, span in enumerate(spans) if span[0] < end)
            total -= log_share(sides[0], first) + log_share(sides[1], last)
        measured = task.eval()(batch(task, "answer", table))
    assert float(measured.loss) == pytest.approx(total, rel=1e-12)


@each
def test_the_best_span_is_the_best_of_all_pairs(model: str) -> None:
    task, table = make("answer", model, context_length=256).eval(), rows("answer", 6, longest=40)
    with torch.no_grad():
        found = task.predictions(batch(task, "answer", table)).tolist()
        for row, said in zip(table, found, strict=True):
            sides, spans = numbers_of(task, row)
            count = len(spans)
            chances = [[log_share(side, n) for n in range(count + 1)] for side in sides]
            best = max(
                (chances[0][a] + chances[1][b], a, b)
                for a, b in itertools.product(range(count), repeat=2)
                if a <= b < a + 30
            )
            nothing = math.exp(chances[0][count] + chances[1][count])
            assert said == pytest.approx([math.exp(best[0]), 0, best[1], best[2], nothing])
            (example,) = [task.encode(tokenizer("answer"), row)]
            text, value, (chance,) = task.format_answer(said, row, example)
            right = row["context"][spans[best[1]][0] : spans[best[2]][1]]
            assert text == value == (right if math.exp(best[0]) >= nothing else "")
            assert chance == max(said[0], said[-1])


@each
def test_windows_share_one_softmax_and_find_every_word(model: str) -> None:
    """A context that is read in windows: the probabilities of all windows add up to one, the
    windows overlap, and the answer is a part of the context."""
    task = make("answer", model, context_length=40).eval()
    context = " ".join(["abc def, ghi jk!", "de fgh. ij k abc", "a b c d e f g"] * 4)
    row = {"context": context, "question": "ab cd?", "answers": [{"text": "jk!", "start": None}]}
    example = task.encode(tokenizer("answer"), row)
    spans = word_spans(context)
    if task.backbone.max_position is not None:
        assert max(map(len, example.rows)) <= 40
        widths = [sum(t != IGNORE_INDEX for t in targets[:-1]) for targets in example.targets]
        ends = [a + width for a, width in zip(example.firsts, widths, strict=True)]
        assert ends[-1] == len(spans) and example.firsts[0] == 0
        assert all(b < end for b, end in zip(example.firsts[1:], ends, strict=False)), "overlap"
        marks = [target for targets in example.targets for target in targets]
        assert marks.count(BEGINS) >= 1 <= marks.count(ENDS)
    whole = task.collate([example], torch.device("cpu"))
    with torch.no_grad():
        logits = task.word_logits(whole).flatten(1, 2)
        chances = task._log_probs(logits, whole.targets.view(1, -1)).exp()
        assert chances.sum(1).tolist() == [pytest.approx([1.0, 1.0])]
        (found,) = task.predictions(whole).tolist()
    text, _, _ = task.format_answer(found, row, example)
    assert text in context


def test_a_softmax_for_each_window_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Answer._log_probs

    def wrong(self: Any, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return right(self, logits.view(2, -1, 2), targets.view(2, -1)).view_as(logits)

    monkeypatch.setattr(Answer, "_log_probs", wrong)
    with pytest.raises((AssertionError, RuntimeError)):
        test_windows_share_one_softmax_and_find_every_word("gpt2")


def test_matches_with_the_question_are_those_of_a_loop() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(0, 4, (5, 20))
    asked = torch.zeros(5, 20, dtype=torch.bool)
    asked[:, 1:7] = True
    found = exact_matches(tokens, asked)
    for row, ids in enumerate(tokens.tolist()):
        for place, length in itertools.product(range(20), (1, 2, 3)):
            here = ids[place - length + 1 : place + 1] if place >= length - 1 else None
            same = any(ids[n - length + 1 : n + 1] == here for n in range(length, 7))
            assert bool(found[row, place, length - 1]) == same, (row, place, length)


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ({"text": ["b c"], "answer_start": [2]}, ["b c"]),
        ('{"text": ["b c"], "answer_start": [2]}', ["b c"]),
        ({"text": [], "answer_start": []}, []),
        ([{"text": "b c", "answer_start": 2}], ["b c"]),
        ("b c", ["b c"]),
        (["b", "c"], ["b", "c"]),
        ("", []),
        (None, []),
    ],
)
def test_answers_are_read_as_people_have_them(given: Any, texts: list[str]) -> None:
    row = {"context": "a b c", "question": "?", "answers": Answer.COLUMNS["answers"].read(given)}
    Answer.check_answer(row)
    assert Answer.gold_answer(row) == texts


def test_an_answer_that_is_no_part_of_its_context_is_refused() -> None:
    row = {"context": "a b c", "question": "?", "answers": [{"text": "d", "start": 0}]}
    with pytest.raises(BadValue, match=r"'d', which is no part of its context.*--task instruct"):
        Answer.check_answer(row)
    row["answers"] = [{"text": "c", "start": 0}]
    Answer.check_answer(row)  # a wrong place is found anew


@pytest.mark.parametrize(("start", "word"), [(0, 0), (8, 2), (16, 4), (None, 0), (3, 0)])
def test_of_equal_words_the_answer_is_the_one_at_its_start(start: int | None, word: int) -> None:
    task = make("answer", "gpt2", context_length=256)
    answers = [{"text": "abc", "start": start}]
    row = {"context": "abc def abc def abc", "question": "ab?", "answers": answers}
    (targets,) = task.encode(tokenizer("answer"), row).targets
    marks = [target for target in targets[:-1] if target != IGNORE_INDEX]
    assert [n for n, mark in enumerate(marks) if mark] == [word]
    assert marks[word] == BEGINS | ENDS


def test_windows_cover_every_word_once_without_overlap() -> None:
    for room, overlap in itertools.product((3, 5, 9), (0.0, 0.5)):
        lengths = [1, 3, 2, 1, 1, 3, 3, 1, 2, 2]
        found = words._windows(lengths, room, overlap)
        assert all(sum(lengths[a:b]) <= room for a, b in found)
        covered = [n for a, b in found for n in range(a, b)]
        assert sorted({*covered}) == list(range(10))
        assert overlap or covered == list(range(10))
