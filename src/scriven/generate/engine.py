"""Writes text with a trained model: one text as a stream, or many different ones at once.

What happens at the edges:
- An empty prompt starts from `opening`: the end-of-document token, as if a document had just ended,
  or what a text of a single document, in which no document ever ended, begins a line with.
- A prompt longer than the context loses its beginning (`Objective.shorten`): of a decoder's, the
  last three quarters of a context are read, so that there is room to write; `prompt_truncated`
  counts the tokens left out.
- A text that outgrows the context goes on: the oldest half is forgotten (`reader.py`). A model with
  an encoder reads all that fits again as its source; one trained on pairs has come to its end.
- The end-of-document token, or what else ends a text in the model's task, ends it, unless that is
  ignored; then it is never chosen.
- A prompt that is a list of token ids is read as it is.
- Row i of a batch draws from the seed `seed + i`, and equals what it gives alone with that seed.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

from ..errors import InputError, SettingError
from ..runtime import Runtime
from ..tasks.base import BaseTask
from ..tokenizers.base import Tokenizer
from .beam import Hypothesis, Plan, search
from .model_runner import ModelRunner
from .prompt import Prompt, prompt_ids
from .row import Row, stops_on
from .sampling_params import LARGEST_SEED, MOST_BEAMS, SamplingParams, check_beams, check_whole
from .stopping import check_stops
from .write import write
from .written import GenerationChunk, GenerationResult

__all__ = ["PLAIN", "TOGETHER", "Engine", "GenerationChunk", "GenerationResult"]

PLAIN = SamplingParams()
"""Draws from the model's own distribution."""

TOGETHER = 32
"""Prompts that are written at once; more are taken in turns, so memory stays bounded."""


