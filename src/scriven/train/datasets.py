"""What a run is trained on: windows of a text in random or sequential order, pairs, or table rows.

A batch is a pure function of (seed, number of its first sample), so a data loader has no state to
save and any number of processes reads the same rows.
"""

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from ..data.batch import Batch
from ..data.pairs import PairDataset, pair_targets
from ..data.sampler import SequentialSampler, ShuffledSampler, length_bucketed_rows
from ..data.shards import TokenDataset, TokenFile
from ..evaluate.loss import Score, scored_bytes, token_nll
from ..evaluate.ngram import MAX_TOKENS, NGram, default_order
from ..files import write_file
from ..generate.engine import Engine
from ..generate.fill_mask import show_predictions
from ..generate.sampling import SamplingParams
from ..runtime import Runtime
from ..tasks.base import BaseTask
from ..tasks.pairs import Pairs
from ..tokenizers import Tokenizer
from .autoconfig import TrainPlan

SAMPLE_TOKENS, SAMPLE_SECONDS = 200, 10.0
"""Longest text that a sample generates, and how long a large model may take for it."""


class TrainDataset(ABC):
    """Training and validation data of a run. `setup` comes before the methods that read it."""

    tokenizer: Tokenizer
    eval_tokens: int | None = None
    """Tokens of the validation part that are evaluated, from its beginning; None: all."""
    prompt_tokens = 0
    """Tokens of the validation part that a sample goes on from."""
    final_passes: ClassVar[int] = 1
    """How often the end of a run reads the validation part: for its loss, and for its results."""
    warning: str | None = None
    """A sentence for the user before the first step, which `setup` may find."""

    def setup(
        self, task: BaseTask, seed: int, batch_size: int, rows: slice, device: torch.device
    ) -> None:
        """Connects the data with the model that reads it.

        Args:
            batch_size: rows of the whole batch.
            rows: the rows of the batch that this process reads.
        """
        self.task, self.seed, self.device = task, seed, device
        self.batch_size, self.rows = batch_size, rows

    def fit_head(self, plan: TrainPlan, runtime: Runtime) -> str | None:
        """Fits what can be fitted before the first step; a sentence for the user about it."""
        return None

    @property
    @abstractmethod
    def bos(self) -> int:
        """The token that an empty prompt stands for."""

    @property
    @abstractmethod
    def info(self) -> dict[str, Any]:
        """The section `data` of scriven.json."""

    @abstractmethod
    def batch(self, sample: int) -> Batch:
        """This process's rows of the training batch whose first row has this number."""

    @abstractmethod
    def eval_batches(self) -> Iterator[Batch]:
        """The validation part, or its first `eval_tokens`."""

    @abstractmethod
    def eval_bytes(self) -> int:
        """UTF-8 bytes of the validation targets, for bits per byte; 0 if that has no meaning."""

    @abstractmethod
    def baseline(self) -> tuple[dict[str, Any], str]:
        """Scores of a simple method on the same split, and a sentence about them."""

    @abstractmethod
    def sample(self, engine: Engine, runtime: Runtime) -> str:
        """An example of what the model generates."""

    @abstractmethod
    def results(
        self, engine: Engine, runtime: Runtime, score: Score, metadata: dict[str, Any], folder: Path
    ) -> dict[str, Any]:
        """Results of the finished model besides its loss.

        Args:
            score: the last evaluation.
            metadata: the content of scriven.json, with the baseline.
            folder: the run folder, for results that are files.
        """


