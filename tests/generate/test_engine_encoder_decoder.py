"""What an encoder-decoder writes, against reading source and target anew for every token."""

from collections.abc import Callable

import pytest
import torch

from scriven.generate.engine import Engine
from scriven.generate.model_runner import ModelRunner
from scriven.generate.sampling import SamplingParams, sample
from scriven.generate.sequence import Sequence
from scriven.models import transformer
from scriven.tasks.base import BaseTask
from scriven.tasks.pairs import Pairs
from scriven.tasks.seq2seq import Seq2Seq
from scriven.tokenizers.base import Tokenizer

CONTEXT = 12
PROMPTS = ["", "It was", "a", "A dark and stormy night, and", "é🙂", "It was", "x" * 40, " "]
SETTINGS = [
    SamplingParams(temperature=0),
    SamplingParams(temperature=1.2),
    SamplingParams(temperature=0.8, top_k=30, top_p=0.9, min_p=0.01, repetition_penalty=1.1),
]


@pytest.fixture(scope="session")
def masked(tokenizer: Tokenizer) -> Tokenizer:
    return tokenizer.with_special_tokens("mask")


def make(kind: type[BaseTask], tokenizer: Tokenizer) -> BaseTask:
    """With weights so large that source, place and every token matter to the next, in float64."""
    config = transformer.Config(tokenizer.vocab_size, CONTEXT, layers=2, heads=2, d_model=16)
    task = kind(transformer.Model(config), special=tokenizer.special_token_ids).double()
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, weight in task.named_parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float64))
            if name.endswith("bias") or "embed" in name:
                weight.mul_(0.25)
            elif "norm" in name:
                weight.fill_(1)
        task.backbone.blocks[-1].mlp_norm.weight.fill_(8)
    return task


@pytest.fixture
def task(masked: Tokenizer) -> BaseTask:
    return make(Seq2Seq, masked)


