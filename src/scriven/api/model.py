"""A trained model: writes, measures itself, and knows its run folder."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import config
from ..data.eval_text import encode_eval_text
from ..data.pipeline import load_dataset
from ..errors import InputError, SettingError
from ..evaluate.loss import Metric, Score, evaluate_loss, scored_bytes
from ..generate.engine import Engine, GenerationChunk, GenerationResult
from ..generate.fill_mask import MaskPrediction, fill
from ..generate.inference_model import ready
from ..generate.sampling_params import SamplingParams, check_beams
from ..report import write_report
from ..runs.folder import find_run
from ..runs.load import Loaded, load_run
from ..runtime import Runtime, decide
from ..settings import DataSettings, RuntimeSettings
from ..tasks.shared.supervised import SupervisedTask
from ..train.resume import plan_from_metadata
from .answers import Answers, as_rows, predictor, task_of
from .scoring import evaluate_rows


class Model:
    """A run folder, loaded."""

    def __init__(self, loaded: Loaded, runtime: Runtime, writing: str | None = None) -> None:
        self.folder = loaded.folder
        self.record = loaded.record
        self.tokenizer = loaded.tokenizer
        self.task = loaded.task.to(runtime.device)
        self.architecture = loaded.architecture
        self.warnings = loaded.warnings
        self.runtime = runtime
        self._writing = writing

    @cached_property
    def engine(self) -> Engine:
        """What writes, with weights laid out for it."""
        opening = self.record["data"].get("opening")
        twin = ready(self.task, self.runtime, self._writing)
        return Engine(twin, self.tokenizer, self.runtime, opening)

    @property
    def results(self) -> dict[str, Any]:
        """What training reached, or nothing for a run that is not finished."""
        return dict(self.record.get("results") or {})

    def generate(self, prompt: str = "", **knobs: Any) -> str:
        """Prompt and continuation; of a model trained on pairs the target alone.

        Args:
            prompt: what the text begins with, a source, or a text with gaps (`fill`).
            knobs: max_new_tokens (200), temperature (0.8, for targets and gaps 0; 0 is greedy),
                top_k, top_p, min_p, repetition_penalty, seed, stop; for a beam search, which draws
                nothing, beams (1) and length_penalty (1.0).

        Raises:
            SettingError: a knob out of its range.
        """
        if self.task.is_masked_lm:
            return self.fill(prompt, **knobs)[0]
        made = self.generate_many([prompt], **knobs)[0].text
        return prompt + made if self.task.echo_prompt else made

    def fill(self, text: str, **knobs: Any) -> tuple[str, list[MaskPrediction]]:
        """The text with a token in place of each `<mask>`, and what was put there.

        Args:
            text: with at least one `<mask>`.
            knobs: temperature (0 by default: the likeliest), top_k, top_p, min_p,
                repetition_penalty, seed.

        Raises:
            InputError: a text without a gap, or a model that does not fill gaps.
        """
        if not self.task.is_masked_lm:
            raise InputError(
                f"{self.record['architecture']} goes on with a text and fills no gaps: "
                "train one that does, with --arch roberta"
            )
        sampling, _, rest = _knobs({"temperature": 0.0, **knobs})
        return fill(self.task, self.tokenizer, text, sampling, rest.get("seed", 0))

    def generate_many(self, prompts: Sequence[str], **knobs: Any) -> list[GenerationResult]:
        """A continuation for each prompt, with its figures; knobs as in `generate`."""
        self._check_writes()
        beams, penalty = knobs.pop("beams", 1), knobs.pop("length_penalty", 1.0)
        check_beams(beams, penalty)
        greedy = beams > 1 or not self.task.echo_prompt
        sampling, tokens, rest = _knobs(_GREEDY | knobs if greedy else knobs)
        if beams == 1:
            return self.engine.generate(prompts, sampling, tokens, **rest)
        if not sampling.greedy or sampling.repetition_penalty != 1:
            raise SettingError(
                f"--beams={beams}: a beam search draws nothing and knows no repetition penalty: "
                "leave --temperature and --repetition-penalty away"
            )
        rest.pop("seed", None)
        return self.engine.beam(prompts, beams, tokens, length_penalty=penalty, **rest)

    def stream(self, prompt: str = "", **knobs: Any) -> Iterator[GenerationChunk]:
        """The continuation piece by piece; knobs as in `generate`."""
        self._check_writes()
        sampling, tokens, rest = _knobs(knobs if self.task.echo_prompt else _GREEDY | knobs)
        return self.engine.stream(prompt, sampling, tokens, **rest)

    def evaluate(
        self,
        *sources: str,
        settings: Mapping[str, object] | None = None,
        metrics: Mapping[str, Metric] | None = None,
        memory: int | None = None,
        **knobs: Any,
    ) -> dict[str, Any]:
        """Loss, perplexity, bits per byte and accuracy over every token; of a fine-tuned model the
        scores of its task.

        Args:
            sources: texts, each as a whole; without any, the validation part of the run's text.
            settings: data settings such as {"data.encoding": "latin-1"}.
            metrics: further functions of logits (N, V) and targets (N,), by name.
            memory: positions of earlier text that a model with a memory keeps, instead of its own
                number; 0 for none.

        Raises:
            SettingError: a memory for a model that has none.
            InputError: a text that cannot be read, or the run's own that has changed.
        """
        if memory is not None:
            self._check_memory(memory)
        data = self.data_settings(settings)
        if isinstance(self.task, SupervisedTask):
            return evaluate_rows(self, sources, data, **knobs)
        if not sources:
            return {**self._validate(data, metrics, memory), **self._baseline()}
        pairs = self.record["task"] == "pairs"
        with encode_eval_text(sources, data, self.tokenizer, pairs=pairs) as text:
            score = self._score(text.shard, text.bytes, metrics, memory)
        return _figures(score)

    def predict(self, inputs: Iterable[Any], **knobs: Any) -> list[tuple[str, float | None]]:
        """The answer to each input, with its probability where it is a label or a choice.

        Args:
            inputs: texts, tuples in the order of the task's columns, or dicts by column.
            knobs: beams, length_penalty, max_new_tokens, for written answers.

        Raises:
            InputError: an input that cannot be used, or a model that is not fine-tuned.
        """
        rows = list(as_rows(task_of(self), inputs))
        answers = predictor(self, **knobs).answer(rows)
        return [(answer.text, max(answer.probabilities, default=None)) for answer in answers]

    def predict_table(
        self, *sources: str, settings: Mapping[str, object] | None = None, **knobs: Any
    ) -> Answers:
        """The rows of tables with their answers, one after the other, in constant memory."""
        return Answers(self, sources, self.data_settings(settings), **knobs)

    def finetune(self, *data: str | Path, **options: Any) -> "Model":
        """A new model for a task, taught by a table; options as in `scriven.finetune`."""
        from .finetuning import finetune

        return finetune(self.folder, *data, **options)

    def report(self) -> Path:
        """Writes report.html again and returns its path."""
        return write_report(self.folder)

    def data_settings(self, settings: Mapping[str, object] | None) -> DataSettings:
        """The run's data settings with changes; answers to rows of a table are left out only where
        that is asked for anew."""
        data = plan_from_metadata(self.record, self.architecture).settings.data
        if isinstance(self.task, SupervisedTask):
            data = dataclasses.replace(data, skip_bad=False)
        for section, changes in config.sections(settings or {}).items():
            if section != "data":
                raise config.unknown(
                    f"--{section}.{next(iter(changes))}", [f"--data.{name}" for name in vars(data)]
                )
            data = config.replace(data, changes, section)
        return data

    def _check_writes(self) -> None:
        if isinstance(self.task, SupervisedTask) and not self.task.is_generative:
            raise InputError(
                f"{self.folder.name} is fine-tuned to {self.record['task']} and writes nothing: "
                f"use scriven predict {self.folder.name} TABLE, or predict in Python"
            )
        if not self.task.is_generative:
            raise InputError(
                f"{self.record['architecture']} fills gaps and goes on with no text: "
                'use fill with a text that has some, as in fill("To <mask> or not to <mask>")'
            )

    def _check_memory(self, memory: int) -> None:
        if not self.task.backbone.remembers:
            raise SettingError(
                f"--memory={memory}: {self.record['architecture']} has no memory of earlier "
                "windows: leave it away"
            )
        if memory < 0:
            raise SettingError(f"--memory={memory}: a whole number from 0 upwards")
        if memory and self.task.backbone.reach is None:
            raise SettingError(
                f"--memory={memory}: what this network remembers has no length; use 0 to measure "
                "it without, or leave it away"
            )

    def _validate(
        self, data: DataSettings, metrics: Mapping[str, Metric] | None, memory: int | None
    ) -> dict[str, Any]:
        known = self.record["data"]
        plan = plan_from_metadata(self.record, self.architecture)
        if known["sources"] == ["-"]:
            raise InputError("this run was trained on standard input: name a text to evaluate on")
        corpus = load_dataset(
            known["sources"],
            data,
            plan.settings.tokenizer,
            seed=plan.seed,
            pairs=plan.task == "pairs",
        )
        if corpus.fingerprint != known["fingerprint"]:
            raise InputError(
                "the text has changed since this run was trained: name a text to evaluate on"
            )
        size = corpus.validation_bytes
        return _figures(self._score(corpus.validation, size, metrics, memory))

    def _score(
        self, shard: Any, size: int, metrics: Mapping[str, Metric] | None, memory: int | None
    ) -> Score:
        score = evaluate_loss(
            self.task,
            self.task.eval_batches(shard, self.runtime.device),
            text_bytes=scored_bytes(self.task, shard, self.tokenizer, size),
            runtime=self.runtime,
            metrics=metrics,
            memory=memory,
        )
        assert score is not None
        return score

    def _baseline(self) -> dict[str, Any]:
        baseline = self.record.get("baseline")
        if not baseline or self.task.loss_unit == "hidden token":  # counting sees one side only
            return {}
        return {"ngram_loss": baseline["loss"], "ngram_order": baseline["order"]}

    def __repr__(self) -> str:
        return f"<scriven.Model {self.folder}>"


def load(
    run: str | Path, *, device: str | None = None, dtype: str | None = None, arch: str | None = None
) -> Model:
    """Any run folder, by path, by name under runs/, or `latest`.

    Args:
        run: which.
        device: cpu, cuda or mps; the fastest found by default.
        dtype: float32, bfloat16 or float16; by default what it was trained in, where it can be.
            int8 is for writing alone, on a processor.
        arch: the file of the user's own architecture, where the run was made with one.

    Raises:
        InputError: no such run. DamagedError: its files are not what was written.
    """
    loaded = load_run(find_run(str(run)), arch)
    writing = dtype
    if dtype == "int8":
        dtype = None
    runtime = decide(RuntimeSettings(device=device, dtype=dtype))  # type: ignore[arg-type]
    trained = loaded.record["environment"]
    if dtype is None and runtime.device.type == trained["device"].split(":")[0]:
        # the precision it was trained in, so that it measures the same
        same = RuntimeSettings(device=device, dtype=trained["dtype"])
        runtime = decide(same)
    return Model(loaded, runtime, writing)


_GREEDY: dict[str, Any] = {"temperature": 0.0}
"""What is usual where a source has one right answer."""


def _knobs(knobs: dict[str, Any]) -> tuple[SamplingParams, int, dict[str, Any]]:
    """(sampling, max_new_tokens, the rest) of a person's keywords."""
    left = {"temperature": 0.8, **knobs}
    apart = ("seed", "stop", "ignore_eos")
    rest: dict[str, Any] = {name: left.pop(name) for name in apart if name in left}
    tokens = left.pop("max_new_tokens", 200)
    try:
        return SamplingParams(**left), tokens, rest
    except TypeError as error:
        known = "max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, stop"
        raise InputError(f"unknown knob ({error}): known are {known}") from error


def _figures(score: Score) -> dict[str, Any]:
    return {
        "loss": score.loss,
        "perplexity": score.perplexity,
        "bits_per_byte": score.bits_per_byte,
        "accuracy": score.accuracy,
        "tokens": score.tokens,
        **score.metrics,
    }
