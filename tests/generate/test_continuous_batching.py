"""Continuous batching: a text is the same whoever joins and leaves beside it."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from scriven.errors import InputError
from scriven.generate import continuous_batching
from scriven.generate.continuous_batching import BatchRequest, ContinuousBatch, Step
from scriven.generate.engine import Engine
from scriven.generate.model_runner import ModelRunner
from scriven.generate.sampling import SamplingParams
from scriven.tasks.language import Language
from scriven.tokenizers.base import Tokenizer

SETTINGS = [
    SamplingParams(temperature=0),
    SamplingParams(temperature=1.0),
    SamplingParams(temperature=0.7, top_k=5),
    SamplingParams(temperature=1.3, top_p=0.8, repetition_penalty=1.2),
]
PROMPTS = ["a", "the cat", "", "x" * 40, "some longer beginning of a text"]


def request(
    engine: Engine, prompt: str, params: SamplingParams, tokens: int, seed: int = 0
) -> BatchRequest:
    (sequence,) = engine.sequences([prompt], tokens, (), seed)
    return BatchRequest(sequence, params)


def run(batch: ContinuousBatch) -> list[Step]:
    steps = []
    while batch:
        steps += list(batch.step())
    return steps


def test_a_text_does_not_depend_on_the_others(random_task: Language, tokenizer: Tokenizer) -> None:
    engine = Engine(random_task, tokenizer)
    wishes = [
        (PROMPTS[n % 5], SETTINGS[n % 4], 5 + 7 * (n % 6), n) for n in range(24)
    ]  # some outgrow the context
    expected = [
        engine.generate([prompt], params, tokens, seed=seed)[0]
        for prompt, params, tokens, seed in wishes
    ]
    requests = [request(engine, *wish) for wish in wishes]
    batch, arriving, draw = ContinuousBatch(engine, slots=5), list(requests), random.Random(1)
    shown = {id(each): "" for each in requests}
    while batch or arriving:
        for _ in range(draw.randint(0, 3)):
            if arriving:
                batch.add(arriving.pop(0))
        for step in batch.step():
            shown[id(step.request)] += step.text
        assert batch.running <= 5
    for each, right in zip(requests, expected, strict=True):
        assert each.sequence.text == shown[id(each)] == right.text
        assert each.sequence.finish_reason == right.finish_reason


def test_a_long_prompt_is_read_in_pieces_and_delays_nobody(
    make_task: Callable[[int], Language], tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuous_batching, "PREFILL_TOKENS", 8)
    engine = Engine(make_task(64), tokenizer)
    batch = ContinuousBatch(engine, slots=4)
    short = request(engine, "a", SETTINGS[0], 12)
    batch.add(short)
    list(batch.step())
    long = request(engine, "y" * 40, SETTINGS[0], 3)
    batch.add(long)
    for number in range(4):  # 40 tokens are five pieces of 8
        assert [step.request for step in batch.step()] == [short], number
    assert {step.request for step in batch.step()} == {short, long}
    run(batch)
    assert long.sequence.text == engine.generate(["y" * 40], SETTINGS[0], 3)[0].text


def test_short_prompts_are_read_in_one_pass(
    make_task: Callable[[int], Language], tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, passes = Engine(make_task(64), tokenizer), list[int]()
    whole = ModelRunner.prefill

    def prefill(self: ModelRunner, windows: list[list[int]], *rest: Any, **named: Any) -> Tensor:
        passes.append(len(windows))
        return whole(self, windows, *rest, **named)

    requests = [request(engine, "x" * length, SETTINGS[1], 4) for length in (9, 3, 1, 60, 5)]
    batch = ContinuousBatch(engine, slots=5)
    for each in requests:
        batch.add(each)
    monkeypatch.setattr(ModelRunner, "prefill", prefill)
    assert {step.request for step in batch.step()} == {*requests[:3], requests[4]}
    assert passes == [4]  # those of 18 tokens in all; the one of 60 would exceed 64
    run(batch)
    monkeypatch.undo()
    for each in requests:
        prompt = "x" * (9, 3, 1, 60, 5)[requests.index(each)]
        assert each.sequence.text == engine.generate([prompt], SETTINGS[1], 4)[0].text


def test_a_cancelled_text_frees_its_place(random_task: Language, tokenizer: Tokenizer) -> None:
    engine = Engine(random_task, tokenizer)
    batch = ContinuousBatch(engine, slots=1)
    first = request(engine, "a", SETTINGS[0], 1000)
    second = request(engine, "b", SETTINGS[0], 4)
    batch.add(first)
    batch.add(second)
    list(batch.step())
    assert batch.running == 1 and len(batch.waiting) == 1
    first.cancelled = True
    assert {step.request for step in run(batch)} == {second}
    assert not batch


def test_logprobs_are_those_of_the_model(random_task: Language, tokenizer: Tokenizer) -> None:
    engine = Engine(random_task, tokenizer)
    wish = request(engine, "the cat", SETTINGS[2], 6)
    wish.top_logprobs = 3
    batch = ContinuousBatch(engine, slots=2)
    batch.add(request(engine, "beside", SETTINGS[1], 9))
    batch.add(wish)
    steps = [step for step in run(batch) if step.request is wish]
    ids = engine.task.encode_prompt(tokenizer, "the cat")
    for step in steps:
        with torch.inference_mode():
            hidden = random_task.backbone(torch.tensor([ids]), None, None)
            logits = random_task.logits(hidden)[0, -1, : tokenizer.vocab_size].clone()
        banned = set(tokenizer.special_token_ids.values()) - engine.stop_token_ids
        right = logits.index_fill(0, torch.tensor(sorted(banned)), -torch.inf)
        right = right.double().log_softmax(-1)
        assert step.logprob == pytest.approx(float(right[step.token]), abs=1e-4)
        best = right.topk(3)
        assert [each.token for each in step.top] == best.indices.tolist()
        assert [each.logprob for each in step.top] == pytest.approx(best.values.tolist(), abs=1e-4)
        ids.append(step.token)


class Only:
    """Allows one token, then fails."""

    def __init__(self, token: int) -> None:
        self.token, self.accepted = token, list[int]()

    def __call__(self, logits: Tensor) -> Tensor:
        if len(self.accepted) == 3:
            raise InputError("no more")
        return torch.full_like(logits, -torch.inf).index_fill_(0, torch.tensor(self.token), 0.0)

    def accept(self, token: int) -> None:
        self.accepted.append(token)


def test_a_hook_decides_for_its_own_text_alone(random_task: Language, tokenizer: Tokenizer) -> None:
    engine = Engine(random_task, tokenizer)
    other = request(engine, "the cat", SETTINGS[1], 8)
    forced = request(engine, "the cat", SETTINGS[1], 8)
    (token,) = tokenizer.encode("q")
    forced.hook = Only(token)
    batch = ContinuousBatch(engine, slots=2)
    batch.add(other)
    batch.add(forced)
    steps = run(batch)
    assert forced.sequence.text == "qqq"
    assert [str(step.error) for step in steps if step.error] == ["no more"]
    assert other.sequence.text == engine.generate(["the cat"], SETTINGS[1], 8)[0].text
