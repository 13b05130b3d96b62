"""The tasks against the formulas of the GPT-1 paper (sections 3.2 and 3.3), and written answers
against one token at a time: plain loops, one row at a time, nothing padded."""

import math
from typing import Any

import pytest
import torch
from task_models import ABLE, LABELS, MODELS, TASKS, batch, make, rows, tokenizer
from torch import Tensor

from scriven.data.batch import Batch
from scriven.tasks.choice import Choice
from scriven.tasks.shared import classification
from scriven.tasks.shared.classification import SequenceClassification

LAYOUTS = {
    "classify": ("text",), "entail": ("premise", "hypothesis"), "similarity": ("first", "second"),
    "regression": ("text", "second"), "choice": ("context",),
}  # fmt: skip
NUMBERS = {"similarity": "score", "regression": "number"}
LABELLED = [(name, model) for name, model in ABLE if name in LAYOUTS]
WRITTEN = [
    (name, model) for name, model in ABLE if name in ("chat", "instruct", "translate", "summarize")
]
each_labelled = pytest.mark.parametrize(("name", "model"), LABELLED)


def read(task: Any, ids: list[int]) -> Tensor:
    """(T, W) what the backbone makes of one row."""
    found: Tensor = task.backbone(torch.tensor([ids]))[0]
    return found


def ordered(name: str, row: dict[str, Any]) -> list[list[int]]:
    """The token sequences of a row, as the paper's figure 1 draws them."""
    known = tokenizer(name)
    start, border, extract = (known.special[f"<|{x}|>"] for x in ("start", "delimiter", "extract"))
    parts = [known.encode(row[column]) for column in LAYOUTS[name]]
    if name == "classify":
        return [[start, *parts[0], extract]]
    if name in ("entail", "regression"):
        return [[start, *parts[0], border, *parts[1], extract]]
    if name == "similarity":
        one, other = parts
        return [
            [start, *one, border, *other, extract],
            [start, *other, border, *one, extract],
        ]
    return [[start, *parts[0], border, *known.encode(each), extract] for each in row["choices"]]


def pooled(task: Any, name: str, ids: list[int]) -> Tensor:
    """(W,) the hidden state that stands for a sequence."""
    if task.backbone.kind != "encoder-decoder":
        return read(task, ids)[len(ids) - 1]
    extract = tokenizer(name).special["<|extract|>"]
    made: Tensor = task.backbone(torch.tensor([[extract]]), source=torch.tensor([ids]))
    return made[0, 0]


def scores_of(task: Any, name: str, row: dict[str, Any]) -> list[float]:
    """What the linear layer says of a row: of each label, of the score, or of each choice."""
    matrix: Tensor = task.head.weight
    states = [pooled(task, name, ids) for ids in ordered(name, row)]
    if name == "choice":
        return [(matrix[0] @ state).item() for state in states]
    total = sum(states[1:], states[0])
    return [(line @ total).item() for line in matrix]


def log_share(numbers: list[float], place: int) -> float:
    """log softmax, by the definition."""
    top = max(numbers)
    return numbers[place] - top - math.log(sum(math.exp(each - top) for each in numbers))


def loss_of_text(task: Any, name: str, row: dict[str, Any]) -> float:
    """Mean nats of the tokens of a row's sequences, each from those before it: L1 of the paper."""
    weight = task.backbone.embed.token.weight if task.words is None else task.words.weight
    taught = ordered(name, row)
    if name == "choice":
        taught = [taught[row["answer"]]]
    losses = []
    for ids in taught:
        for place in range(1, len(ids)):
            logits = weight @ read(task, ids[:place])[place - 1]
            losses.append(-log_share(logits.tolist(), ids[place]))
    return sum(losses) / len(losses)


def loss_of_label(task: Any, name: str, row: dict[str, Any]) -> float:
    """L2 of the paper; squared error in units of the spread for a score."""
    found = scores_of(task, name, row)
    if name in NUMBERS:
        return (found[0] - (row[NUMBERS[name]] - 2.5) / 2) ** 2
    place = row["answer"] if name == "choice" else LABELS.index(row["label"])
    return -log_share(found, place)


@each_labelled
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_scores_are_those_of_the_paper(name: str, model: str, tie_embeddings: bool) -> None:
    task, table = make(name, model, tie_embeddings=tie_embeddings).eval(), rows(name, 5)
    with torch.no_grad():
        whole = batch(task, name, table)
        found = task.scores(task.hidden(whole), whole)
        probabilities = task.predictions(whole)
        for row, mine, said in zip(table, found, probabilities, strict=True):
            right = scores_of(task, name, row)
            assert mine[: len(right)].tolist() == pytest.approx(right, abs=1e-12)
            if name in NUMBERS:
                score = min(5.0, max(1.0, right[0] * 2 + 2.5))
                assert said.tolist() == pytest.approx([score], abs=1e-12)
            else:
                shares = [math.exp(log_share(right, place)) for place in range(len(right))]
                assert said[: len(right)].tolist() == pytest.approx(shares, abs=1e-12)
                assert not said[len(right) :].any()


