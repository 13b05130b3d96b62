"""Answers to the rows of a table: labels with probabilities, scores, choices, or written texts."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from ..runtime import Runtime
from ..tasks.base import BaseTask
from ..tasks.shared.classification import SequenceClassification
from ..tasks.shared.columns import Row
from ..tasks.shared.supervised import Example, SupervisedTask, length_bucketed_batches
from ..tasks.shared.text_generation import TextGeneration
from ..tokenizers import Tokenizer
from .engine import Engine
from .sampling_params import SamplingParams, check_beams

AT_ONCE = 2048
"""Rows that are read together, so that those of about the same length share a portion."""
LONGEST = 256
"""Tokens of a written answer, at most, where nobody says."""


@dataclass(frozen=True)
class Prediction:
    """What a model makes of one row."""

    text: str
    """The label, the score, the chosen text, or the written one."""
    value: float
    """Of a label or choice its place; of a score the score; of a text its tokens."""
    probabilities: tuple[float, ...] = ()
    """The probability of each label or choice."""
    cut: int = 0
    """Tokens of the row that did not fit."""
    ended: bool = True
    """Whether a written answer came to its end by itself."""


class Predictor:
    """A fine-tuned model with what it needs to answer rows.

    Args:
        task: fine-tuned. engine: of the same model, for written answers.
        runtime: precision of labels and scores.
        beams: 1 writes greedily; more search.
        max_new_tokens: of a written answer, at most.

    Raises:
        SettingError: an impossible number of beams, or length penalty.
    """

    def __init__(
        self,
        task: BaseTask,
        tokenizer: Tokenizer,
        engine: Engine,
        runtime: Runtime,
        *,
        beams: int = 1,
        length_penalty: float = 1.0,
        max_new_tokens: int = LONGEST,
    ) -> None:
        assert isinstance(task, SupervisedTask)
        check_beams(beams, length_penalty)
        self.task, self.tokenizer, self.engine = task, tokenizer, engine
        self.runtime = runtime
        self.beams, self.length_penalty, self.longest = beams, length_penalty, max_new_tokens

    def stream(self, rows: Iterable[Row]) -> Iterator[Prediction]:
        """An answer to each row, in their order; any number of rows in constant memory.

        Raises:
            BadValue: a row that cannot be used.
        """
        source = iter(rows)
        while block := list(islice(source, AT_ONCE)):
            yield from self.answer(block)

    def answer(self, rows: Sequence[Row]) -> list[Prediction]:
        """An answer to each row."""
        bare = [self.task.without_answer(row) for row in rows]
        examples = [self.task.encode(self.tokenizer, row) for row in bare]
        if isinstance(self.task, SequenceClassification):
            return self._labelled(rows, examples)
        return self._written(examples)

    def _labelled(self, rows: Sequence[Row], examples: Sequence[Example]) -> list[Prediction]:
        task: Any = self.task
        found: list[Prediction | None] = [None] * len(rows)
        training = task.training
        task.eval()
        try:
            for numbers in length_bucketed_batches(examples):
                batch = task.collate([examples[number] for number in numbers], self.runtime.device)
                with torch.inference_mode(), self.runtime.autocast():
                    said = task.predictions(batch).cpu()
                for number, row in zip(numbers, said.tolist(), strict=True):
                    text, value, probabilities = task.format_answer(row, rows[number])
                    found[number] = Prediction(text, value, probabilities, examples[number].cut)
        finally:
            task.train(training)
        return [answer for answer in found if answer is not None]

    def _written(self, examples: Sequence[Example]) -> list[Prediction]:
        # those of about the same length together: less padding
        order = sorted(range(len(examples)), key=lambda number: (examples[number].length, number))
        assert isinstance(self.task, TextGeneration)
        questions = [self.task.asked(examples[number]) for number in order]
        if self.beams > 1:
            made = self.engine.beam(
                questions, self.beams, self.longest, length_penalty=self.length_penalty
            )
        else:
            made = self.engine.generate(questions, SamplingParams(temperature=0), self.longest)
        found: list[Prediction | None] = [None] * len(examples)
        for number, each in zip(order, made, strict=True):
            cut, ended = examples[number].cut, each.finish_reason == "eos"
            found[number] = Prediction(each.text.strip(), float(each.tokens), (), cut, ended)
        return [answer for answer in found if answer is not None]
