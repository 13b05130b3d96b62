"""`ExportTarget`, the base class of every target, and a run as targets see it."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .. import registry
from ..errors import ScrivenError, SettingError
from ..nn.attention import Attention
from ..runs.load import Loaded
from ..runs.weights import hf_config_of, to_hf_weights
from ..tasks.shared.classification import SequenceClassification
from ..tasks.shared.text_generation import TextGeneration
from ..tasks.translate import Translate, with_leading_space
from ..tokenizers import chat_template
from ..tokenizers.base import SPECIAL_TOKENS

Floats = npt.NDArray[np.float32]

DTYPE_ALIASES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "q8": "q8_0"}

PROBED_AS = {"language": "language", "masked": "masked", "seq2seq": "seq2seq", "pairs": "seq2seq"}
"""Pre-training tasks that other programs can run -> `ParityProbe.task`."""

NO_WORDS = (
    "counts the words of a text, as the bag of words beside this one does: fine-tune with "
    "--finetune.bag_of_words=false"
)


class CheckFailed(ScrivenError):
    """The exported files do not compute what the run does; they have been removed."""


@dataclass(frozen=True)
class ParityProbe:
    """The inputs that the run and the program both get."""

    texts: Sequence[str]  # texts to tokenize
    prompts: Sequence[Sequence[int]]  # token ids to continue; for an encoder-decoder the source
    counts: Sequence[int]
    """Tokens to generate after each prompt; 0 asks for the logits of the prompt itself."""
    never: Sequence[int]
    """End tokens, which must not be generated, so that every continuation has its full length."""
    pad: int
    task: str  # language, masked, seq2seq, or labels for a linear head on the last token


@dataclass(frozen=True)
class ProbeAnswer:
    """The outputs of the program."""

    ids: Sequence[Sequence[int]]  # token ids of each text
    tokens: Sequence[Sequence[int]]  # the greedy continuation of each prompt
    logits: Sequence[Floats]
    """(count, V) before each of these tokens; (T, V) of the prompt's own positions where count is
    0; (1, L) of its last one where there are L labels."""
    normalised: bool = False
    """Whether these are log-probabilities, which is all that some programs give."""


class ExportTarget(ABC):
    """A program and its file format. One file in `targets/` holds one, named `Target`."""

    DTYPES: ClassVar[tuple[str, ...]]
    """Data types in which weights can be written, the default first."""
    BOUNDS: ClassVar[Mapping[str, float]] = {}
    """By dtype, the largest difference of logits as a fraction of their standard deviation;
    quantised dtypes have none."""
    CHECKS: ClassVar[tuple[str, ...]]
    """Packages needed to run the program; the first is the program itself."""
    FILE: ClassVar[str] = ""  # the ending of its file, where one file is the whole model
    EXTRA: ClassVar[str]  # Scriven's extra that installs the packages
    RUNTIME: ClassVar[str]  # the program's name
    LIBRARY: ClassVar[str]
    """The program's name on the Hugging Face hub (`library_name` of a model card)."""

    @abstractmethod
    def refuse(self, loaded: Loaded, dtype: str) -> str | None:
        """Why the program cannot compute this run, or None."""

    @abstractmethod
    def write(self, loaded: Loaded, folder: Path, dtype: str) -> None:
        """Writes the files into an empty folder; MissingExtra where that takes a package."""

    @abstractmethod
    def run_probe(self, folder: Path, probe: ParityProbe) -> ProbeAnswer:
        """Runs the program on these files; called in a child process."""

    @abstractmethod
    def usage(self, loaded: Loaded, dtype: str) -> str:
        """Markdown that shows how to load the files."""

    def choose_dtype(self, name: str, dtype: str | None) -> str:
        """The dtype to write; SettingError where this target does not have it."""
        asked = (dtype or self.DTYPES[0]).lower()
        chosen = DTYPE_ALIASES.get(asked, asked)
        if chosen not in self.DTYPES:
            raise SettingError(
                f"--dtype={dtype}: {name} can be written as {', '.join(self.DTYPES)}"
            )
        return chosen