@each_labelled
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_the_loss_is_that_of_the_paper(name: str, model: str, tie_embeddings: bool) -> None:
    task, table = make(name, model, tie_embeddings=tie_embeddings), rows(name, 3)
    whole = batch(task, name, table)
    decoder = MODELS[model].Model.kind == "decoder"
    with torch.no_grad():
        learning, measured = task(whole), task.eval()(whole)
        labels = [loss_of_label(task, name, row) for row in table]
        texts = [loss_of_text(task, name, row) if decoder else 0.0 for row in table]
    assert int(learning.tokens) == len(table)
    assert float(measured.loss) == pytest.approx(sum(labels), rel=1e-12)
    assert float(learning.loss) == pytest.approx(sum(labels) + 0.5 * sum(texts), rel=1e-12)


@pytest.mark.parametrize("name", ["entail", "similarity", "choice"])
def test_another_order_of_the_parts_would_be_noticed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: the parts the other way round; of similarity, one order read twice."""
    right = SequenceClassification.join_parts
    seen: list[Any] = []

    def wrong(self: Any, parts: Any) -> Any:
        seen.append(parts)
        return right(self, [*parts][::-1] if name != "similarity" else seen[0])

    monkeypatch.setattr(SequenceClassification, "join_parts", wrong)
    task, table = make(name, "gpt2").eval(), rows(name, 1)
    whole = batch(task, name, table)
    mine = task.scores(task.hidden(whole), whole)[0].tolist()
    assert mine != pytest.approx(scores_of(task, name, table[0]), abs=1e-6)


def test_another_weight_of_the_auxiliary_loss_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(classification, "LM_LOSS_WEIGHT", 0.4)
    task, table = make("classify", "gpt2"), rows("classify", 2)
    right = sum(loss_of_label(task, "classify", row) for row in table)
    right += 0.5 * sum(loss_of_text(task, "classify", row) for row in table)
    assert float(task(batch(task, "classify", table)).loss) != pytest.approx(right, rel=1e-6)


# ---------------------------------------------------------------- written answers


def turns_of(name: str, row: dict[str, Any]) -> list[tuple[str, str]]:
    if name == "instruct":
        return [("user", row["prompt"]), ("assistant", row["completion"])]
    return [(turn["role"], turn["content"]) for turn in row["messages"]]


def dialogue(name: str, row: dict[str, Any]) -> list[tuple[int, bool]]:
    """(token, whether the assistant wrote it) in ChatML."""
    known = tokenizer(name)
    begin, end = known.special["<|im_start|>"], known.special["<|im_end|>"]
    found = []
    for role, content in turns_of(name, row):
        found += [(begin, False), *((id_, False) for id_ in known.encode(role + "\n"))]
        found += [(id_, role == "assistant") for id_ in [*known.encode(content), end]]
        found += [(id_, False) for id_ in known.encode("\n")]
    return found


def learnt(task: Any, name: str, row: dict[str, Any]) -> list[tuple[list[int] | None, list[int]]]:
    """(source, tokens with the one to predict at their end) of all answers' tokens."""
    known, whole = tokenizer(name), task.backbone.kind == "encoder-decoder"
    if name in ("chat", "instruct"):
        marked = dialogue(name, row)
        ids = [token for token, _ in marked]
        if not whole:
            return [(None, ids[: n + 1]) for n, (_, wrote) in enumerate(marked) if wrote]
        role, content = turns_of(name, row)[-1]
        answer = [*known.encode(content), known.special["<|im_end|>"]]
        source = ids[: len(ids) - len(answer) - len(known.encode("\n"))]
        assert role == "assistant"
    else:
        answer = [*known.encode(row["target"]), known.eos]
        source = known.encode(row["source"])
    if whole:
        return [(source, [known.pad, *answer[: n + 1]]) for n in range(len(answer))]
    before = [*source, known.special["<|delimiter|>"]]
    return [(None, [*before, *answer[: n + 1]]) for n in range(len(answer))]


def slow_loss(task: Any, name: str, row: dict[str, Any]) -> tuple[float, int]:
    """(nats, number) of the answers' tokens, one forward pass for each."""
    weight = task.backbone.embed.token.weight if task.head is None else task.head.weight
    total, count = 0.0, 0
    for source, ids in learnt(task, name, row):
        if source is None:
            hidden = read(task, ids[:-1])
        else:
            hidden = task.backbone(torch.tensor([ids[:-1]]), source=torch.tensor([source]))[0]
        total -= log_share((weight @ hidden[-1]).tolist(), ids[-1])
        count += 1
    return total, count