class TextDataset(TrainDataset):
    """Windows of a text in random order, each once per epoch."""

    def __init__(self, corpus: TokenDataset) -> None:
        self.corpus, self.tokenizer = corpus, corpus.tokenizer

    @property
    def bos(self) -> int:
        """EOS if it stands between documents. A model of a single document has never read EOS:
        there a text begins as a line does, or, without lines, as the document does."""
        corpus, tokenizer = self.corpus, self.tokenizer
        if corpus.documents > 1:
            return tokenizer.eos
        newline = tokenizer.encode("\n")
        beginning = corpus.train.read(0, min(len(corpus.train), 1_000_000))
        return newline[0] if len(newline) == 1 and newline[0] in beginning else int(beginning[0])

    @property
    def info(self) -> dict[str, Any]:
        corpus = self.corpus
        pairs = PairDataset(corpus.train, corpus.tokenizer.eos) if corpus.pairs else None
        return {
            "fingerprint": corpus.fingerprint,
            "sources": corpus.sources,
            # what was downloaded, with its checksum
            "downloads": [note for note in corpus.notes if "://" in note],
            "characters": corpus.characters,
            "documents": corpus.documents,
            "rows": None if pairs is None else len(pairs),
            "train_tokens": len(corpus.train),
            "validation_tokens": len(corpus.validation),
            "validation_bytes": corpus.validation_bytes,
            "bos": self.bos,
        }

    def batch(self, sample: int) -> Batch:
        train, first = self.corpus.train, sample + self.rows.start
        count = self.rows.stop - self.rows.start
        sampler = ShuffledSampler(len(train), self.task.window, self.seed)
        starts = sampler.starts(first, count)  # (B,)
        windows = torch.from_numpy(train.read_windows(starts, sampler.length))  # (B, T + 1)
        return self.task.training_batch(windows.to(self.device), first, self.seed)

    def eval_batches(self) -> Iterator[Batch]:
        validation = self.corpus.validation
        if self.eval_tokens is not None:
            validation = validation.head(self.eval_tokens)
        return self.task.eval_batches(validation, self.device)

    def eval_bytes(self) -> int:
        corpus = self.corpus
        if self.eval_tokens is not None:
            return self.count_bytes(corpus.validation.head(self.eval_tokens))
        return scored_bytes(self.task, corpus.validation, corpus.tokenizer, corpus.validation_bytes)

    def count_bytes(self, file: TokenFile) -> int:
        """UTF-8 bytes of the text that tokens spell."""
        return sum(len(self.tokenizer.spell(number)) for number in file.read(0, len(file)).tolist())

    def baseline(self) -> tuple[dict[str, Any], str]:
        scores = ngram_baseline(self.corpus)
        return scores, (
            f"counting {scores['order']}-grams would give a validation loss of {scores['loss']:.3f}"
        )

    def sample(self, engine: Engine, runtime: Runtime) -> str:
        task, validation = engine.task, self.corpus.validation
        # a masked language model fills in tokens of the validation text
        if task.is_masked_lm:
            context_length = task.backbone.config.context_length
            count = min(SAMPLE_TOKENS, context_length, len(validation))
            return show_predictions(
                task, self.tokenizer, validation.read(0, count).tolist(), self.seed
            )
        # any other continues the beginning of that text, or an empty prompt
        count, sampling = min(self.prompt_tokens, len(validation)), SamplingParams(temperature=0.8)
        text, began = self.tokenizer.decode(validation.read(0, count).tolist()), time.monotonic()
        chunks = engine.stream(text, sampling, SAMPLE_TOKENS, seed=self.seed, ignore_eos=True)
        with closing(chunks):
            for chunk in chunks:
                text += chunk.text
                if time.monotonic() - began > SAMPLE_SECONDS:
                    break
        return text

    def results(
        self, engine: Engine, runtime: Runtime, score: Score, metadata: dict[str, Any], folder: Path
    ) -> dict[str, Any]:
        """Bits per byte and the n-grams' loss; the loss of single tokens goes into a file."""
        tokens = token_nll(engine.task, self.corpus.validation, self.tokenizer, runtime)
        content = json.dumps({"tokens": tokens}, ensure_ascii=False)
        write_file(folder / "surprise.json", content.encode())
        return {
            "val_bits_per_byte": score.bits_per_byte,
            "val_perplexity": score.perplexity,
            "ngram_loss": metadata["baseline"]["loss"],
            "ngram_order": metadata["baseline"]["order"],
        }


class RecurrentTextDataset(TextDataset):
    """The text in sequential order, for a model that hands its state on from batch to batch."""

    def batch(self, sample: int) -> Batch:
        train, window = self.corpus.train, self.task.window
        sampler = SequentialSampler(len(train), window, self.batch_size, self.seed)
        starts, begins = sampler.starts(sample)  # (rows of the whole batch,)
        windows = torch.from_numpy(train.read_windows(starts[self.rows], window))  # (B, T + 1)
        first = sample + self.rows.start
        batch = self.task.training_batch(windows.to(self.device), first, self.seed)
        return replace(batch, reset_state=begins)


class TextPairDataset(TextDataset):
    """Source-target pairs in random order, each once per epoch, in batches of like lengths."""

    task: Pairs

    def __init__(self, corpus: TokenDataset) -> None:
        super().__init__(corpus)
        self.pairs = PairDataset(corpus.train, corpus.tokenizer.eos)
        # sorting by the longer side leaves the least padding on both
        self.lengths = self.pairs.lengths.max(1)  # (pairs, 2) -> (pairs,)

    def batch(self, sample: int) -> Batch:
        numbers = length_bucketed_rows(sample, self.batch_size, self.lengths, self.seed)  # (B,)
        return self.task.batch(*self.pairs.read(numbers[self.rows]), self.device)

    def setup(
        self, task: BaseTask, seed: int, batch_size: int, rows: slice, device: torch.device
    ) -> None:
        super().setup(task, seed, batch_size, rows, device)
        context_length = task.backbone.config.context_length
        if truncated := self.pairs.num_truncated(context_length):
            self.warning = (
                f"{truncated:,} pairs have a side longer than {context_length} tokens, which loses "
                "its end"
            )

    def sample(self, engine: Engine, runtime: Runtime) -> str:
        """A few sources of the validation part, each with the target the model generates."""
        pairs = PairDataset(self.corpus.validation, self.tokenizer.eos)
        sources = [self.tokenizer.decode(ids) for ids in pairs.read(range(min(3, len(pairs))))[0]]
        targets = engine.generate(sources, SamplingParams(temperature=0), SAMPLE_TOKENS)
        return "\n\n".join(
            f"{source}\n-> {target.text}" for source, target in zip(sources, targets, strict=True)
        )


def ngram_baseline(corpus: TokenDataset) -> dict[str, Any]:
    """The loss of an n-gram model on the same split."""
    # the end of the training text, which is nearest to the validation part
    order = default_order(corpus.tokenizer.kind)
    used = min(len(corpus.train), MAX_TOKENS)
    train = corpus.train.read(len(corpus.train) - used, used)
    validation = corpus.validation.read(0, len(corpus.validation))
    if corpus.pairs:  # n-grams of the targets alone, each after the one before it
        train, validation = (pair_targets(ids, corpus.tokenizer.eos) for ids in (train, validation))
    model = NGram.fit(train, order=order, vocab_size=corpus.tokenizer.vocab_size)
    loss = model.loss(validation)
    bits = loss * len(validation) / math.log(2) / max(1, corpus.validation_bytes)
    return {"loss": loss, "order": order, "tokens": model.tokens, "bits_per_byte": bits}