def hf_config(loaded: Loaded) -> Mapping[str, Any] | None:
    """config.json of the equal Hugging Face model, None where transformers has none."""
    module = registry.module("scriven.models", loaded.architecture)
    model, record = loaded.task.backbone.config, loaded.metadata
    return hf_config_of(module, model, record["task"], record.get("finetune"))


def hf_weights(loaded: Loaded) -> Mapping[str, Tensor]:
    """The weights of the equal Hugging Face model; only where `hf_config` gives something."""
    module = registry.module("scriven.models", loaded.architecture)
    model, task = loaded.task.backbone.config, loaded.metadata["task"]
    return to_hf_weights(module, model, loaded.task.state_dict(), task)


def copy_files(names: Sequence[str], source: Path, folder: Path) -> None:
    """Copies the files that are there."""
    for name in names:
        if (source / name).is_file():
            (folder / name).write_bytes((source / name).read_bytes())


def encode_with_tokenizers(folder: Path, texts: Sequence[str]) -> tuple[Any, list[list[int]]]:
    """(tokenizer, token ids of each text) by the package `tokenizers` from tokenizer.json."""
    import tokenizers

    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.encode_special_tokens = True
    return backend, [backend.encode(text, add_special_tokens=False).ids for text in texts]


def probe_task(loaded: Loaded) -> str | None:
    """`ParityProbe.task` of a run; None where other programs cannot be probed."""
    task = loaded.task
    if isinstance(task, SequenceClassification):
        sees_more = task.lm_score_weight or task.bag is not None
        one_input = task.backbone.kind != "encoder-decoder" and not sees_more
        return "labels" if one_input else None
    # a decoder continues the prompt; an encoder-decoder reads it as its source
    if isinstance(task, TextGeneration):
        return "language" if task.backbone.kind == "decoder" else "seq2seq"
    return PROBED_AS.get(str(loaded.metadata["task"]))


def example_prompt(loaded: Loaded) -> str:
    """A text in the form in which the run's task gives it to the model."""
    task = loaded.task
    template = chat_template.template_of(loaded.tokenizer, loaded.metadata["task"])
    if template is not None:
        message = {"role": "user", "content": "Good morning."}
        return chat_template.render_text([message], answer=True, template=template)
    if isinstance(task, Translate) and task.backbone.kind == "decoder":
        return f"{with_leading_space(loaded.tokenizer, 'A text.')}{SPECIAL_TOKENS['delimiter']}"
    return "It was"


def why_no_text(loaded: Loaded, program: str, classes: Collection[str]) -> str | None:
    """Why a program that generates text with these classes of transformers cannot take a run."""
    if isinstance(loaded.task, SequenceClassification):
        return (
            f"{program} writes texts, and a model for {loaded.metadata['task']} gives labels or "
            "scores: use --to hf or --to onnx"
        )
    config = hf_config(loaded)
    if config is None:
        return why_no_hf_model(loaded, program)
    name = config["architectures"][0]
    if name not in classes:
        return f"{program} generates text with {', '.join(classes)}, not with {name}"
    return None


def why_no_hf_model(loaded: Loaded, program: str) -> str:
    """The reason why `hf_config` gives None."""
    task = loaded.task
    layers = task.backbone.modules()
    if any(isinstance(layer, Attention) and layer.mask.window for layer in layers):
        return f"no model of {program} alternates dense and banded attention"
    if isinstance(task, SequenceClassification) and task.lm_score_weight:
        return (
            f"no model of {program} scores how likely a text is: train without "
            "--finetune.lm_score_weight"
        )
    if isinstance(task, SequenceClassification) and task.bag is not None:
        return f"no model of {program} {NO_WORDS}"
    if isinstance(task, SequenceClassification):
        instead = "use --to onnx" if probe_task(loaded) else "keep it as it is"
        return f"no model of {program} ends a {loaded.architecture} with labels: {instead}"
    if (loaded.metadata.get("finetune") or {}).get("copy_head"):
        return f"no model of {program} copies tokens of its source as this one does"
    return f"no model of {program} computes what this {loaded.architecture} does"
