"""Generates text with a trained model: one text as a stream, or many different ones in a batch.

Edge cases:
- An empty prompt starts from `bos`: the end-of-document token, as if a document had just ended, or
  what begins a line in a text of a single document.
- A prompt longer than the context loses its beginning (`BaseTask.truncate_prompt`);
  `prompt_truncated` counts the tokens left out.
- A text that outgrows the context goes on: the oldest half of the KV cache is evicted
  (`model_runner.py`). A model with an encoder reads all that fits again as its source; one trained
  on source-target pairs ends there.
- The end-of-document token, or what else ends a text in the model's task, ends it, unless that is
  ignored; then it is never chosen.
- Row i of a batch draws from the seed `seed + i`, and equals what it gives alone with that seed.
"""

import time
from collections import abc
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from ..config import MAX_SEED, check_int
from ..errors import InputError, SettingError
from ..runtime import Runtime
from ..tasks.base import BaseTask
from ..tokenizers.base import Tokenizer
from .beam import BeamSearchParams, beam_search
from .model_runner import ModelRunner
from .prompt_lookup import PromptLookup, plan_draft_lengths
from .sampling import MAX_BEAMS, NOT_FINITE, SamplingParams, check_beams, sample_rows
from .sequence import (
    GenerationChunk,
    GenerationResult,
    Sequence,
    check_stop_strings,
    completes_stop_string,
)

BATCH_SIZE = 32
"""Prompts that are generated at once; more are taken in turns, so that memory stays bounded."""

Prompt = str | abc.Sequence[int]  # A text, or the token ids that the model is to read as they are