@pytest.mark.parametrize(("name", "model"), WRITTEN)
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_the_loss_is_that_of_the_answers_tokens_alone(
    name: str, model: str, tie_embeddings: bool
) -> None:
    task, table = (
        make(name, model, tie_embeddings=tie_embeddings, context_length=160),
        rows(name, 3),
    )
    whole: Batch = batch(task, name, table)
    with torch.no_grad():
        found = task(whole)
        right = [slow_loss(task, name, row) for row in table]
    assert int(found.tokens) == whole.num_targets() == sum(count for _, count in right)
    assert float(found.loss) == pytest.approx(sum(loss for loss, _ in right), rel=1e-12)


@pytest.mark.parametrize("name", ["chat", "translate"])
def test_learning_the_question_too_would_be_noticed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = TASKS[name]
    right = kind.collate

    def wrong(self: Any, *given: Any) -> Batch:
        made = right(self, *given)
        made.targets[:, :1] = made.tokens[:, 1:2]
        return made

    monkeypatch.setattr(kind, "collate", wrong)
    task, table = make(name, "gpt2", context_length=160), rows(name, 2)
    losses = sum(slow_loss(task, name, row)[0] for row in table)
    assert float(task(batch(task, name, table)).loss) != pytest.approx(losses, rel=1e-6)


@pytest.mark.parametrize("model", ["gpt2", "transformer"])
def test_what_does_not_fit_is_cut_where_the_documents_say(model: str) -> None:
    """Of a pair the longer text loses its end; a source and its target lose their ends."""
    known = tokenizer("entail")
    start, border, extract = (known.special[f"<|{x}|>"] for x in ("start", "delimiter", "extract"))

    def example(name: str, row: dict[str, Any]) -> Any:
        return make(name, model, context_length=16).encode(tokenizer(name), row)

    long, short = known.encode("abcdefghijkabcdefghi"), known.encode("ab")
    room = 16 - 3
    made = example("entail", {"premise": "abcdefghijkabcdefghi", "hypothesis": "ab"})
    assert made.rows[0] == [start, *long[: room - 2], border, *short, extract]
    assert made.cut == 20 + 2 - room

    row = {"source": "abcdefghijkabcdefghi", "target": "kjihgfedcbakjihgfedcba"}
    made = example("translate", row)
    if model == "transformer":
        assert (made.source, made.rows[0]) == (long[:16], known.encode(row["target"])[:16])
        assert made.cut == 4 + 7
        return
    delimiter, wrote = tokenizer("translate").special["<|delimiter|>"], known.encode("kjih")
    assert made.rows[0] == [*long[:11], delimiter, *wrote]
    assert made.cut == 9 + (22 + 1 - 4)


@pytest.mark.parametrize("model", ["gpt2", "transformer"])
def test_of_a_choice_the_context_loses_its_beginning_and_an_answer_its_end(model: str) -> None:
    """An answer has at least half of the room, and all that the context leaves."""
    known = tokenizer("choice")
    start, border, extract = (known.special[f"<|{x}|>"] for x in ("start", "delimiter", "extract"))
    task: Choice = make("choice", model, context_length=16)
    room = 16 - 3
    context, short = known.encode("abcdefghijkabcdefghi"), known.encode("ab")
    row = {"context": "abcdefghijkabcdefghi", "choices": ["ab", "kjihgfedcba"]}
    made = task.encode(known, row)
    assert made.rows[0] == [start, *context[-(room - 2) :], border, *short, extract]
    assert made.rows[1] == [start, *context[-7:], border, *known.encode("kjihgf"), extract]
    assert made.cut == (20 - 7) + (11 - 6), "of the row that lost most"
    made = task.encode(known, {"context": "ab", "choices": ["kjihgfedcbakjihgfedcb", "ab"]})
    assert made.rows[0] == [start, *short, border, *known.encode("kjihgfedcba"), extract]
    assert made.cut == 21 - 11


@pytest.mark.parametrize("model", ["gpt2", "transformer"])
def test_a_long_conversation_loses_its_oldest_exchanges(model: str) -> None:
    known = tokenizer("chat")
    turns = [
        {"role": role, "content": f"{letter}{letter}"}
        for letter in "abcd"
        for role in ("user", "assistant")
    ]
    row, last = {"messages": [{"role": "system", "content": "h"}, *turns]}, turns[-2:]
    one = len(dialogue("chat", {"messages": turns[:2]}))
    first = len(dialogue("chat", {"messages": row["messages"][:1]}))
    task = make("chat", model, context_length=first + one + one // 2)
    made = task.encode(known, row)
    kept = [token for token, _ in dialogue("chat", {"messages": [row["messages"][0], *last]})]
    read = made.rows[0] if made.source is None else made.source
    assert read == kept[: len(read)]
    assert made.cut == 3 * one
    bare = task.encode(known, {"messages": row["messages"][:-1]})
    asked = task.prompt_of(bare)
    if model == "transformer":
        assert asked == made.source
    else:  # a quarter of the context is left to answer in
        assert len(asked) <= task.max_question
        assert asked == kept[: len(asked)] or asked == kept[: len(kept) - 4][-task.max_question :]
