"""The Python interface: `train`, `finetune` and `load` return a `Model`, which
generates, predicts and evaluates. What only some need is imported there: text comes sooner."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError, SettingError, for_python, has_flags
from .generate.engine import Engine
from .generate.fill_mask import MaskPrediction, fill_mask
from .generate.inference_model import prepare_for_inference
from .generate.predict import Predictor, TablePredictions
from .generate.sampling import GREEDY, SAMPLED, check_beams, parse_generation_args
from .generate.sequence import GenerationChunk, GenerationResult
from .import_.base import open_base
from .nn.quantized import INTEGERS
from .runs.load import Loaded
from .runtime import Runtime, choose_runtime
from .settings import RuntimeSettings
from .tasks.shared.supervised import SupervisedTask

if TYPE_CHECKING:
    from .evaluate.loss import Metric
    from .serve.server import ServerHandle
    from .train.request import TrainRequest, UserComponents
    from .train.trackers.base import BaseTracker


@for_python
class Model:
    """The trained model of a run folder."""

    def __init__(
        self, loaded: Loaded, runtime: Runtime, inference_dtype: str | None = None
    ) -> None:
        self.folder, self.metadata, self.warnings = loaded.folder, loaded.metadata, loaded.warnings
        self.tokenizer, self.architecture = loaded.tokenizer, loaded.architecture
        self.task, self.runtime = loaded.task.to(runtime.device), runtime
        self.step, self._inference_dtype = loaded.step, inference_dtype

    @cached_property
    def engine(self) -> Engine:
        """The generation engine, with a copy of the weights prepared for inference."""
        twin = prepare_for_inference(self.task, self.runtime, self._inference_dtype)
        return Engine(twin, self.tokenizer, self.runtime, self.metadata["data"].get("bos"))

    @property
    def results(self) -> dict[str, Any]:
        """The results of training; empty for a run that is not finished."""
        return dict(self.metadata.get("results") or {})

    def generate(self, prompt: str = "", **sampling: Any) -> str:
        """The prompt and its continuation; of a model trained on pairs the target alone.

        Args:
            prompt: the beginning of the text, a source, or a text with `<mask>` tokens (`fill`).
            sampling: max_new_tokens (200), temperature (0.8; 0 for targets and masks; 0 is greedy),
                top_k, top_p, min_p, repetition_penalty, seed, stop; for beam search, which is
                deterministic, beams (1) and length_penalty (1.0).
        """
        if self.task.is_masked_lm:
            return self.fill(prompt, **sampling)[0]
        text = self.generate_many([prompt], **sampling)[0].text
        return prompt + text if self.task.echo_prompt else text

    def fill(self, text: str, **sampling: Any) -> tuple[str, list[MaskPrediction]]:
        """The text with a token in place of each `<mask>`, and the predictions for each.

        Args:
            text: with at least one `<mask>`.
            sampling: temperature (0 by default), top_k, top_p, min_p, repetition_penalty, seed.

        Raises:
            InputError: a text without `<mask>`, or a model that is not a masked language model.
        """
        if not self.task.is_masked_lm:
            raise InputError(
                f"{self.metadata['architecture']} is no masked language model and fills no <mask>: "
                "train one with --arch roberta"
            )
        parameters, _, rest = parse_generation_args(GREEDY | sampling)
        return fill_mask(self.task, self.tokenizer, text, parameters, rest.get("seed", 0))

    def generate_many(self, prompts: Sequence[str], **sampling: Any) -> list[GenerationResult]:
        """A continuation of each prompt, with its statistics; parameters as in `generate`."""
        self._check_generative()
        beams, penalty = sampling.pop("beams", 1), sampling.pop("length_penalty", 1.0)
        check_beams(beams, penalty)
        # a source has one right target, so nothing is sampled unless a temperature is given
        greedy = beams > 1 or not self.task.echo_prompt
        parameters, tokens, rest = parse_generation_args((GREEDY if greedy else SAMPLED) | sampling)
        if beams == 1:
            return self.engine.generate(prompts, parameters, tokens, **rest)
        if not parameters.greedy or parameters.active:
            raise SettingError(
                f"--beams={beams}: beam search samples nothing and has no repetition penalty: "
                "leave --temperature and --repetition-penalty out"
            )
        rest.pop("seed", None)  # nothing is drawn
        return self.engine.beam_search(prompts, beams, tokens, length_penalty=penalty, **rest)

    def stream(self, prompt: str = "", **sampling: Any) -> Iterator[GenerationChunk]:
        """The continuation, piece by piece; parameters as in `generate`."""
        self._check_generative()
        defaults = SAMPLED if self.task.echo_prompt else GREEDY
        parameters, tokens, rest = parse_generation_args(defaults | sampling)
        return self.engine.stream(prompt, parameters, tokens, **rest)

    def evaluate(
        self,
        *sources: Any,
        settings: Mapping[str, object] | None = None,
        metrics: Mapping[str, "Metric"] | None = None,
        memory: int | None = None,
        sequence_length: int | None = None,
        **decoding: Any,
    ) -> dict[str, Any]:
        """Loss, perplexity, bits per byte and accuracy; of a fine-tuned model its task's scores.

        Args:
            sources: texts or tables, in files or in memory; by default the validation set.
            settings: data settings such as {"data.encoding": "latin-1"}.
            metrics: further functions of logits (N, V) and targets (N,), by name.
            memory: earlier positions that a recurrent model attends to; 0 for none.
            sequence_length: tokens of a window of a text; by default those of a training row.
            decoding: of a fine-tuned model that generates its answers, as in `predict`.

        Raises:
            SettingError: a memory for a model that is not recurrent, or impossible windows.
            InputError: a text that cannot be read, or a validation set that has changed.
        """
        from .data.memory import Naming, as_files
        from .evaluation import TextEvaluator, data_settings, evaluate_table

        evaluator = TextEvaluator(
            self.task, self.tokenizer, self.runtime, self.metadata, metrics, memory, sequence_length
        )
        # a fine-tuned model is scored by the metrics of its task, any other by its loss
        table = isinstance(self.task, SupervisedTask)
        data = data_settings(self.metadata, settings, table=table)
        with as_files(sources, Naming((), lambda: self.tokenizer), texts=not table) as names:
            if table:
                return evaluate_table(self._predictor(decoding), self.metadata, names, data)
            return evaluator.texts(names, data) if names else evaluator.validation(data)

    def predict(self, inputs: Any, **decoding: Any) -> Any:
        """The answer to each input, with its probability where it is a label or a choice: pairs in
        a list, of an iterator in an iterator; a frame comes back with columns for the answers.

        Args:
            inputs: texts, tuples in the order of the task's columns, or dicts by column; a frame,
                a dict of columns, or a data set.
            decoding: beams, length_penalty, max_new_tokens, for generated answers.

        Raises:
            InputError: an input that cannot be used, or a model that is not fine-tuned.
        """
        from .frames import predict

        return predict(self._predictor(decoding), self.metadata, inputs)

    def predict_table(
        self, *sources: str, settings: Mapping[str, object] | None = None, **decoding: Any
    ) -> TablePredictions:
        """Iterates over the rows of tables with their answers, in constant memory."""
        from .evaluation import data_settings

        data = data_settings(self.metadata, settings, table=True)
        return TablePredictions(self._predictor(decoding), self.metadata, sources, data)

    def explain(self, text: str, **options: Any) -> dict[str, Any]:
        """One forward and backward pass over a text, in numbers; options as `evaluate.explain`."""
        from .evaluate.explain import explain

        return explain(self.task, self.tokenizer, text, **options)

    def harness(
        self,
        tasks_folder: str | Path,
        tasks: Sequence[str] = (),
        limit: int | None = None,
        *,
        tell: Callable[[str], None] = lambda _: None,
    ) -> dict[str, Any]:
        """Scores on tasks in the format of EleutherAI's lm-evaluation-harness; downloads nothing.

        Args:
            tasks_folder: a folder of task files, or one YAML file.
            tasks: names of tasks, groups or tags in it; limit: rows of each; all by default.
            tell: called with progress messages.
        """
        from .evaluate.harness import harness

        model = (self.task, self.tokenizer, self.engine, self.runtime)
        return harness(*model, tasks_folder, tasks, limit, tell=tell)

    def train(self, *sources: Any, **options: Any) -> "Model":
        """A new model that goes on from this one with other texts; options as `scriven.train`."""
        return train(*sources, base=self.folder, **options)

    def finetune(self, *data: Any, **options: Any) -> "Model":
        """A new model, fine-tuned on tables; options as in `scriven.finetune`."""
        return finetune(self.folder, *data, **options)

    def serve(self, port: int = 8000, **options: Any) -> "ServerHandle":
        """Serves the model in the background; the handle has `url` and `stop()`."""
        from .serve.server import serve_in_background as serve

        return serve(self, lambda: load(self.folder), port=port, **options)

    def report(self) -> Path:
        """Writes report.html again and returns its path."""
        from .report.page import write_report

        return write_report(self.folder)

    def _predictor(self, decoding: dict[str, Any]) -> Predictor:
        if not isinstance(self.task, SupervisedTask):
            raise InputError(
                f"{self.folder} is not fine-tuned for a task: use scriven finetune "
                f"{self.folder.name} DATA first"
            )
        known = ("beams", "length_penalty", "max_new_tokens")
        for name in decoding.keys() - set(known):
            raise SettingError(f"unknown parameter {name}: known are {', '.join(known)}")
        return Predictor(self.task, self.tokenizer, self.engine, self.runtime, **decoding)

    def _check_generative(self) -> None:
        if isinstance(self.task, SupervisedTask) and not self.task.is_generative:
            raise InputError(
                f"{self.folder.name} is fine-tuned to {self.metadata['task']} and writes nothing: "
                f"use scriven predict {self.folder.name} TABLE, or predict in Python"
            )
        if not self.task.is_generative:
            raise InputError(
                f"{self.metadata['architecture']} fills gaps and goes on with no text: "
                'use fill with a text that has some, as in fill("To <mask> or not to <mask>")'
            )

    def __repr__(self) -> str:
        return f"<scriven.Model {self.folder}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the shape, the result, the loss curves and a sample."""
        from .notebook import loss_curves, notebook_card
        from .train.trackers.jsonl import read_events

        parameters = sum(weight.numel() for weight in self.task.parameters())
        curve = loss_curves(read_events(self.folder / "metrics.jsonl"))
        return notebook_card(self.metadata, parameters, curve)


