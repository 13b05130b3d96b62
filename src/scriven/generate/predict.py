"""Predictions for the rows of a table: labels with probabilities, scores, choices, or texts."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from ..runtime import Runtime
from ..tasks.base import BaseTask
from ..tasks.shared.classification import SequenceClassification
from ..tasks.shared.columns import Row
from ..tasks.shared.supervised import Example, SupervisedTask, length_bucketed_batches
from ..tasks.shared.text_generation import TextGeneration
from ..tokenizers import Tokenizer
from .engine import Engine
from .sampling import SamplingParams, check_beams

AT_ONCE = 2048
"""Rows that are read at once, so that rows of similar length share a batch."""
MAX_NEW_TOKENS = 256
"""Default limit of a generated answer, in tokens."""


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for one row."""

    text: str
    """The label, the score, the chosen text, or the generated one."""
    value: float
    """Index of a label or choice; the score; number of tokens of a generated text."""
    probabilities: tuple[float, ...] = ()
    """The probability of each label or choice."""
    cut: int = 0
    """Tokens of the row that did not fit."""
    ended: bool = True
    """Whether a generated text ended by itself, and not at the limit."""


class Predictor:
    """A fine-tuned model with what it needs to predict rows.

    Args:
        task: fine-tuned. engine: of the same model, for generated answers.
        runtime: precision of labels and scores.
        beams: 1 is greedy decoding; more is a beam search.
        max_new_tokens: limit of a generated answer.

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
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> None:
        assert isinstance(task, SupervisedTask)
        check_beams(beams, length_penalty)
        self.task, self.tokenizer, self.engine, self.runtime = task, tokenizer, engine, runtime
        self.beams, self.length_penalty = beams, length_penalty
        self.max_new_tokens = max_new_tokens

    def stream(self, rows: Iterable[Row]) -> Iterator[Prediction]:
        """A prediction for each row, in their order; any number of rows in constant memory.

        Raises:
            BadValue: a row that cannot be used.
        """
        source = iter(rows)
        while block := list(islice(source, AT_ONCE)):
            yield from self.predict(block)

    def predict(self, rows: Sequence[Row]) -> list[Prediction]:
        """A prediction for each row."""
        inputs = [self.task.without_answer(row) for row in rows]
        examples = [self.task.encode(self.tokenizer, row) for row in inputs]
        if isinstance(self.task, SequenceClassification):
            return self._classify(self.task, rows, examples)
        assert isinstance(self.task, TextGeneration)
        return self._generate(self.task, examples)

    def _classify(
        self, task: SequenceClassification, rows: Sequence[Row], examples: Sequence[Example]
    ) -> list[Prediction]:
        predictions: dict[int, Prediction] = {}
        training = task.training
        task.eval()
        try:
            for numbers in length_bucketed_batches(examples):
                batch = task.collate([examples[number] for number in numbers], self.runtime.device)
                with torch.inference_mode(), self.runtime.autocast():
                    outputs = task.predictions(batch).cpu()  # (E, L)
                for number, output in zip(numbers, outputs.tolist(), strict=True):
                    text, value, probabilities = task.format_answer(output, rows[number])
                    cut = examples[number].cut
                    predictions[number] = Prediction(text, value, probabilities, cut)
        finally:
            task.train(training)
        return [predictions[number] for number in range(len(rows))]

    def _generate(self, task: TextGeneration, examples: Sequence[Example]) -> list[Prediction]:
        # rows of similar length share a batch: less padding
        order = sorted(range(len(examples)), key=lambda number: (examples[number].length, number))
        prompts = [task.prompt_of(examples[number]) for number in order]
        if self.beams > 1:
            results = self.engine.beam_search(
                prompts, self.beams, self.max_new_tokens, length_penalty=self.length_penalty
            )
        else:
            greedy = SamplingParams(temperature=0)
            results = self.engine.generate(prompts, greedy, self.max_new_tokens)
        predictions: dict[int, Prediction] = {}
        for number, result in zip(order, results, strict=True):
            text, tokens = result.text.strip(), float(result.tokens)
            cut, ended = examples[number].cut, result.finish_reason == "eos"
            predictions[number] = Prediction(text, tokens, (), cut, ended)
        return [predictions[number] for number in range(len(examples))]
