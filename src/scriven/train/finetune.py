"""Fine-tuning a trained model on a table: what is particular to it when a run is started or resumed
(`run.py`)."""

import dataclasses
import glob
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from .. import config, registry
from ..errors import InputError, ScrivenError, SettingError
from ..evaluate.table import check_metrics
from ..import_.base import base_name, open_base
from ..models.base import Architecture
from ..models.shared.cost import build_empty
from ..runs import checkpoint
from ..runs.load import Loaded, load_run
from ..runtime import Runtime, choose_runtime
from ..settings import FinetuneSettings, Settings
from ..tasks.shared.columns import BadValue, Row
from ..tasks.shared.supervised import BAG, Example, SupervisedTask
from ..tokenizers import Tokenizer
from .autoconfig import DatasetStats, TrainPlan
from .build_model import check_trainable
from .load_table import load_table
from .request import Overrides, TrainRequest
from .schedule import parse_budget
from .table_dataset import TableDataset

FINETUNE_DROPOUT = 0.1


@dataclass
class Finetuning:
    """The base model and the table of a run, and the plan that follows from them."""

    request: TrainRequest
    overrides: Overrides
    settings: Settings
    """Defaults with the overrides of the request."""
    say: Callable[[str], None]
    """Tells the user a sentence."""
    sources: Sequence[str] = ()
    notes: Sequence[str] = ()
    """What the user should know about the table."""
    finetune_info: dict[str, Any] | None = None
    """The section `finetune` of scriven.json."""
    base_info: ClassVar[None] = None
    base_task: ClassVar[None] = None
    """Like `base_info`, of a run that goes on from a model with texts."""
    weights: dict[str, torch.Tensor] | None = None
    """Those of the base model; None: random ones, or those of a checkpoint."""
    bag: torch.Tensor | None = None
    """The table of the bag of words, fitted to the training rows."""

    @property
    def base_weights(self) -> dict[str, torch.Tensor] | None:
        """Weights to start from, with the bag of words; None: there are none."""
        if self.bag is None:
            return self.weights
        return {**(self.weights or {}), BAG: self.bag}

    def load(self) -> Path:
        """Reads base model and table, after everything that can be refused without them. The table
        is read for a run to resume as well, as it may have changed.

        Returns:
            The run folder.
        """
        request, overrides = self.request, self.overrides
        # 1. refuse what needs neither base model nor table
        for name in overrides.sections.get("tokenizer", {}):
            raise SettingError(f"--tokenizer.{name}: the model keeps the one it was trained with")
        self.seed = 0 if overrides.seed is None else overrides.seed
        parse_budget((request.budget or "1epoch").removeprefix("+"))
        self.runtime = choose_runtime(self.settings.runtime)
        # 2. base model and table
        self.sources = list(request.sources)
        self.base = _load_base(request)
        self.table = load_table(
            request.sources,
            self.settings.data,
            task=request.task,
            columns=request.columns,
            validation=request.validation,
            seed=self.seed,
            group=request.group,
        )
        self.notes = self.table.notes
        check_metrics(self.table.task)
        return _folder(request, self.table.name)

    def plan(self) -> tuple[TrainPlan, Runtime]:
        """The plan of a new run, from what `load` has read."""
        from .finetune_plan import finetune_defaults, plan_finetuning  # a pre-training has no use

        base, table = self.base, self.table
        if isinstance(base, ScrivenError):
            raise base
        # 1. defaults of the task under the settings of the request
        dropout = FINETUNE_DROPOUT
        budget = parse_budget(self.request.budget) if self.request.budget else None
        parameters = sum(weight.numel() for weight in base.task.parameters())
        defaults = finetune_defaults(
            table.name,
            self.settings.finetune.weights,
            parameters,
            self.runtime.device.type == "cpu",
        )
        if table.task.ANSWER_TYPE == "preferences":
            from .preference import BUDGET, preference_defaults

            budget = budget or BUDGET
            d_model = base.task.backbone.config.d_model
            defaults = preference_defaults(d_model, self.settings.finetune.weights)
            dropout = 0.0  # the reference model has none
        self.settings = self.overrides.apply(defaults)
        if self.settings.finetune.weights != "full":
            dropout = 0.0  # frozen weights would not learn to do without what is dropped
        # 2. the rows as token ids; the vocabulary grows by the special tokens of the task
        dataset = self._encode(base, self.settings)
        model = finetune_model_config(
            base, dataset.tokenizer, self.overrides.sections.get("model", {}), dropout
        )
        # 3. everything that was left open, for this model and table
        stats = DatasetStats(
            dataset.tokenizer.vocab_size,
            self.settings.tokenizer,
            *dataset.tokens,
            longest=max(example.length for example in dataset.train),
            rows=len(dataset.train),
        )
        plan = plan_finetuning(
            base, model, self.settings, budget, self.seed, table.name, stats, self.runtime
        )
        # 4. a model that would learn nothing is refused before anything is written
        assert self.finetune_info is not None
        module = registry.module("scriven.models", plan.architecture)
        check_trainable(module, plan, dataset.tokenizer, self.finetune_info)
        self.weights = None if self.request.fresh else base.task.state_dict()
        return plan, self.runtime

    def check_resumable(self, folder: Path, metadata: dict[str, Any], plan: TrainPlan) -> None:
        """Refuses to resume a run on another table or from another base model.

        Raises:
            InputError: says what is different.
        """
        if self.table.fingerprint != metadata["data"]["fingerprint"]:
            raise InputError(
                f"{folder} was fine-tuned on other rows, or the table has changed since: "
                "use --out NEW"
            )
        if isinstance(self.base, ScrivenError):  # the checkpoints have what was learned since
            if not checkpoint.steps(folder):
                raise self.base
            self.say(f"{self.base}; going on without it")
            self.base = load_run(folder, self.request.arch)
            return
        before = metadata["finetune"]["base"]
        if (before["weights"], before["fresh"]) != (weights_digest(self.base), self.request.fresh):
            raise InputError(f"{folder} was fine-tuned from another model: use --out NEW")
        self.weights = None if self.request.fresh else self.base.task.state_dict()

    def dataset(self, plan: TrainPlan) -> TableDataset:
        """The rows of the table as token ids."""
        if self.finetune_info is None:  # otherwise `plan` has encoded them already
            assert isinstance(self.base, Loaded)
            self._encode(self.base, plan.settings)
        return self.encoded

    def explain(self, plan: TrainPlan) -> str:
        """Every setting that was chosen, with the reason for it."""
        return "\n".join(f"  {key}: {reason}" for key, reason in plan.reasons.items())

    def _encode(self, base: Loaded, settings: Settings) -> TableDataset:
        """Encodes the rows, and sets what scriven.json says of the fine-tuning."""
        table, request, task = self.table, self.request, self.table.task
        copy_head = _check_task(base, table.name, settings)
        labels = task.label_metadata(table.train)
        tokenizer = base.tokenizer.with_special_tokens(*task.EXTRA_TOKENS)
        # a base model fine-tuned on the same labels keeps its head (`transfer_weights`)
        before = base.metadata.get("finetune") or {}
        same = base.metadata["task"] == table.name and all(
            before.get(name) == value for name, value in labels.items()
        )
        self.finetune_info = info = {
            **labels,
            "lm_loss_weight": settings.finetune.lm_loss_weight,
            "label_smoothing": settings.finetune.label_smoothing,
            "token_dropout": settings.finetune.token_dropout,
            "lm_score_weight": settings.finetune.lm_score_weight,
            "dpo_beta": settings.finetune.dpo_beta,
            "copy_head": copy_head,
            "bag_of_words": _bag_rows(task, table.name, labels, settings.finetune.bag_of_words),
            "columns": table.columns,
            "validation": request.validation,
            "group": request.group,
            "base": {
                "run": str(request.base),
                "name": base.folder.name,
                "vocab_size": base.tokenizer.vocab_size,
                "weights": weights_digest(base),
                "fresh": request.fresh,
                "same_answers": same and not request.fresh,
            },
        }
        # encoding needs the limits of the model, not its weights: an empty one tells them
        module = registry.module("scriven.models", base.architecture)
        model = finetune_model_config(base, tokenizer, {})
        empty: Any = build_empty(module, model, registry.module("scriven.tasks", "language").Task)
        train, validation = (
            encode_rows(task, empty.backbone, tokenizer, info, part)
            for part in (table.train, table.validation)
        )
        if info["bag_of_words"]:
            train = self._fit_bag(train, info)
        downloads = [note for note in table.notes if "://" in note]
        source_info = {"fingerprint": table.fingerprint, "sources": self.sources,
                       "downloads": downloads}  # fmt: skip
        self.encoded = TableDataset(
            tokenizer, table.name, task, table.train, table.validation, train, validation, labels,
            source_info,
        )  # fmt: skip
        return self.encoded

    def _fit_bag(self, train: Sequence[Example], info: Mapping[str, Any]) -> list[Example]:
        """Fits the bag of words; returns the rows with what it says of them without having seen
        them."""
        from .bag_of_words import fit_bag, with_priors  # only a model with labels has one

        outputs = len(info.get("labels") or ["score"])
        bag = fit_bag(train, info["bag_of_words"], outputs, self.table.task.ANSWER_TYPE)
        self.bag = bag.table
        return with_priors(train, bag.priors)


