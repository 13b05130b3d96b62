"""Direct Preference Optimization against its formula in float64, one answer at a time."""

from typing import Any

import numpy as np
import pytest
import torch
from task_models import CPU, MODELS, make, tokenizer

from scriven.tasks.dpo import REFERENCE, Dpo
from scriven.tasks.shared.columns import BadValue, NothingToLearn, match_columns, read_row

DECODERS = [name for name, module in MODELS.items() if module.Model.kind == "decoder"]
BETA = 0.25
PAIRS = [
    ("abc", "de f", "g", (-3.25, -4.5)),
    ("k", "ab", "c d e f gh", (-8.0, -2.125)),
    ("a b c d e f g", "h", "hi", (-1.5, -1.5)),
]


def table() -> list[dict[str, Any]]:
    columns = Dpo.COLUMNS
    names = dict(zip(columns, columns, strict=True))
    return [
        {
            **read_row(columns, names, {"prompt": ask, "chosen": yes, "rejected": no}),
            REFERENCE: reference,
        }
        for ask, yes, no, reference in PAIRS
    ]


def made(model: str, **facts: float) -> Any:
    return make("dpo", model, {"dpo_beta": BETA, **facts})


def answer_log_p(task: Any, ask: str, answer: str) -> float:
    """The log-probability of an answer and its end, token by token, from logits in NumPy."""
    known = tokenizer("dpo")
    begin, end = known.special["<|im_start|>"], known.special["<|im_end|>"]
    line = known.encode("\n")
    prompt = [begin, *known.encode("user\n" + ask), end, *line]
    prompt += [begin, *known.encode("assistant\n")]
    ids, total = [*prompt, *known.encode(answer), end], 0.0
    if task.backbone.kind == "encoder-decoder":
        written = ids[len(prompt) :]
        hidden = task.backbone(
            torch.tensor([[known.pad, *written[:-1]]]), source=torch.tensor([prompt])
        )
        places, targets = range(len(written)), written
    else:
        hidden = task.backbone(torch.tensor([ids]))
        places, targets = range(len(prompt) - 1, len(ids) - 1), ids[len(prompt) :]
    logits = task.logits(hidden)[0].detach().numpy()
    for place, token in zip(places, targets, strict=True):
        top = logits[place].max()
        total += logits[place][token] - top - np.log(np.exp(logits[place] - top).sum())
    return float(total)


def expected(task: Any, flipped: float = 0.0) -> tuple[float, int]:
    """(loss, right) summed over the pairs: Rafailov et al. 2023, equation 7."""
    loss, right = 0.0, 0
    for ask, yes, no, (ref_yes, ref_no) in PAIRS:
        margin = (answer_log_p(task, ask, yes) - ref_yes) - (answer_log_p(task, ask, no) - ref_no)
        loss += (1 - flipped) * np.log1p(np.exp(-BETA * margin))
        loss += flipped * np.log1p(np.exp(BETA * margin))
        right += margin > 0
    return loss, right


@pytest.mark.parametrize("model", [*DECODERS, "transformer"])
def test_the_loss_is_that_of_the_paper(model: str) -> None:
    task = made(model).eval()
    known = tokenizer("dpo")
    output = task(task.collate([task.encode(known, row) for row in table()], CPU))
    loss, right = expected(task)
    assert float(output.loss.detach()) == pytest.approx(loss, rel=1e-10)
    assert (int(output.correct), int(output.tokens)) == (right, len(PAIRS))


def test_label_smoothing_is_the_probability_of_a_flipped_pair() -> None:
    task = made("llama", label_smoothing=0.2)
    batch = task.collate([task.encode(tokenizer("dpo"), row) for row in table()], CPU)
    assert float(task(batch).loss.detach()) == pytest.approx(expected(task, 0.2)[0], rel=1e-10)
    assert float(task.eval()(batch).loss) == pytest.approx(expected(task)[0], rel=1e-10)