@for_python
def load(
    run: str | Path, *, device: str | None = None, dtype: str | None = None, arch: str | None = None
) -> Model:
    """Loads the model of a run folder.

    Args:
        run: the path of a run folder, its name under runs/, or `latest`.
        device: cpu, cuda or mps; by default the fastest available.
        dtype: float32, bfloat16 or float16; by default the one used in training, where the device
            has it; or int8 or int4, for generation on a CPU only.
        arch: the file of the user's own architecture, where the run was trained with one.

    Raises:
        InputError: no such run. DamagedError: its files are damaged.
    """
    loaded = open_base(str(run), arch)
    precision: Any = None if dtype in INTEGERS else dtype
    runtime = choose_runtime(RuntimeSettings(device=device, dtype=precision))
    trained = loaded.metadata["environment"]
    if precision is None and runtime.device.type == trained["device"].split(":")[0]:
        # the precision of training, so that an evaluation gives the same numbers
        runtime = choose_runtime(RuntimeSettings(device=device, dtype=trained["dtype"]))
    return Model(loaded, runtime, dtype)


@for_python
def train(
    *sources: Any,
    budget: str | None = None,
    size: str | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    arch: str | None = None,
    preset: str | None = None,
    resume: str | Path | None = None,
    base: str | Path | None = None,
    replay: str | None = None,
    control: bool = False,
    merge: bool = False,
    explain: bool = False,
    quiet: bool = False,
    settings: Mapping[str, object] | None = None,
    began: float | None = None,
) -> Model:
    """Trains a model on texts and returns it; the same call resumes an interrupted run.

    Args:
        sources: files, folders, globs, -, a built-in corpus by name, or data in memory: a text, a
            list or iterator of texts, a frame, ...
        budget: 10m (the default), 2h, 2000steps, 3epochs or 50Mtokens; +1h adds to that of a run to
            resume, which then goes on from before its learning rate fell.
        size: tiny, small, medium, base, large, or a number of parameters such as 12M.
        out, seed: the run folder, runs/NAME by default; the seed of all random numbers.
        arch, preset: the architecture, or a .py file; a TOML file or a built-in preset.
        resume: a run to resume, with its own text and settings.
        base: a model to go on from instead of random weights; its tokenizer and shape stay.
        replay: with a base, older text to mix in, as "old.txt:0.5"; "0" for none.
        control: with a base, train a new model on the same texts and budget too, for comparison.
        merge: with a base and LoRA, save whole weights, not the adapters alone.
        explain, quiet: print every setting with its reason; print nothing.
        settings: any other setting, as in {"optim.lr": 1e-3}.
        began: time.monotonic() from which a wall-clock budget counts; now by default.

    Raises:
        ScrivenError: anything that cannot be done as asked, in one line.
        Interrupted: a KeyboardInterrupt; stopped by a signal, after saving.
    """
    return _trained(
        sources=sources, budget=budget, size=size, out=out and str(out), seed=seed,
        arch=arch, preset=preset, resume=resume and str(resume), explain=explain, quiet=quiet,
        settings=settings or {}, began=began, start=base and str(base), replay=replay,
        control=control, merge=merge,
    )  # fmt: skip


