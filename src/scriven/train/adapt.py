"""Going on from a trained model with other texts: what is particular to it when a run is started or
resumed (`run.py`). Tokenizer and shape are the model's; all weights are trained, or LoRA adapters.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import config
from ..data.pipeline import load_dataset
from ..data.shards import TokenDataset
from ..errors import InputError, ScrivenError, SettingError
from ..import_.base import base_digest, base_name, open_base, open_recorded, pinned_name
from ..runs.folder import find_run
from ..runs.load import Loaded
from ..runs.metadata import check_downloads, has_given_tokenizer
from ..runtime import Runtime, choose_runtime
from ..settings import DataSettings, Settings, TokenizerSettings
from .adapt_plan import ADAPTERS, ALL_WEIGHTS, plan_adaptation, trains_adapters
from .autoconfig import DatasetStats, TrainPlan
from .datasets import TextDataset
from .native_step import start_compiling
from .pretrain import DEFAULT_BUDGET, Pretraining
from .replay import ReplayDataset
from .schedule import parse_budget

REPLAY_FRACTION = 0.5
"""Share of the older text where none is given: in a hard change of subject 0.4 cost 5.5 to 6.8 % of
the loss on the older text, and 0.5 costs 3.0 to 4.2 % (LOG.md)."""

GOOD_COMPRESSION, POOR_VOCABULARY = 0.6, 2.0
"""A tokenizer fits a text badly if its tokens are this much shorter than on its own text, or, of a
large vocabulary, shorter than so many bytes."""


@dataclass
class Adaptation(Pretraining):
    """The base model and the texts of a run, and the plan that follows from them."""

    base: Loaded | None = None
    lora: bool | None = None
    """Whether adapters are trained, once that is decided."""
    replayed: TokenDataset | None = None
    """The older text, in which the model must not get worse."""

    def load(self) -> Path:
        """Reads the base model and the texts, after everything that can be refused without them.

        Returns:
            The run folder.
        """
        request, overrides = self.request, self.overrides
        # 1. refuse what would make it another model
        self.sources = list(request.sources)
        self._refuse_shape()
        if request.resume:
            if request.out:
                raise SettingError("--resume RUN goes on in RUN: leave --out away")
            return find_run(request.resume)
        if not self.sources:
            raise InputError("no text: give files, folders, - for standard input, or shakespeare")
        if self.dist.world_size > 1 and "-" in self.sources:
            raise InputError("- (standard input) reaches one process only: give a file")
        self.budget = parse_budget(overrides.budget or DEFAULT_BUDGET)
        self.seed = 0 if overrides.seed is None else overrides.seed
        # 2. device, base model, texts
        self.runtime = choose_runtime(
            self.settings.runtime, (self.dist.local_rank, self.dist.local_world_size)
        )
        start_compiling(self.runtime, self.settings.runtime)
        assert request.start is not None
        base = self._open(partial(open_base, request.start))
        self.corpus = self._read(self.settings, self.seed, self.task, self.say)
        self.replayed, fraction, notes = self._read_replay()
        self.notes = [*self.corpus.notes, *notes, *self._fit_notes()]
        # 3. what scriven.json says of it
        folder = Path(request.out) if request.out is not None else self._default_folder()
        self.base_info = {
            "run": pinned_name(request.start),
            "name": base_name(request.start),
            "folder": os.path.relpath(base.folder.resolve(), folder.resolve()),
            "digest": base_digest(str(base.folder)),
            "merge": request.merge,
            "replay": None
            if self.replayed is None
            else {
                "sources": self.replayed.sources,
                "own": request.replay is None,
                "fraction": fraction,
                "fingerprint": self.replayed.fingerprint,
            },
        }
        return folder

    def plan(self) -> tuple[TrainPlan, Runtime]:
        """The plan of a new run, from what `load` has read."""
        corpus, base = self.corpus, self.base
        assert corpus is not None and base is not None and self.base_info is not None
        defaults = ADAPTERS if self.lora else ALL_WEIGHTS
        self.settings = self.overrides.apply(defaults)
        tokenizer = dataclasses.replace(TokenizerSettings(), kind=corpus.tokenizer.kind)
        pairs = TextDataset(corpus).info["rows"]
        stats = DatasetStats(
            base.task.vocab_size, tokenizer, len(corpus.train), len(corpus.validation), rows=pairs
        )
        plan = plan_adaptation(
            base, self.settings, self.budget, self.seed, self.task, stats, self.runtime,
            self.dist.world_size,
        )  # fmt: skip
        self.base_info["adapter"] = plan.settings.finetune.weights == "lora"
        return plan, self.runtime

    def check_resumable(self, folder: Path, metadata: dict[str, Any], plan: TrainPlan) -> None:
        """Refuses to resume a run on another text or from another base model.

        Raises:
            InputError: says what is different.
        """
        info, self.lora = metadata["base"], plan.settings.finetune.weights == "lora"
        if self.base is None:  # `--resume RUN`
            self.runtime = choose_runtime(plan.settings.runtime)
            self._open(partial(open_recorded, folder, info))
        elif base_digest(str(self.base.folder)) != info["digest"]:
            raise InputError(f"{folder} was trained from another model: use --out NEW")
        super().check_resumable(folder, metadata, plan)
        if self.replayed is None:
            self.replayed = self._replay_again(info["replay"])
        new = None if self.replayed is None else self.replayed.fingerprint
        if new != (info["replay"] or {}).get("fingerprint"):
            raise InputError(
                f"{folder} was trained with another --replay, or that text has changed: use --out "
                "NEW"
            )
        self.base_info = info

    def follow(
        self, sources: Sequence[str], metadata: dict[str, Any], plan: TrainPlan
    ) -> TextDataset:
        """The data of a run that rank 0 has started, in any other process."""
        assert self.request.start is not None or self.request.resume is not None
        self.base_info = info = metadata["base"]
        dist = self.dist
        self.runtime = choose_runtime(
            plan.settings.runtime, (dist.local_rank, dist.local_world_size)
        )
        self.lora = plan.settings.finetune.weights == "lora"
        self._open(partial(open_base, info["run"]))
        self.replayed = self._replay_again(info["replay"])
        return super().follow(sources, metadata, plan)

    def dataset(self, plan: TrainPlan) -> TextDataset:
        """The text, with the older one mixed in."""
        if self.replayed is None:
            return super().dataset(plan)
        assert self.corpus is not None and self.base_info is not None
        return ReplayDataset(self.corpus, self.replayed, self.base_info["replay"]["fraction"])

    def _refuse_shape(self) -> None:
        """Refuses settings that the base model has decided already."""
        overrides = self.overrides
        for name in overrides.sections.get("tokenizer", {}):
            raise SettingError(f"--tokenizer.{name}: the model keeps the one it was trained with")
        for name in overrides.sections.get("model", {}):
            if name != "dropout":
                raise SettingError(
                    f"--model.{name}: with --from the model keeps the shape it was trained with; "
                    "only --model.dropout may change"
                )
        if overrides.size is not None:
            raise SettingError("--size: with --from the model keeps the size it was trained with")
        if overrides.arch is not None and not overrides.arch.endswith(".py"):
            raise SettingError("--arch: with --from the model keeps its architecture")
        if overrides.sections.get("finetune", {}).get("weights") == "head":
            raise SettingError("--finetune.weights=head is for finetune: use full or lora")

    def _open(self, opened: Callable[..., Loaded]) -> Loaded:
        """Loads the base model, and decides what it is trained for.

        Args:
            opened: `open_base` of its name.
        """
        changes = self.overrides.sections.get("model", {})
        self.base = base = opened(
            arch=self.overrides.arch, dtype=self._stored_dtype, model_changes=changes
        )
        self.architecture, self.base_task = base.architecture, base.task
        for warning in base.warnings:
            self.say(warning)
        self.task, kind = base.metadata["task"], base.task.backbone.kind
        if "finetune" in base.metadata:
            if not (base.task.is_generative and kind == "decoder"):
                raise InputError(
                    f"{base.folder.name} is fine-tuned to {self.task}, and plain text teaches it "
                    f"nothing: go on from {base.metadata['finetune']['base']['name']}, the model "
                    "it was made from"
                )
            self.task = "language"
        return base

    def _stored_dtype(self, parameters: int) -> torch.dtype:
        """Weights that stay frozen take the memory of their precision in matmuls."""
        if self.lora is None:
            self.lora = trains_adapters(parameters, self.runtime, self.overrides)
        return self.runtime.dtype if self.lora else torch.float32

    def _read(
        self, settings: Settings, seed: int, task: str, say: Callable[[str], None]
    ) -> TokenDataset:
        return self._read_texts(self.sources, say, settings.data, seed, task == "pairs")

    def _read_texts(
        self,
        sources: Sequence[str],
        say: Callable[[str], None],
        data: DataSettings | None = None,
        seed: int = 0,
        pairs: bool = False,
    ) -> TokenDataset:
        """Texts in ids of the base model's tokenizer."""
        assert self.base is not None
        given, open_settings = self.base.tokenizer, TokenizerSettings()
        data = data or self.settings.data
        return load_dataset(
            sources, data, open_settings, seed=seed, pairs=pairs, given=given, say=say
        )

    def _read_replay(self) -> tuple[TokenDataset | None, float, list[str]]:
        """The older text, its share, and what the user should know about it."""
        assert self.base is not None and self.corpus is not None
        asked, mixable = self.request.replay, self.task == "language"
        mixable = mixable and not self.base.task.backbone.is_recurrent
        if asked is not None:
            source, fraction = _parse_replay(asked)
            if fraction == 0:
                return None, 0.0, []
            if not mixable:
                raise SettingError(
                    f"--replay {asked}: only for models that read windows of a text in any order"
                )
            return self._read_texts([source], self.say), fraction, []
        # the base model's own text, where it is what it was
        sources = self.base.metadata["data"]["sources"]
        if not (mixable and sources and sources != ["-"]):
            return None, 0.0, []
        own = self._own_text()
        if own is not None and _same_text(own, self.corpus):
            return None, 0.0, []
        if own is None:
            note = (
                "the text that the model was trained on is not at hand, so none of it is mixed in: "
                "--replay SOURCE:0.5 names another"
            )
            return None, 0.0, [note]
        note = (
            f"{REPLAY_FRACTION:.0%} of each batch is the model's own text, so that it forgets less "
            "(--replay 0 leaves it out)"
        )
        return own, REPLAY_FRACTION, [note]

    def _own_text(self) -> TokenDataset | None:
        """The text that the base model was trained on; None where it has changed or is gone."""
        assert self.base is not None
        data, settings = self.base.metadata["data"], self.base.metadata["settings"]
        try:
            check_downloads(self.base.metadata, self.base.folder)
            own = load_dataset(
                data["sources"],
                config.replace(DataSettings(), settings["data"], "data"),
                config.replace(TokenizerSettings(), settings["tokenizer"], "tokenizer"),
                seed=settings["seed"],
                given=self.base.tokenizer if has_given_tokenizer(self.base.metadata) else None,
            )
        except ScrivenError:
            return None
        return own if own.fingerprint == data["fingerprint"] else None

    def _replay_again(self, info: dict[str, Any] | None) -> TokenDataset | None:
        """The older text of a run that resumes; `info` is what scriven.json says of it."""
        if info is None:
            return None
        if info["own"]:
            return self._own_text()
        return self._read_texts(info["sources"], lambda message: None)

    def _fit_notes(self) -> list[str]:
        """What the user should know about the tokenizer on this text."""
        assert self.base is not None and self.corpus is not None
        corpus, before = self.corpus, self.base.metadata["data"]
        length = corpus.validation_bytes / max(1, len(corpus.validation))
        usual = None
        if before.get("validation_tokens"):
            usual = before["validation_bytes"] / before["validation_tokens"]
        fits = usual is None or length >= GOOD_COMPRESSION * usual
        if fits and (self.base.tokenizer.vocab_size < 8192 or length >= POOR_VOCABULARY):
            return []
        beside = "" if usual is None else f", on its own text {usual:.2f}"
        return [
            f"the model's tokenizer fits this text badly: {length:.2f} bytes per token{beside}; a "
            "model with a tokenizer of its own (without --from) may write it better"
        ]

    def _default_folder(self) -> Path:
        assert self.base is not None and self.corpus is not None
        name = base_name(str(self.request.start))
        return Path("runs") / f"{name}-{self.corpus.name}"


def _same_text(one: TokenDataset, other: TokenDataset) -> bool:
    """Whether two texts in ids of the same tokenizer are the same; fingerprints differ by how the
    tokenizer was come by."""
    sizes = ((len(each.train), len(each.validation), each.characters) for each in (one, other))
    if len(set(sizes)) > 1:
        return False
    ends = [each.validation.read(0, len(each.validation)) for each in (one, other)]
    return bool(np.array_equal(ends[0], ends[1]))


def _parse_replay(text: str) -> tuple[str, float]:
    """`old.txt:0.2`, `old.txt` or `0`: (source, share)."""
    if text == "0":
        return "", 0.0
    source, _, share = text.rpartition(":")
    try:
        fraction = float(share) if source else REPLAY_FRACTION
    except ValueError:  # a colon inside the name
        source, fraction = text, REPLAY_FRACTION
    if not 0 <= fraction <= 0.9:  # also NaN
        raise SettingError(
            f"--replay {text}: a share from 0 to 0.9, as in {source or 'old.txt'}:0.5"
        )
    return source or text, fraction