def on_text(text: list[int], written: int, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The documented rule: every half context the whole text becomes the source."""
    new = written % (CONTEXT // 2)
    border = len(text) - new
    assert tokenizer.mask is not None
    source = [*text[:border][-(CONTEXT - 1) :], tokenizer.mask]
    return source, [tokenizer.pad, tokenizer.mask, *text[border:]]


def on_pairs(text: list[int], written: int, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    border = len(text) - written
    return text[:border][:CONTEXT], [tokenizer.pad, *text[border:]]


def write_slowly(
    task: BaseTask,
    tokenizer: Tokenizer,
    rule: Callable[[list[int], int, Tokenizer], tuple[list[int], list[int]]],
    prompt: str,
    sampling: SamplingParams,
    limit: int,
    seed: int,
) -> list[int]:
    """One row, no cache, no padding."""
    text = task.truncate_prompt(tokenizer.encode(prompt) or [tokenizer.eos])
    seen = torch.zeros(1, tokenizer.vocab_size, dtype=torch.bool)
    seen[0, text] = True
    generator = torch.Generator().manual_seed(seed)
    written: list[int] = []
    while len(written) < limit and tokenizer.eos not in written:
        source, tokens = rule([*text, *written], len(written), tokenizer)
        with torch.no_grad():
            hidden = task.backbone(torch.tensor([tokens]), source=torch.tensor([source]))
            logits = task.logits(hidden)[:, -1]
        for token in (tokenizer.pad, tokenizer.mask):
            if token is not None:
                logits[:, token] = -torch.inf
        number = float(torch.rand((), generator=generator, dtype=torch.float64))
        written.append(int(sample(logits, sampling, [number], seen)))
        seen[0, written[-1]] = True
    return written


@pytest.mark.parametrize("sampling", SETTINGS)
def test_a_batch_equals_every_row_alone_and_without_a_cache(
    task: BaseTask, masked: Tokenizer, sampling: SamplingParams, written: dict[Sequence, list[int]]
) -> None:
    together = Engine(task, masked).generate(PROMPTS, sampling, 40, seed=3)  # several sources long
    for row, (found, ids) in enumerate(zip(together, written.values(), strict=True)):
        truth = write_slowly(task, masked, on_text, PROMPTS[row], sampling, 40, 3 + row)
        assert ids == truth
        assert (found.text, found.tokens) == (masked.decode(truth), len(truth))
        assert found.prompt_truncated == max(0, len(masked.encode(PROMPTS[row])) - CONTEXT + 1)


@pytest.mark.parametrize("sampling", SETTINGS)
def test_a_target_of_a_pair_is_written_from_its_own_source(
    tokenizer: Tokenizer, sampling: SamplingParams, written: dict[Sequence, list[int]]
) -> None:
    task = make(Pairs, tokenizer)
    together = Engine(task, tokenizer).generate(PROMPTS, sampling, 40, seed=3)
    for row, (found, ids) in enumerate(zip(together, written.values(), strict=True)):
        truth = write_slowly(task, tokenizer, on_pairs, PROMPTS[row], sampling, CONTEXT, 3 + row)
        assert ids == truth
        ended = truth[-1] == tokenizer.eos
        assert found.finish_reason == ("eos" if ended else "length")
        assert found.prompt_truncated == max(0, len(tokenizer.encode(PROMPTS[row])) - CONTEXT)


def test_the_comparison_notices_a_lost_padding(
    task: BaseTask,
    masked: Tokenizer,
    written: dict[Sequence, list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truth = write_slowly(task, masked, on_text, "a", SamplingParams(temperature=0), 20, 0)
    pad_left = ModelRunner._pad_left
    monkeypatch.setattr(
        ModelRunner, "_pad_left", lambda self, rows: (pad_left(self, rows)[0], None)
    )
    Engine(task, masked).generate(["a", "A dark and"], SamplingParams(temperature=0), 20)
    assert next(iter(written.values())) != truth


def test_the_comparison_notices_a_source_that_is_not_read_again(
    task: BaseTask,
    masked: Tokenizer,
    written: dict[Sequence, list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truth = write_slowly(task, masked, on_text, "a", SamplingParams(), 12, 0)
    monkeypatch.setattr(Seq2Seq, "max_context", property(lambda self: CONTEXT))
    Engine(task, masked).generate(["a"], SamplingParams(), 12)
    assert next(iter(written.values())) != truth


def test_rows_that_end_early_change_nothing_for_the_others(
    task: BaseTask, masked: Tokenizer
) -> None:
    engine = Engine(task, masked)
    stop = tuple("abcdefghijklmnopqrstuv")
    together = engine.generate(PROMPTS, SamplingParams(temperature=3), 60, stop=stop, seed=3)
    for row, (prompt, found) in enumerate(zip(PROMPTS, together, strict=True)):
        alone = engine.generate(
            [prompt], SamplingParams(temperature=3), 60, stop=stop, seed=3 + row
        )[0]
        assert (found.text, found.tokens) == (alone.text, alone.tokens)
    assert len({found.tokens for found in together}) > 4


def test_a_stream_joined_equals_the_text(task: BaseTask, masked: Tokenizer) -> None:
    engine = Engine(task, masked)
    for prompt in PROMPTS:
        whole = engine.generate([prompt], SamplingParams(), 30)[0]
        steps = list(engine.stream(prompt, SamplingParams(), 30))
        assert "".join(step.text for step in steps) == whole.text
        assert (steps[-1].tokens, steps[-1].finish_reason) == (whole.tokens, whole.finish_reason)


def test_marks_and_padding_are_never_written(
    task: BaseTask, masked: Tokenizer, written: dict[Sequence, list[int]]
) -> None:
    with torch.no_grad():  # nothing is likelier than these two
        task.backbone.embed.token.weight[[masked.pad, masked.mask]] *= 100
    Engine(task, masked).generate(["a"] * 8, SamplingParams(temperature=2), 40, ignore_eos=True)
    seen = {token for ids in written.values() for token in ids}
    assert len(written) == 8
    assert not seen & {masked.pad, masked.mask, masked.eos}