@for_python
def finetune(
    run: str | Path,
    *data: Any,
    task: str | None = None,
    columns: str | Mapping[str, str] = "",
    validation: Any = None,
    group: str | None = None,
    budget: str | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    control: bool = False,
    arch: str | None = None,
    quiet: bool = False,
    settings: Mapping[str, object] | None = None,
    began: float | None = None,
    **named: Any,
) -> Model:
    """Fine-tunes a model and returns the new one; the same call resumes an interrupted run.

    Args:
        run: the model to start from: a path, a name under runs/, or `latest`.
        data: tables, or a built-in one; in memory a list of dicts, a frame, ...
        task: a file of tasks/, such as classify or answer; by default inferred from the columns.
        columns, named: which column is which, as in "text=review,label=stars"; also
            text="review", or text=[...], label=[...] with the values themselves.
        validation: a table to evaluate on; by default a tenth of the rows is held out.
        group: a column, such as author, of which no value may be in both parts of the split.
        budget: 10epochs, 10m, 2000steps; by default ten epochs and at least 400 steps.
        out: the new run folder; runs/RUN-TASK by default.
        control: train the same model without its pre-training too, for comparison.
        arch, settings, seed, quiet, began: as in `load` and `train`, which raises the same.
    """
    if named or not isinstance(columns, str):
        from .frames import named_columns

        data, columns, task = named_columns(data, columns, task, named)
    return _trained(
        base=str(run), sources=data, task=task, columns=columns, validation=validation, group=group,
        budget=budget, out=out and str(out), seed=seed, arch=arch, quiet=quiet,
        settings=settings or {}, began=began, control=control,
    )  # fmt: skip


def _trained(**asked: Any) -> Model:
    """The model of a `TrainRequest`."""
    from .train.request import TrainRequest

    with contextlib.ExitStack() as stack:
        if not has_flags.get():  # a program may give data itself, a command line names of files
            from .frames import request_in_files

            asked = stack.enter_context(request_in_files(asked))
        return trained_model(TrainRequest(**asked))


def trained_model(
    request: "TrainRequest",
    components: "UserComponents | None" = None,
    trackers: "Sequence[BaseTracker]" = (),
) -> Model:
    """Trains to the end, writes the report, and loads the model."""
    from .train.run import train_and_report

    trained, arch = train_and_report(request, components, trackers), request.arch
    # a run folder never names code, so a user's file is passed on
    model = load(trained.folder, arch=arch if arch and arch.endswith(".py") else None)
    # also of a run that was finished before, whose folder may have been renamed since
    model.metadata["results"] = trained.results
    return model