class Engine:
    """A model, its tokenizer and the machine."""

    def __init__(
        self,
        task: BaseTask,
        tokenizer: Tokenizer,
        runtime: Runtime | None = None,
        opening: int | None = None,
    ) -> None:
        """Nothing is copied or moved.

        A GPU computes in the runtime's precision; without a runtime, and on a CPU, the weights'
        own is used: there a single token is bound by reading the weights, and converting all of
        them anew for each token halved the speed (bf16, 10.7 M parameters: 172 against 333 tokens
        a second).

        Raises:
            InputError: the tokenizer has tokens that the model does not know.
        """
        if tokenizer.vocab_size > task.vocab_size:
            raise InputError(
                f"the tokenizer has {tokenizer.vocab_size:,} tokens but the model knows "
                f"{task.vocab_size:,}: use the tokenizer it was trained with"
            )
        self.task = task
        self.tokenizer = tokenizer
        self.opening = tokenizer.eos if opening is None else opening
        self.ends: frozenset[int] = getattr(task, "ends", None) or frozenset({tokenizer.eos})
        if not 0 <= self.opening < tokenizer.vocab_size:
            raise InputError(
                f"token {self.opening} cannot begin a text: it is not in the vocabulary"
            )
        self._autocast: Callable[[], AbstractContextManager[object]] = (
            nullcontext if runtime is None or runtime.device.type == "cpu" else runtime.autocast
        )

    def stream(
        self,
        prompt: Prompt,
        sampling: SamplingParams = PLAIN,
        max_new_tokens: int = 200,
        *,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        ignore_eos: bool = False,
    ) -> Generator[GenerationChunk]:
        """One text, piece by piece; the pieces joined are what `generate` gives.

        A piece never ends within a character, and never holds the beginning of a stop string.
        The last step has a `finish_reason`; `close()` ends it earlier. The model must not be
        trained meanwhile.

        Raises:
            SettingError: a setting out of its range.
        """
        rows, (cut,) = self._rows([prompt], max_new_tokens, stop, seed)
        return self._stream(rows[0], cut, sampling, ignore_eos)

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: SamplingParams = PLAIN,
        max_new_tokens: int = 200,
        *,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        ignore_eos: bool = False,
    ) -> list[GenerationResult]:
        """A text for each prompt; the same prompt several times gives different samples.

        Raises:
            SettingError: a setting out of its range.
        """
        rows, cuts = self._rows(prompts, max_new_tokens, stop, seed)
        result: list[GenerationResult] = []
        for start in range(0, len(rows), TOGETHER):
            batch = rows[start : start + TOGETHER]
            begin = time.perf_counter()
            for _ in self._write(batch, sampling, ignore_eos):
                pass
            seconds = max(time.perf_counter() - begin, 1e-9)
            for row, cut in zip(batch, cuts[start:], strict=False):
                assert row.finish_reason is not None
                rate = row.tokens / seconds
                result.append(
                    GenerationResult(row.news(), row.tokens, seconds, rate, row.finish_reason, cut)
                )
        return result

    def beam(
        self,
        prompts: Sequence[Prompt],
        beams: int = 4,
        max_new_tokens: int = 200,
        *,
        length_penalty: float = 1.0,
        stop: str | Sequence[str] = (),
        ignore_eos: bool = False,
        best: int = 1,
    ) -> list[GenerationResult]:
        """The likeliest text for each prompt that a beam search finds (`beam.py`).

        Args:
            prompts: as for `generate`.
            beams: beginnings that are kept at each turn; 1 is greedy.
            max_new_tokens: longest text.
            length_penalty: texts are ranked by log-probability / tokens ** length_penalty.
            stop, ignore_eos: as for `generate`.
            best: how many texts of each prompt are asked for; those after the first are `others`.

        Raises:
            SettingError: a setting out of its range.
        """
        check_beams(beams, length_penalty)
        if not 1 <= best <= beams:
            raise SettingError(f"best={best}: from 1 to the {beams} beams")
        rows, cuts = self._rows(prompts, max_new_tokens, stop, 0)
        together = max(1, MOST_BEAMS // beams)
        result: list[GenerationResult] = []
        for start in range(0, len(rows), together):
            batch = rows[start : start + together]
            stops, limit = check_stops(stop), batch[0].left
            plan = Plan(
                beams, limit, length_penalty, self.ends, stops_on(self.tokenizer, stops), best
            )
            begin = time.perf_counter()
            with self._writing():
                found = search(self._reader(ignore_eos), [row.window for row in batch], plan)
            seconds = max(time.perf_counter() - begin, 1e-9)
            for hypotheses, cut in zip(found, cuts[start:], strict=False):
                made = [self._told(each, limit, stops, seconds, cut) for each in hypotheses]
                result.append(replace(made[0], others=tuple(made[1:])))
        return result

    def _told(
        self, found: Hypothesis, limit: int, stops: tuple[str, ...], seconds: float, cut: int
    ) -> GenerationResult:
        """A hypothesis as a text, just as if its tokens had been written one by one."""
        row = Row(self.tokenizer, [], limit=limit, stops=stops, seed=0, ends=self.ends)
        for token in found.ids:
            row.take(token)
        assert row.finish_reason is not None
        rate, reason = row.tokens / seconds, row.finish_reason
        return GenerationResult(row.news(), row.tokens, seconds, rate, reason, cut, found.score)

    def _rows(
        self, prompts: Sequence[Prompt], limit: int, stop: str | Sequence[str], seed: int
    ) -> tuple[list[Row], list[int]]:
        """Checks what is asked for; the rows, and how much of each prompt did not fit."""
        if isinstance(prompts, str):
            raise InputError("prompts: give a list of texts")
        check_whole("max-new-tokens", limit, 2**63 - 1)
        check_whole("seed", seed, LARGEST_SEED)
        stops = check_stops(stop)
        if self.task.max_new_tokens is not None:
            limit = min(limit, self.task.max_new_tokens)
        rows: list[Row] = []
        cuts: list[int] = []
        for number, prompt in enumerate(prompts):
            ids = prompt_ids(self.task, self.tokenizer, prompt) or [self.opening]
            window = self.task.truncate_prompt(ids)
            cuts.append(max(0, len(ids) - len(window)))  # what a task adds fits beside the rest
            row = Row(
                self.tokenizer,
                window,
                limit=limit,
                stops=stops,
                seed=seed + number,
                ends=self.ends,
            )
            rows.append(row)
        return rows, cuts

    def _stream(
        self, row: Row, cut: int, sampling: SamplingParams, ignore_eos: bool
    ) -> Generator[GenerationChunk]:
        for _ in self._write([row], sampling, ignore_eos):
            if row.finish_reason is None and (text := row.news()):
                yield GenerationChunk(text, row.tokens, None, cut)
        yield GenerationChunk(row.news(), row.tokens, row.finish_reason, cut)

    def _write(self, rows: list[Row], sampling: SamplingParams, ignore_eos: bool) -> Iterator[None]:
        """Adds tokens to unfinished rows until there are none; comes back after each turn."""
        live = [row for row in rows if row.finish_reason is None]
        if live:
            reader = self._reader(ignore_eos)
            with self._writing():
                yield from write(reader, live, sampling)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """The model without dropout; afterwards it trains on, if it did."""
        training = self.task.training
        self.task.eval()
        try:
            yield
        finally:
            self.task.train(training)

    def _reader(self, ignore_eos: bool) -> ModelRunner:
        banned = set(self.tokenizer.special_token_ids.values()) - self.ends
        if ignore_eos:
            banned |= self.ends
        return ModelRunner(self.task, self.tokenizer.vocab_size, sorted(banned), self._autocast)