def finetune_model_config(
    base: Loaded,
    tokenizer: Tokenizer,
    model_changes: Mapping[str, object],
    dropout: float = FINETUNE_DROPOUT,
) -> Any:
    """The base model's Config with the new tokenizer's vocabulary and the dropout of a fine-tuning.

    Raises:
        SettingError: another field was asked for, which would make it another model.
    """
    for name in model_changes:
        if name != "dropout":
            raise SettingError(
                f"--model.{name}: the model keeps the shape it was trained with; only "
                "--model.dropout may change"
            )
    before = base.task.backbone.config
    # an embedding may have more rows than the tokenizer, whose new tokens take the spare ones
    vocab_size = max(before.vocab_size, tokenizer.vocab_size)
    changes = {"vocab_size": vocab_size, "dropout": dropout, **model_changes}
    # RoBERTa counts positions from the id of its padding token, which moves with the vocabulary
    if "padding" in {field.name for field in dataclasses.fields(before)}:
        changes["padding"] = tokenizer.pad
    return config.replace(before, changes, "model")


def encode_rows(
    task_class: type[SupervisedTask],
    backbone: Architecture,
    tokenizer: Tokenizer,
    info: Mapping[str, Any],
    rows: Sequence[Row],
) -> list[Example]:
    """Rows as token ids; `info`: the section `finetune` of scriven.json.

    Raises:
        InputError: a row that cannot be used.
    """
    # a task encodes rows by its limits and labels: its weights are never allocated
    with torch.device("meta"):
        task = task_class(backbone, None, tokenizer.special_token_ids, info)
    examples = []
    for row in rows:
        try:
            examples.append(task.example(tokenizer, row))
        except BadValue as error:
            raise InputError(f"the row {task_class.format_row(row)[:60]!r} {error}") from error
    return examples


