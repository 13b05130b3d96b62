"""Pre-training from texts: what is particular to it when a run is started or resumed (`run.py`)."""

import dataclasses
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from .. import config, registry
from ..data.pipeline import load_dataset
from ..data.shards import TokenDataset
from ..data.sources import are_pairs
from ..distributed import DistributedContext
from ..errors import InputError, SettingError
from ..format import plural
from ..models.base import Architecture
from ..runs.folder import find_run
from ..runs.metadata import check_downloads
from ..runtime import Runtime, choose_runtime
from ..settings import Settings
from ..tasks.base import BaseTask
from ..tokenizers import Tokenizer, load_tokenizer
from ..tokenizers.base import choose_vocab_size
from .autoconfig import DatasetStats, TrainPlan, plan_pretraining
from .datasets import RecurrentTextDataset, TextDataset, TextPairDataset
from .native_step import start_compiling
from .request import Overrides, TrainRequest
from .scaling_laws import TYPICAL_FLOPS, model_shape
from .schedule import parse_budget
from .throughput import training_flops

DEFAULT_BUDGET = "10m"
MEASURED_BUDGET = 10
"""Seconds from which the speed of this machine decides what suits a budget; a shorter one asks for
the smallest model on any CPU."""


@dataclass
class Pretraining:
    """The texts of a run, and the plan that follows from them."""

    request: TrainRequest
    overrides: Overrides
    settings: Settings
    """Defaults with the overrides of the request."""
    dist: DistributedContext
    say: Callable[[str], None]
    """Tells the user a sentence."""
    sources: Sequence[str] = ()
    notes: Sequence[str] = ()
    """What the user should know about the text."""
    corpus: TokenDataset | None = None
    given: Tokenizer | None = None
    """The tokenizer of a model that is trained further."""
    finetune_info: ClassVar[None] = None
    base_weights: ClassVar[None] = None
    """Like `finetune_info`, for a fine-tuning only."""
    base_info: dict[str, Any] | None = None
    """The section `base` of scriven.json, of a run that goes on from a model (`adapt.py`)."""
    base_task: BaseTask | None = None
    """That model itself, which is trained further."""

    def load(self) -> Path:
        """Reads the texts, unless the run exists already and says itself what they are; before that
        everything is refused that can be refused without them.

        Returns:
            The run folder.
        """
        request, overrides, settings = self.request, self.overrides, self.settings
        self.sources = list(request.sources)
        if self.dist.world_size > 1 and "-" in self.sources:
            raise InputError("- (standard input) reaches one process only: give a file")
        # 1. a run that exists resumes: `check_resumable` reads its texts
        if request.resume:
            if request.out:
                raise SettingError("--resume RUN goes on in RUN: leave --out away")
            return find_run(request.resume)
        if request.out == "":
            raise SettingError("--out is empty: name a folder, or leave it away for runs/NAME")
        if request.out is not None and os.path.exists(Path(request.out, "scriven.json")):
            return Path(request.out)
        for name, asked in vars(request).items():
            if asked and name in ("replay", "merge"):
                raise SettingError(f"--{name} is for going on from a model: add --from RUN")
        if settings.finetune.weights != "full":
            raise SettingError("--lora is for going on from a model: add --from RUN")
        # 2. budget, architecture, size, vocabulary, processes: what needs no text
        module = self._check_settings()
        # 3. device, precision and threads of this process
        self.runtime = choose_runtime(
            settings.runtime, (self.dist.local_rank, self.dist.local_world_size)
        )
        self.seed = 0 if overrides.seed is None else overrides.seed
        # 4. the task follows from architecture and data: an encoder-decoder learns from pairs of
        # source and target where the data has them
        if module.Model.has_head:
            raise SettingError(
                "--arch transformers holds models of other people: go on from one with --from"
            )
        self.task = module.Model.pretraining_task
        if self.task == "seq2seq" and are_pairs(request.sources, settings.data):
            self.task = "pairs"
        # 5. the text as token ids, from the cache if it was read before
        if self.architecture == "llama" and self.dist.world_size == 1:
            start_compiling(self.runtime, settings.runtime)
        self.corpus = self._read(settings, self.seed, self.task, self.say)
        self.notes = self.corpus.notes
        return Path(request.out) if request.out is not None else Path("runs") / self.corpus.name

    def _check_settings(self) -> ModuleType:
        """Sets budget and architecture of a new run, and refuses what needs no text for that.

        Returns:
            The file of the architecture.
        """
        overrides, settings = self.overrides, self.settings
        if not self.sources:
            raise InputError("no text: give files, folders, - for standard input, or shakespeare")
        self.budget = parse_budget(overrides.budget or DEFAULT_BUDGET)
        self.architecture = overrides.arch or "llama"
        module = registry.module("scriven.models", self.architecture)
        config.replace(module.Config(), overrides.sections.get("model", {}), "model")
        if overrides.size is not None:
            model_shape(overrides.size)
        vocab_size = settings.tokenizer.vocab_size
        if vocab_size is not None and not 3 <= vocab_size < 2**31:
            raise SettingError(f"--tokenizer.vocab_size={vocab_size}: at least 3")
        if settings.runtime.parallel is not None and self.dist.world_size == 1:
            raise SettingError(
                f"--parallel {settings.runtime.parallel} is for several processes: start them with "
                "torchrun --nproc-per-node 2 -m scriven train ..."
            )
        return module

    def plan(self) -> tuple[TrainPlan, Runtime]:
        """The plan of a new run, from what `load` has read."""
        corpus = self.corpus
        assert corpus is not None
        # 1. the tokenizer settings that make the same tokenizer again, without open ones
        tokenizer, kind = self.settings.tokenizer, corpus.tokenizer.kind
        vocab_size = None  # characters and bytes have no size to choose
        if kind in ("bpe", "word"):
            vocab_size = tokenizer.vocab_size or choose_vocab_size(corpus.characters)
        pattern = tokenizer.pattern if kind == "bpe" else "llama3"
        tokenizer = dataclasses.replace(
            tokenizer, kind=kind, vocab_size=vocab_size, pattern=pattern
        )
        # 2. what the plan depends on
        pairs = TextPairDataset(corpus).pairs if corpus.pairs else None
        text = DatasetStats(
            corpus.tokenizer.vocab_size,
            tokenizer,
            len(corpus.train),
            len(corpus.validation),
            None if pairs is None else int(pairs.lengths.max()),
            None if pairs is None else len(pairs),
        )
        # 3. how fast this machine trains, where that can matter
        flops, timed = TYPICAL_FLOPS, self.budget.unit == "seconds"
        if timed and self.budget.amount >= MEASURED_BUDGET and self.runtime.device.type == "cpu":
            native = self.settings.runtime.native is not False
            flops = training_flops(self.runtime, native) * self.dist.world_size
        plan = plan_pretraining(
            self.architecture,
            self.overrides.sections.get("model", {}),
            self.settings,
            self.budget,
            self.seed,
            text,
            self.runtime,
            self.overrides.size,
            self.task,
            self.dist.world_size,
            flops,
        )
        return plan, self.runtime

    def check_resumable(self, folder: Path, metadata: dict[str, Any], plan: TrainPlan) -> None:
        """Refuses to resume a run on another text; reads the text if that has not been done.

        Raises:
            InputError: says what is different.
        """
        if metadata["tokenizer"].get("given"):
            self.given = load_tokenizer(folder)
        if self.corpus is None:
            # `--resume RUN` reads the texts that the run was started with
            if not self.sources:
                self.sources = metadata["data"]["sources"]
                check_downloads(metadata, folder)
                if self.sources == ["-"]:
                    raise InputError(
                        f"{folder} was trained on standard input: pipe the same text again, with "
                        f"`scriven train - --out {shlex.quote(str(folder))}`"
                    )
            self.corpus = self._read(plan.settings, plan.seed, plan.task, self.say)
        if self.corpus.fingerprint != metadata["data"]["fingerprint"]:
            raise InputError(
                f"{folder} was trained on another text, or the text has changed since: "
                "use --out NEW for a new run"
            )
        if self.corpus.tokenizer.fingerprint != metadata["tokenizer"]["fingerprint"]:
            raise InputError(f"{folder} was trained with another vocabulary: use --out NEW")

    def follow(
        self, sources: Sequence[str], metadata: dict[str, Any], plan: TrainPlan
    ) -> TextDataset:
        """The data of a run that rank 0 has started, in any other process."""
        self.sources = list(sources)
        self.corpus = self._read(plan.settings, plan.seed, plan.task, lambda message: None)
        # another computer may have another file under the same name
        if self.corpus.fingerprint != metadata["data"]["fingerprint"]:
            raise InputError(f"{', '.join(sources)}: another text here than in process 0")
        return self.dataset(plan)

    def dataset(self, plan: TrainPlan) -> TextDataset:
        """The way to read the text that suits task and architecture."""
        assert self.corpus is not None
        if plan.task == "pairs":
            return TextPairDataset(self.corpus)
        # a model that hands its state on needs the text in order; any other is best shuffled
        model = registry.module("scriven.models", plan.architecture).Model
        recurrent = model.recurrent_state is not Architecture.recurrent_state
        return (RecurrentTextDataset if recurrent else TextDataset)(self.corpus)

    def explain(self, plan: TrainPlan) -> str:
        """Every setting with its value and the reason for it."""
        assert self.corpus is not None
        characters, documents = self.corpus.characters, self.corpus.documents
        lines = [f"text: {plural(characters, 'character')} in {plural(documents, 'document')}"]
        sections = {"model": plan.model, **vars(plan.settings)}
        for section, values in sections.items():
            default = config.to_dict(type(values)())
            for name, value in config.to_dict(values).items():
                key = f"{section}.{name}"
                shown = "auto" if value is None else value
                usual = "default" if value == default[name] else "chosen for this text and machine"
                if name in self.overrides.sections.get(section, ()):
                    usual = "asked for"
                lines.append(f"  {key} = {shown}  ({plan.reasons.get(key, usual)})")
        return "\n".join(lines)

    def _read(
        self, settings: Settings, seed: int, task: str, say: Callable[[str], None]
    ) -> TokenDataset:
        """The text as token ids, with the special tokens that the task needs."""
        corpus = load_dataset(
            self.sources,
            settings.data,
            settings.tokenizer,
            seed=seed,
            pairs=task == "pairs",
            given=self.given,
            say=say,
        )
        special = registry.module("scriven.tasks", task).Task.EXTRA_TOKENS
        if not special and self.given is None:
            return corpus
        return dataclasses.replace(corpus, tokenizer=corpus.tokenizer.with_special_tokens(*special))
