"""Small models with random weights, a byte tokenizer, and a model that recites a given script."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scriven.generate.model_runner import length_after_eviction
from scriven.generate.sampling import SamplingParams, sample
from scriven.generate.sequence import Sequence
from scriven.models import gpt2, llama
from scriven.settings import TokenizerSettings
from scriven.tasks.base import BaseTask
from scriven.tasks.language import Language
from scriven.tokenizers import byte, char
from scriven.tokenizers.base import Tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """One token per byte, so that characters beyond ASCII take several."""
    return byte.train([], TokenizerSettings(kind="byte"))


@pytest.fixture(scope="session", params=[gpt2, llama], ids=["gpt2", "llama"])
def make_task(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Callable[[int], Language]:
    """From a context to a model with weights so large that every token matters to the next.

    In float64, where reading in pieces or in batches changes nothing visible.
    """

    def make(context: int) -> Language:
        architecture: ModuleType = request.param
        config = architecture.Config(
            vocab_size=tokenizer.vocab_size + 7,  # as if padded to a round size
            context_length=context,
            layers=2,
            heads=2,
            d_model=16,
        )
        task = Language(architecture.Model(config), special=tokenizer.special_token_ids).double()
        generator = torch.Generator().manual_seed(11)
        with torch.no_grad():
            for weight in task.parameters():
                weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float64))
        return task

    return make


@pytest.fixture
def random_task(make_task: Callable[[int], Language]) -> Language:
    """A model with a context of 16 tokens."""
    return make_task(16)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> dict[Sequence, list[int]]:
    """The ids appended to each sequence from now on: bytes say more than broken characters."""
    ids: dict[Sequence, list[int]] = {}
    append = Sequence.append

    def record(sequence: Sequence, token: int) -> str:
        if sequence.finish_reason is None:
            ids.setdefault(sequence, []).append(token)
        return append(sequence, token)

    monkeypatch.setattr(Sequence, "append", record)
    return ids


@dataclass
class Spoken:
    """The state of `Reciter`: how much it has read."""

    length: int = 0
    supports_ragged: bool = False


class Script(nn.Module):
    """A backbone whose hidden state is the id of the token to come."""

    def __init__(self, script: list[int]) -> None:
        super().__init__()
        self.max_position = 10_000
        self.config = SimpleNamespace(context_length=10_000)
        self.script = script

    def new_cache(self, batch: int, capacity: int) -> Spoken:
        return Spoken()

    def forward(self, tokens: Tensor, state: Spoken, positions: Tensor | None) -> Tensor:
        state.length += tokens.shape[1]
        return torch.full((*tokens.shape, 1), self.script[state.length - 1])


class Reciter(BaseTask):
    """Stands in for a task: whatever is read, the next token is the script's next one."""

    def __init__(self, script: list[int], vocab_size: int) -> None:
        nn.Module.__init__(self)
        self.backbone = Script(script)
        self.vocab_size, self.special = vocab_size, {}
        self.anything = nn.Parameter(torch.zeros(1))

    def logits(self, hidden: Tensor) -> Tensor:
        return nn.functional.one_hot(hidden[..., 0], self.vocab_size).float() * 1000


@pytest.fixture(scope="session")
def letters() -> Tokenizer:
    """Characters, of which it knows three."""
    return char.train(["abc"], TokenizerSettings(kind="char"))


@pytest.fixture(scope="session")
def recite(tokenizer: Tokenizer) -> Callable[[list[int]], Any]:
    """A task that writes the given ids after a prompt of one token."""
    return lambda script: Reciter(script, tokenizer.vocab_size)


def slowly(
    task: Language,
    tokenizer: Tokenizer,
    prompt: str,
    sampling: SamplingParams,
    limit: int,
    seed: int,
) -> list[int]:
    """One row, no cache, no padding: the documented rules and nothing else."""
    context = task.backbone.config.context_length
    window = tokenizer.encode(prompt) or [tokenizer.eos]
    if len(window) > context:
        window = window[-(context - context // 4) :]
    seen = torch.zeros(1, tokenizer.vocab_size, dtype=torch.bool)
    seen[0, window] = True
    generator = torch.Generator().manual_seed(seed)
    written: list[int] = []
    while len(written) < limit and tokenizer.eos not in written:
        if len(window) > context:
            window = window[-length_after_eviction(context) :]
        with torch.no_grad():
            hidden = task.backbone(torch.tensor([window]))
            logits = task.logits(hidden)[:, -1, : tokenizer.vocab_size]
        logits[:, tokenizer.pad] = -torch.inf
        number = float(torch.rand((), generator=generator, dtype=torch.float64))
        token = int(sample(logits, sampling, [number], seen))
        seen[0, token] = True
        window = [*window, token]
        written.append(token)
    return written


@pytest.fixture
def write_slowly() -> Callable[..., list[int]]:
    """`slowly`, the truth that an engine is compared with."""
    return slowly