def _load_base(request: TrainRequest) -> Loaded | ScrivenError:
    """The model to start from; or why it cannot be loaded, where a run made from it may resume.

    Raises:
        ScrivenError: it cannot be loaded, and there is no run to resume.
    """
    assert request.base is not None
    try:
        return open_base(request.base, request.arch)
    except ScrivenError as error:
        name = glob.escape(Path(request.base).name)
        runs = [Path(request.out)] if request.out else Path("runs").glob(f"{name}-*")
        if not any((folder / "scriven.json").exists() for folder in runs):
            raise
        return error


def weights_digest(base: Loaded) -> str:
    """SHA-256 of a model's weights."""
    # sorted, as the order of weights in a file says nothing
    digest = hashlib.sha256()
    for name, weight in sorted(base.task.state_dict().items()):
        digest.update(name.encode() + b"\n")
        digest.update(weight.detach().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _folder(request: TrainRequest, task: str) -> Path:
    if request.out == "":
        raise SettingError("--out is empty: name a folder, or leave it away for runs/NAME")
    if request.out is not None:
        return Path(request.out)
    assert request.base is not None
    try:
        name = base_name(request.base)
    except ScrivenError:  # the base model is gone; its fine-tuning may resume
        name = Path(request.base).name
    return Path("runs") / f"{name}-{task}"


def _bag_rows(
    task: type[SupervisedTask], name: str, labels: Mapping[str, Any], asked: bool | None
) -> int:
    """Rows of the table of a bag of words beside the head; 0 for none.

    Raises:
        SettingError: it was asked for where it has no meaning.
    """
    is_able = task.ANSWER_TYPE in ("labels", "numbers")
    if asked and not is_able:
        raise SettingError(f"--finetune.bag_of_words: the task {name} has no place for one")
    from ..tasks.shared.word_features import table_rows  # only labels and scores have one

    use = is_able if asked is None else asked
    return table_rows(len(labels.get("labels") or ["score"])) if use else 0


def _check_task(base: Loaded, task: str, settings: Settings) -> bool:
    """Whether the model has a copy head, which can copy tokens of its source.

    Raises:
        InputError: the architecture of the base model cannot do the task.
        SettingError: `lm_score_weight` or `copy_head` is set where it has no meaning.
    """
    kind, finetune = base.task.backbone.kind, settings.finetune
    if kind not in registry.module("scriven.tasks", task).Task.BACKBONES:
        raise InputError(
            f"{base.folder.name} ({base.metadata['architecture']}) reads in both directions and "
            f"writes nothing, so it cannot {task}: start from a run of llama or transformer"
        )
    # the likelihood of an answer as text needs a model that continues text
    if finetune.lm_score_weight and (task != "choice" or kind != "decoder"):
        raise SettingError(
            f"--finetune.lm_score_weight={finetune.lm_score_weight:g}: only for the task choice, "
            "and only for decoders"
        )
    # a copy head points at the tokens that an encoder has read (See et al. 2017)
    can_copy = kind == "encoder-decoder" and task in ("translate", "summarize")
    if task != "dpo" and finetune.dpo_beta != FinetuneSettings().dpo_beta:
        raise SettingError(f"--finetune.dpo_beta={finetune.dpo_beta:g}: only for the task dpo")
    if finetune.copy_head and not can_copy:
        raise SettingError(
            "--finetune.copy_head: only an encoder-decoder can, in translate and summarize"
        )
    chosen = task == "summarize" if finetune.copy_head is None else finetune.copy_head
    return chosen and can_copy
