"""What the engine writes, against reading everything again without a cache for every token."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scriven.generate import engine as engine_module
from scriven.generate.engine import Engine
from scriven.generate.model_runner import ModelRunner
from scriven.generate.sampling import SamplingParams
from scriven.generate.sequence import Sequence
from scriven.runtime import Runtime
from scriven.tasks.language import Language
from scriven.tokenizers.base import Tokenizer

Slowly = Callable[..., list[int]]
PROMPTS = ["", "It was", "a", "A dark and stormy night, and", "é🙂", "It was", "x" * 40, " "]
SETTINGS = [
    SamplingParams(temperature=0),
    SamplingParams(temperature=1.2),
    SamplingParams(temperature=0, repetition_penalty=1.5),
    SamplingParams(temperature=0.8, top_k=30, top_p=0.9, min_p=0.01, repetition_penalty=1.1),
]


@pytest.mark.parametrize("sampling", SETTINGS)
def test_a_batch_equals_every_row_alone_and_without_a_cache(
    random_task: Language,
    tokenizer: Tokenizer,
    sampling: SamplingParams,
    written: dict[Sequence, list[int]],
    write_slowly: Slowly,
) -> None:
    engine = Engine(random_task, tokenizer)
    together = engine.generate(PROMPTS, sampling, 40, seed=3)  # twice round the context
    assert len(written) == len(PROMPTS)
    for row, (found, ids) in enumerate(zip(together, written.values(), strict=True)):
        truth = write_slowly(random_task, tokenizer, PROMPTS[row], sampling, 40, 3 + row)
        assert ids == truth
        assert (found.text, found.tokens) == (tokenizer.decode(truth), len(truth))


def test_rows_that_end_early_change_nothing_for_the_others(
    random_task: Language, tokenizer: Tokenizer
) -> None:
    engine = Engine(random_task, tokenizer)
    stop = tuple("abcdefgh")
    together = engine.generate(PROMPTS, SamplingParams(temperature=3), 60, stop=stop, seed=3)
    for row, (prompt, found) in enumerate(zip(PROMPTS, together, strict=True)):
        alone = engine.generate(
            [prompt], SamplingParams(temperature=3), 60, stop=stop, seed=3 + row
        )[0]
        assert (found.text, found.tokens) == (alone.text, alone.tokens)
        assert found.finish_reason == alone.finish_reason
    assert len({found.tokens for found in together}) > 4


def test_the_comparison_notices_a_wrong_rule(
    random_task: Language,
    tokenizer: Tokenizer,
    written: dict[Sequence, list[int]],
    monkeypatch: pytest.MonkeyPatch,
    write_slowly: Slowly,
) -> None:
    truth = write_slowly(random_task, tokenizer, "a", SamplingParams(), 40, 0)
    monkeypatch.setattr(
        "scriven.generate.model_runner.length_after_eviction", lambda context: context // 2 - 1
    )
    Engine(random_task, tokenizer).generate(["a"], SamplingParams(), 40)
    assert list(written.values()) != [truth]


def test_the_comparison_notices_a_lost_position(
    random_task: Language,
    tokenizer: Tokenizer,
    written: dict[Sequence, list[int]],
    monkeypatch: pytest.MonkeyPatch,
    write_slowly: Slowly,
) -> None:
    monkeypatch.setattr(ModelRunner, "_next_positions", lambda self, count: None)
    truth = write_slowly(random_task, tokenizer, "a", SamplingParams(), 5, 0)
    Engine(random_task, tokenizer).generate(["a", "A dark and"], SamplingParams(), 5)
    assert next(iter(written.values())) != truth


def test_many_prompts_are_written_in_turns_with_the_same_result(
    random_task: Language, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(random_task, tokenizer)
    whole = [found.text for found in engine.generate(PROMPTS, SamplingParams(), 20)]
    monkeypatch.setattr(engine_module, "BATCH_SIZE", 3)
    assert [found.text for found in engine.generate(PROMPTS, SamplingParams(), 20)] == whole


def test_a_stream_joined_equals_the_text(random_task: Language, tokenizer: Tokenizer) -> None:
    engine = Engine(random_task, tokenizer)
    for seed, prompt in enumerate(PROMPTS):
        for stop in ((), ("a", "\n"), ("e\ufffd",)):
            whole = engine.generate([prompt], SamplingParams(), 40, stop=stop, seed=seed)[0]
            steps = list(engine.stream(prompt, SamplingParams(), 40, stop=stop, seed=seed))
            assert "".join(step.text for step in steps) == whole.text
            last = steps[-1]
            assert (last.tokens, last.finish_reason) == (whole.tokens, whole.finish_reason)
            assert last.prompt_truncated == whole.prompt_truncated
            assert all(step.finish_reason is None and step.text for step in steps[:-1])


def test_the_same_seed_gives_the_same_text_and_another_seed_another(
    random_task: Language, tokenizer: Tokenizer
) -> None:
    engine = Engine(random_task, tokenizer)
    state = torch.get_rng_state()
    first, second = (
        engine.generate(["It was"] * 3, SamplingParams(), 30, seed=7) for _ in range(2)
    )
    assert [found.text for found in first] == [found.text for found in second]
    assert len({found.text for found in first}) == 3
    assert first[1].text == engine.generate(["It was"], SamplingParams(), 30, seed=8)[0].text
    assert torch.equal(torch.get_rng_state(), state), "training's random numbers were moved"


def test_more_tokens_only_make_the_text_longer(random_task: Language, tokenizer: Tokenizer) -> None:
    engine = Engine(random_task, tokenizer)
    for prompt in PROMPTS:
        short, long = (
            "".join(s.text for s in list(engine.stream(prompt, SamplingParams(), n, seed=1))[:-1])
            for n in (25, 60)
        )
        assert long.startswith(short)


def test_training_mode_is_given_back(random_task: Language, tokenizer: Tokenizer) -> None:
    engine = Engine(random_task, tokenizer)
    for mode in (True, False):
        random_task.train(mode)
        engine.generate(["a"], SamplingParams(), 3)
        assert random_task.training is mode
        stream = engine.stream("a", SamplingParams(), 30)
        next(stream)
        stream.close()
        assert random_task.training is mode
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


def test_the_runtime_sets_the_precision_but_on_a_cpu_the_weights_do(
    random_task: Language, tokenizer: Tokenizer
) -> None:
    task = random_task.float()
    seen: list[torch.dtype] = []
    task.backbone.register_forward_hook(lambda _module, _tokens, hidden: seen.append(hidden.dtype))
    task.backbone.norm = torch.nn.Linear(16, 16)  # autocast shows in the type of a product
    half = Runtime(torch.device("cpu"), torch.bfloat16, 1, {})
    elsewhere: Any = SimpleNamespace(device=torch.device("cuda"), autocast=half.autocast)
    for runtime, dtype in (
        (None, torch.float32),
        (half, torch.float32),
        (elsewhere, torch.bfloat16),
    ):
        seen.clear()
        found = Engine(task, tokenizer, runtime).generate(PROMPTS, None, 40, ignore_eos=True)
        assert [text.tokens for text in found] == [40] * len(PROMPTS)
        assert set(seen) == {dtype}