class Engine:
    """A model, its tokenizer and the machine."""

    def __init__(
        self,
        task: BaseTask,
        tokenizer: Tokenizer,
        runtime: Runtime | None = None,
        bos: int | None = None,
    ) -> None:
        """Nothing is copied or moved.

        Args:
            runtime: its precision is used on a GPU.
            bos: the token that an empty prompt starts from; by default the end of a document.

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
        self.bos = tokenizer.eos if bos is None else bos
        self.stop_token_ids: frozenset[int] = getattr(task, "stop_token_ids", None) or frozenset(
            {tokenizer.eos}
        )
        if not 0 <= self.bos < tokenizer.vocab_size:
            raise InputError(f"token {self.bos} cannot begin a text: it is not in the vocabulary")
        # a CPU keeps the weights' own precision: a single token is bound by reading the weights,
        # and converting them each time halved the speed (bf16, 10.7 M: 172 against 333 tokens/s)
        self._autocast: Callable[[], AbstractContextManager[object]] = (
            nullcontext if runtime is None or runtime.device.type == "cpu" else runtime.autocast
        )

    def stream(
        self,
        prompt: Prompt,
        sampling: SamplingParams | None = None,
        max_new_tokens: int = 200,
        *,
        stop: str | abc.Sequence[str] = (),
        seed: int = 0,
        ignore_eos: bool = False,
    ) -> Generator[GenerationChunk]:
        """One text, piece by piece; the pieces joined are what `generate` gives.

        A piece never ends within a character, and never holds the beginning of a stop string.
        The last chunk has a `finish_reason`; `close()` ends it earlier. The model must not be
        trained meanwhile. Without `sampling`, tokens come from the model's own distribution.

        Raises:
            SettingError: a setting out of its range.
        """
        (sequence,) = self.sequences([prompt], max_new_tokens, stop, seed)
        return self._chunks(sequence, sampling, ignore_eos)

    def generate(
        self,
        prompts: abc.Sequence[Prompt],
        sampling: SamplingParams | None = None,
        max_new_tokens: int = 200,
        *,
        stop: str | abc.Sequence[str] = (),
        seed: int = 0,
        ignore_eos: bool = False,
    ) -> list[GenerationResult]:
        """A text for each prompt; the same prompt several times gives different samples.

        Raises:
            SettingError: a setting out of its range.
        """
        sequences = self.sequences(prompts, max_new_tokens, stop, seed)
        results: list[GenerationResult] = []
        for start in range(0, len(sequences), BATCH_SIZE):
            batch = sequences[start : start + BATCH_SIZE]
            begin = time.perf_counter()
            for _ in self._decode(batch, sampling, ignore_eos):
                pass
            # all texts of a batch take its time; never 0, as rates divide by it
            seconds = max(time.perf_counter() - begin, 1e-9)
            results += [sequence.result(seconds) for sequence in batch]
        return results

    def beam_search(
        self,
        prompts: abc.Sequence[Prompt],
        beams: int = 4,
        max_new_tokens: int = 200,
        *,
        length_penalty: float = 1.0,
        stop: str | abc.Sequence[str] = (),
        ignore_eos: bool = False,
        num_return: int = 1,
    ) -> list[GenerationResult]:
        """The likeliest text for each prompt that a beam search finds (`beam.py`).

        Args:
            beams: beginnings that are kept at each step; 1 is greedy.
            length_penalty: texts are ranked by log-probability / tokens ** length_penalty.
            num_return: texts of each prompt; those after the first are `others`.

        Raises:
            SettingError: a setting out of its range.
        """
        check_beams(beams, length_penalty)
        if not 1 <= num_return <= beams:
            raise SettingError(f"num_return={num_return}: from 1 to the {beams} beams")
        sequences = self.sequences(prompts, max_new_tokens, stop, 0)
        stops = check_stop_strings(stop)
        batch_size = max(1, MAX_BEAMS // beams)  # each beam is a row of the batch
        params = BeamSearchParams(
            beams, sequences[0].remaining if sequences else 0, length_penalty, self.stop_token_ids,
            completes_stop_string(self.tokenizer, stops), num_return,
        )  # fmt: skip
        results: list[GenerationResult] = []
        for start in range(0, len(sequences), batch_size):
            batch = sequences[start : start + batch_size]
            begin = time.perf_counter()
            with self._runner(ignore_eos) as runner:
                found = beam_search(runner, [sequence.window for sequence in batch], params)
            seconds = max(time.perf_counter() - begin, 1e-9)
            for hypotheses, sequence in zip(found, batch, strict=True):
                texts = []
                for each in hypotheses:  # as text, just as if generated token by token
                    spelled = Sequence(
                        self.tokenizer, [], max_new_tokens=params.max_new_tokens, stop=stops,
                        seed=0, stop_token_ids=self.stop_token_ids,
                        prompt_truncated=sequence.prompt_truncated,
                    )  # fmt: skip
                    for token in each.ids:
                        spelled.append(token)
                    texts.append(spelled.result(seconds, each.score))
                results.append(replace(texts[0], others=tuple(texts[1:])))
        return results

    def _decode(
        self, sequences: list[Sequence], sampling: SamplingParams | None, ignore_eos: bool
    ) -> Iterator[tuple[Sequence, str]]:
        """Generates until all sequences are finished; yields each with its new text at each step.

        Every token is sampled as if its sequence were alone and nothing drafted, with the random
        number that belongs to it.
        """
        sampling, seen, started = sampling or SamplingParams(), None, False
        active = [sequence for sequence in sequences if sequence.finish_reason is None]
        with self._runner(ignore_eos) as runner:
            while active:
                windows = [sequence.window for sequence in active]
                counts = [sequence.num_tokens for sequence in active]
                # 1. decode: one pass over each last token and its draft, or several over the tokens
                # drawn meanwhile; a full context is evicted
                if started and (runner.room or runner.evict_half(windows, counts)):
                    tokens = self._decode_drafts(active, runner, sampling, seen)
                # 2. prefill, at first or where nothing can be evicted: one pass over each text
                else:
                    longest, started = max(sequence.remaining for sequence in active), True
                    logits = runner.prefill(windows, longest, counts)  # (B, V)
                    if sampling.needs_seen_tokens and seen is None:
                        seen = torch.zeros_like(logits, dtype=torch.bool)  # (B, V)
                        for row, window in enumerate(windows):  # as far as the model has read it
                            seen[row, window] = True
                    tokens = sample_tokens(active, logits, sampling, seen)
                # 3. one token at a time where some must be known before: nothing is drafted
                if seen is not None:
                    seen[range(len(active)), [token for row in tokens for token in row]] = True
                # 4. verify: what was sampled counts as far as the draft before it is right
                rejected = []
                for sequence, sampled in zip(active, tokens, strict=True):
                    text, accepted = sequence.verify(sampled)
                    rejected.append(len(sampled) - accepted)
                    yield sequence, text
                # 5. finished rows leave the batch
                goes_on = [sequence.finish_reason is None for sequence in active]
                if not any(goes_on):
                    return
                if not all(goes_on):
                    rows = compacted(goes_on)
                    active = [active[row] for row in rows]
                    rejected = [rejected[row] for row in rows]
                    seen = None if seen is None else seen[rows]
                    runner.reorder(rows, sources_change=True)
                # 6. roll the KV cache back over rejected tokens
                if any(rejected):
                    runner.rollback(rejected)

    def _decode_drafts(
        self,
        active: list[Sequence],
        runner: ModelRunner,
        sampling: SamplingParams,
        seen: Tensor | None,
    ) -> list[list[int]]:
        """The tokens that the model gives after the last token of each sequence and after each of
        its draft, which it remembers."""
        drafted = _draft(active, runner, sampling)  # (B, 1 + K)
        steps = min(runner.max_steps, *(sequence.remaining for sequence in active))
        if len(drafted[0]) > 1 or sampling.native is None or steps < 2:
            logits = runner.decode_many(drafted)  # (B, 1 + K, V)
            return sample_tokens(active, logits.flatten(0, 1), sampling, seen)
        # without drafts, several tokens at once; each but the last has been read already
        uniforms, ends = random_numbers(active, sampling, steps), sorted(self.stop_token_ids)
        settings, last = [sampling.native] * len(active), [row[0] for row in drafted]
        tokens = runner.decode_steps(last, settings, uniforms, ends)
        if any(row[-1] < 0 for row in tokens):
            raise InputError(NOT_FINITE)
        for sequence, row in zip(active, tokens, strict=True):
            sequence.draft = row[:-1]
        return tokens

    def _chunks(
        self, sequence: Sequence, sampling: SamplingParams | None, ignore_eos: bool
    ) -> Generator[GenerationChunk]:
        text, cut = "", sequence.prompt_truncated
        for _, text in self._decode([sequence], sampling, ignore_eos):
            if text and sequence.finish_reason is None:
                yield GenerationChunk(text, sequence.num_tokens, None, cut)
        yield GenerationChunk(text, sequence.num_tokens, sequence.finish_reason, cut)

    def sequences(
        self,
        prompts: abc.Sequence[Prompt],
        max_new_tokens: int,
        stop: str | abc.Sequence[str],
        seed: int,
    ) -> list[Sequence]:
        """The texts to generate, one for each prompt, with the prompt as token ids.

        Raises:
            SettingError: a setting out of its range. InputError: a prompt of another type.
        """
        if isinstance(prompts, str):
            raise InputError("prompts: give a list of texts")
        check_int("max-new-tokens", max_new_tokens, 2**63 - 1)
        check_int("seed", seed, MAX_SEED)
        stops = check_stop_strings(stop)
        if self.task.max_new_tokens is not None:
            max_new_tokens = min(max_new_tokens, self.task.max_new_tokens)
        sequences = []
        for row, prompt in enumerate(prompts):
            if isinstance(prompt, str):
                ids = self.task.encode_prompt(self.tokenizer, prompt)
            elif isinstance(prompt, list | tuple):
                ids = list(prompt)
                for token in ids:
                    if not isinstance(token, int) or not 0 <= token < self.tokenizer.vocab_size:
                        raise InputError(
                            f"a prompt of token ids holds {token!r}: ids go from 0 to "
                            f"{self.tokenizer.vocab_size - 1}; or give a text"
                        )
            else:
                raise InputError(f"a prompt must be text, not {type(prompt).__name__}")
            ids = ids or [self.bos]
            window = self.task.truncate_prompt(ids)
            sequence = Sequence(
                self.tokenizer, window, max_new_tokens=max_new_tokens, stop=stops, seed=seed + row,
                stop_token_ids=self.stop_token_ids,
                prompt_truncated=max(0, len(ids) - len(window)),
            )  # fmt: skip
            sequences.append(sequence)
        return sequences

    @contextmanager
    def _runner(self, ignore_eos: bool) -> Iterator[ModelRunner]:
        """The model without dropout; afterwards it is in training mode again, if it was."""
        training = self.task.training
        self.task.eval()
        try:
            yield self.new_runner(ignore_eos)
        finally:
            self.task.train(training)

    def new_runner(self, ignore_eos: bool = False) -> ModelRunner:
        """A runner of the model, which must be in evaluation mode while it is used."""
        # special tokens that end nothing are never generated, nor are ids without a token
        banned = set(self.tokenizer.special_token_ids.values()) - self.stop_token_ids
        banned |= self.tokenizer.gaps
        if ignore_eos:
            banned |= self.stop_token_ids
        return ModelRunner(self.task, self.tokenizer.vocab_size, sorted(banned), self._autocast)


def random_numbers(active: list[Sequence], sampling: SamplingParams, count: int) -> list[float]:
    """For the next tokens of each sequence, so many: (B · count); any where sampling is greedy."""
    if sampling.greedy:
        return [0.0] * (len(active) * count)
    return [number for sequence in active for number in sequence.uniforms(count)]


def sample_tokens(
    active: list[Sequence], logits: Tensor, sampling: SamplingParams, seen: Tensor | None
) -> list[list[int]]:
    """The next tokens of each sequence, from the (B · T, V) logits after the last T it has."""
    count = len(logits) // len(active)
    uniforms = random_numbers(active, sampling, count)
    masks = None if seen is None else list(seen)
    tokens = sample_rows(logits, [sampling] * len(logits), uniforms, masks)
    return [tokens[start : start + count] for start in range(0, len(tokens), count)]


def _draft(
    active: list[Sequence], runner: ModelRunner, sampling: SamplingParams
) -> list[list[int]]:
    """(B, 1 + K) the last token of each sequence and its draft, which it remembers; shorter drafts
    are padded, and what is sampled after the padding never counts."""
    # the last token itself takes one place of the room
    room = min(runner.room, max(sequence.remaining for sequence in active)) - 1
    drafts: list[list[int]] = [[] for _ in active]
    if room > 1 and not sampling.needs_seen_tokens:
        for sequence in active:
            sequence.lookup = sequence.lookup or PromptLookup(sequence.window)
        lookups = [each.lookup for each in active if each.lookup]
        drafts = plan_draft_lengths(lookups, room, runner.pass_costs)
    longest = max(map(len, drafts))
    rows = []
    for sequence, draft in zip(active, drafts, strict=True):
        sequence.draft = draft
        rows.append([sequence.window[-1], *draft, *[0] * (longest - len(draft))])
    return rows


def compacted(is_active: list[bool]) -> list[int]:
    """The rows that go on, in their new order: the last ones take the places of finished ones, so
    that as few rows as possible are copied."""
    left = [row for row, active in enumerate(is_active) if active]
    rows = list(range(len(left)))
    for place in rows:
        if not is_active[place]:
            rows[place] = left.pop()
    return rows