@pytest.mark.parametrize("bug", ["prompt counted", "means", "no reference"])
def test_a_planted_bug_would_be_noticed(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = made("llama").eval()
    batch = task.collate([task.encode(tokenizer("dpo"), row) for row in table()], CPU)
    if bug == "prompt counted":
        batch.targets[:, :-1] = batch.tokens[:, 1:]
    elif bug == "means":
        right = Dpo.answer_log_probs
        lengths = (batch.targets >= 0).sum(1).view(-1, 2)
        monkeypatch.setattr(Dpo, "answer_log_probs", lambda *args: right(*args) / lengths)
    else:
        batch.labels.zero_()
    assert abs(float(task(batch).loss.detach()) - expected(task)[0]) > 1e-3


def test_few_logits_at_a_time_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    task = made("llama")
    examples = [task.encode(tokenizer("dpo"), row) for row in table()]
    batch = task.collate(examples, CPU)
    task(batch).loss.backward()
    whole = [weight.grad.clone() for weight in task.parameters()]
    task.zero_grad()
    monkeypatch.setattr("scriven.tasks.dpo.LOGITS", 1)  # 16 positions, fewer than there are
    task(batch).loss.backward()
    assert sum(len(each.rows[0]) for each in examples) > 32
    for one, weight in zip(whole, task.parameters(), strict=True):
        assert torch.allclose(one, weight.grad, atol=1e-12)


# ---------------------------------------------------------------- rows

USER, YES, NO = ({"role": r, "content": c} for r, c in
                 (("user", "Hi?"), ("assistant", "Yes."), ("assistant", "No.")))  # fmt: skip
SYSTEM = {"role": "system", "content": "Be kind."}
FORMS = {
    "texts": {"prompt": "Hi?", "chosen": "Yes.", "rejected": "No."},
    "messages": {"prompt": [USER], "chosen": [YES], "rejected": [NO]},
    "conversations": {"chosen": [USER, YES], "rejected": [USER, NO]},
    "both": {"prompt": "Hi?", "chosen": [USER, YES], "rejected": [USER, NO]},
    "transcripts": {
        "chosen": "\n\nHuman: Hi?\n\nAssistant: Yes.",
        "rejected": "\n\nHuman: Hi?\n\nAssistant: No.",
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_the_forms_that_tables_have_are_the_same_pair(form: str) -> None:
    columns = match_columns(Dpo.COLUMNS, FORMS[form], named=False)
    assert columns is not None
    row = read_row(Dpo.COLUMNS, columns, FORMS[form])
    Dpo.check_answer(row)
    task, known = made("llama"), tokenizer("dpo")
    plain = read_row(Dpo.COLUMNS, {name: name for name in Dpo.COLUMNS}, FORMS["texts"])
    assert task.encode(known, row) == task.encode(known, plain)


def test_a_system_message_and_earlier_answers_are_read_and_not_learned() -> None:
    task, known = made("llama"), tokenizer("dpo")
    talk = [SYSTEM, USER, NO, USER]
    row = {"prompt": talk, "chosen": [YES], "rejected": [NO]}
    example = task.encode(known, row)
    learned = [token for token in example.targets[0] if token >= 0]
    assert learned == [*known.encode("Yes."), known.special["<|im_end|>"]]


BAD = {
    "has no prompt": {"prompt": "Yes.", "chosen": "Yes.", "rejected": "No."},
    "differ before": {"chosen": [USER, YES], "rejected": [{**USER, "content": "Ho?"}, NO]},
    "does not end with an answer": {"chosen": [USER, YES, USER], "rejected": [USER, NO]},
    "is empty": {"prompt": "Hi?", "chosen": " ", "rejected": "No."},
}


@pytest.mark.parametrize("why", BAD)
def test_a_row_that_cannot_be_used_says_why(why: str) -> None:
    columns = match_columns(Dpo.COLUMNS, BAD[why])
    assert columns is not None
    with pytest.raises(BadValue, match=why):
        Dpo.check_answer(read_row(Dpo.COLUMNS, columns, BAD[why]))


def test_equal_answers_are_left_out() -> None:
    row = {"prompt": [USER], "chosen": [YES], "rejected": [YES]}
    with pytest.raises(NothingToLearn):
        Dpo.check_answer(row)


def test_a_long_prompt_loses_its_beginning_on_both_sides_alike() -> None:
    task, known = made("llama"), tokenizer("dpo")
    row = {"prompt": [{"role": "user", "content": "abc " * 40}],
           "chosen": [{"role": "assistant", "content": "a" * 30}],
           "rejected": [{"role": "assistant", "content": "b"}]}  # fmt: skip
    example = task.encode(known, row)
    limit = task.max_length
    assert max(map(len, example.rows)) == limit and example.cut > 0
    first = [next(i for i, t in enumerate(each) if t >= 0) for each in example.targets]
    assert first[0] == first[1]
    assert example.rows[0][: first[0] + 1] == example.rows[1][: first[0] + 1]
