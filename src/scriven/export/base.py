"""What the targets of an export share: the questions put to both sides, and a run as a target
sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .. import registry
from ..errors import ScrivenError, SettingError
from ..runs.huggingface import hf_config_of, to_hf_weights
from ..runs.load import Loaded
from ..tasks.shared.classification import SequenceClassification
from ..tasks.shared.text_generation import TextGeneration, TextToText, spaced
from ..tokenizers import chat_template
from ..tokenizers.special_tokens import SPECIAL_TOKENS

Floats = npt.NDArray[np.float32]

SPELLINGS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "q8": "q8_0"}
"""Other names of dtypes that people type."""

ASKED_AS = {
    "language": "language",
    "masked": "masked",
    "seq2seq": "seq2seq",
    "pairs": "seq2seq",
}
"""Tasks of pre-training whose answers other programs can give -> how they are asked."""


class CheckFailed(ScrivenError):
    """The exported files do not compute what the run does; they have been removed."""


@dataclass(frozen=True)
class ParityProbe:
    """What the program and the run are both asked."""

    texts: Sequence[str]
    """To be turned into ids."""
    prompts: Sequence[Sequence[int]]
    """To be continued; for an encoder-decoder the source."""
    counts: Sequence[int]
    """Tokens to write after each prompt; 0 asks for the logits of the prompt itself."""
    never: Sequence[int]
    """What ends a text; not to be written, so that every continuation has its full length."""
    pad: int
    task: str
    """language, masked, seq2seq, or labels for what a linear layer says of a whole input."""


@dataclass(frozen=True)
class ProbeAnswer:
    """What the program said."""

    ids: Sequence[Sequence[int]]
    """Of each text."""
    tokens: Sequence[Sequence[int]]
    """The likeliest continuation of each prompt, token by token."""
    logits: Sequence[Floats]
    """(count, V) before each of these tokens; of the prompt's own positions where count is 0, and
    of its last one alone, (1, L), where there are labels."""
    normalised: bool = False
    """Whether these are logarithms of probabilities, all that some programs give."""


@dataclass(frozen=True)
class Twin:
    """A run under Hugging Face's names, from which most formats are made."""

    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]

    @property
    def kind(self) -> str:
        """The class of transformers that computes the same."""
        return str(self.config["architectures"][0])


def asked_as(loaded: Loaded) -> str | None:
    """How other programs are asked what this run answers; None where they cannot be."""
    if isinstance(loaded.task, SequenceClassification):
        alone = loaded.task.backbone.kind != "encoder-decoder" and not loaded.task.lm_score_weight
        return "labels" if alone else None
    if isinstance(loaded.task, TextGeneration):
        joint = loaded.task.backbone.kind == "decoder"
        return "language" if joint else "seq2seq"
    return ASKED_AS.get(str(loaded.record["task"]))


def describe(loaded: Loaded) -> Mapping[str, Any] | None:
    """The config of the run's twin in transformers, None where it has none."""
    record = loaded.record
    model = loaded.task.backbone.config
    return hf_config_of(architecture(loaded), model, record["task"], record.get("finetune"))


def twin(loaded: Loaded) -> Twin:
    """The run under Hugging Face's names; only where `describe` gives something."""
    config = describe(loaded)
    assert config is not None, "refuse() comes first"
    model = loaded.task.backbone.config
    weights, task = loaded.task.state_dict(), loaded.record["task"]
    return Twin(config, to_hf_weights(architecture(loaded), model, weights, task))


def architecture(loaded: Loaded) -> ModuleType:
    """The file of the run's architecture."""
    return registry.module("scriven.models", loaded.architecture)


def example(loaded: Loaded) -> str:
    """A text as the run's task puts it to the model, for whoever calls it from a program."""
    task = loaded.task
    if loaded.record["task"] in chat_template.TASKS:
        return chat_template.render_text(
            [{"role": "user", "content": "Good morning."}], answer=True
        )
    if isinstance(task, TextToText) and task.backbone.kind == "decoder":
        return f"{spaced(loaded.tokenizer, 'A text.')}{SPECIAL_TOKENS['delimiter']}"
    return "It was"


def only_writes(loaded: Loaded, program: str) -> str | None:
    """Why a program that writes texts cannot take this run, where it gives labels."""
    if not isinstance(loaded.task, SequenceClassification):
        return None
    return (
        f"{program} writes texts, and a model for {loaded.record['task']} gives labels or scores: "
        "use --to hf or --to onnx"
    )


def why_no_twin(loaded: Loaded, program: str) -> str:
    """The reason, where `describe` gives nothing."""
    if getattr(loaded.task.backbone.config, "band", None):
        return f"no model of {program} alternates dense and banded attention"
    if isinstance(loaded.task, SequenceClassification) and loaded.task.lm_score_weight:
        return (
            f"no model of {program} scores how likely a text is: train without "
            "--finetune.lm_score_weight"
        )
    if isinstance(loaded.task, SequenceClassification):
        instead = "use --to onnx" if asked_as(loaded) else "keep it as it is"
        return f"no model of {program} ends a {loaded.architecture} with labels: {instead}"
    if (loaded.record.get("finetune") or {}).get("copy_head"):
        return f"no model of {program} copies tokens of its source as this one does"
    return f"no model of {program} computes what this {loaded.architecture} does"


def choose_dtype(target: ModuleType, name: str, asked: str | None) -> str:
    """The dtype to write.

    Raises:
        SettingError: this target cannot be written so; the text lists what can.
    """
    known: tuple[str, ...] = target.DTYPES
    dtype = known[0] if asked is None else SPELLINGS.get(asked.lower(), asked.lower())
    if dtype not in known:
        raise SettingError(f"--dtype={asked}: {name} can be written as {', '.join(known)}")
    return dtype
