"""ONNX: a graph of tokens -> logits for onnxruntime, browsers and phones.

PyTorch traces the model itself, so every architecture without recurrent state works, with any
number of rows and any length up to the context. The tokenizer lies beside it.
"""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import MissingExtra
from ...nn.embeddings import RotaryEmbedding
from ...runs.load import Loaded
from ...tasks.shared.classification import SequenceClassification
from ..base import (
    NO_WORDS,
    ExportTarget,
    Floats,
    ParityProbe,
    ProbeAnswer,
    copy_files,
    encode_with_tokenizers,
    example_prompt,
    probe_task,
)

OPSET = 20
MODEL = "model.onnx"
MAX_INLINE = 1_900_000_000  # bytes of weights that fit into the file itself: protobuf ends at 2 GB
COPIED = ("tokenizer.json", "tokenizer_config.json")


class Target(ExportTarget):
    """onnxruntime."""

    DTYPES = ("f32",)
    BOUNDS: ClassVar = {"f32": 1e-4}
    CHECKS, EXTRA = ("onnxruntime", "tokenizers"), "onnx"
    RUNTIME, LIBRARY = "onnxruntime", "onnx"

    def refuse(self, loaded: Loaded, dtype: str) -> str | None:
        """Refuses what one graph of tokens -> logits cannot express."""
        task = probe_task(loaded)
        if task == "seq2seq":
            return "an encoder-decoder is two graphs and a loop: use --to hf or --to ctranslate2"
        if task is None and isinstance(loaded.task, SequenceClassification):
            if loaded.task.lm_score_weight:
                return "ONNX scores no text: train without --finetune.lm_score_weight"
            if loaded.task.bag is not None:
                return f"no graph of tokens {NO_WORDS}"
            return f"a {loaded.architecture} with labels is two graphs: keep it as it is"
        if task is None:
            name = loaded.metadata["task"]
            return f"the graph gives the logits of tokens, and {name} needs something else"
        backbone = loaded.task.backbone
        if backbone.max_position is None or backbone.recurrent_state(1) is not None:
            return f"{loaded.architecture} has a memory, and the graph has no place for it"
        return None

    def write(self, loaded: Loaded, folder: Path, dtype: str) -> None:
        """model.onnx, above 2 GB with its weights in a file beside it, and the tokenizer."""
        try:
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise MissingExtra("onnxscript", self.EXTRA, "writing ONNX") from error

        graph = Graph(loaded.task)
        context_length = loaded.task.backbone.config.context_length
        rows = torch.export.Dim("batch")
        length = torch.export.Dim("length", max=context_length)
        example = torch.zeros(2, min(7, context_length), dtype=torch.int64)
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["tokens"],
                output_names=["logits"],
                dynamic_shapes={"tokens": {0: rows, 1: length}},
                verbose=False,
            )
        assert program is not None
        size = sum(weight.numel() * weight.element_size() for weight in graph.parameters())
        program.save(folder / MODEL, external_data=size > MAX_INLINE)
        copy_files(COPIED, loaded.folder, folder)

    def run_probe(self, folder: Path, probe: ParityProbe) -> ProbeAnswer:
        """onnxruntime's logits; greedy text from a loop over the graph."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(folder / MODEL, options)
        _, ids = encode_with_tokenizers(folder, probe.texts)
        tokens, logits = [], []
        for prompt, count in zip(probe.prompts, probe.counts, strict=True):
            row, steps = list(prompt), []
            for _ in range(count):
                # the same row twice, which checks that the graph takes any number of rows
                scores = session.run(None, {"tokens": np.array([row, row])})[0][1, -1]  # (V,)
                steps.append(scores)
                allowed = scores.copy()
                allowed[list(probe.never)] = -np.inf
                row.append(int(allowed.argmax()))
            whole = session.run(None, {"tokens": np.array([row])})[0][0]  # (T + count, V)
            if probe.task == "labels":
                whole = whole[-1:]
            tokens.append(row[len(prompt) :])
            logits.append(
                _if_equal(np.array(steps), whole[len(prompt) - 1 : -1]) if count else whole
            )
        return ProbeAnswer(ids, tokens, logits)

    def usage(self, loaded: Loaded, dtype: str) -> str:
        """How to compute logits with onnxruntime."""
        if isinstance(loaded.task, SequenceClassification):
            return LABELS_USAGE
        return f"""```
import numpy, onnxruntime, tokenizers
session = onnxruntime.InferenceSession("model.onnx")
tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
ids = tokenizer.encode({example_prompt(loaded)!r}, add_special_tokens=False).ids
logits = session.run(None, {{"tokens": numpy.array([ids])}})[0]  # (rows, length, vocabulary)
```
"""


LABELS_USAGE = """```
import numpy, onnxruntime, tokenizers
session = onnxruntime.InferenceSession("model.onnx")
tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
ids = tokenizer.encode("A text.").ids  # with start and extract; a second text after the first
scores = session.run(None, {"tokens": numpy.array([ids])})[0][0, -1]  # one for each label
```
"""


class Graph(nn.Module):
    """The module that is traced."""

    def __init__(self, task: Any) -> None:
        super().__init__()
        self.task = copy.deepcopy(task).eval()
        self.labels = isinstance(task, SequenceClassification)
        for part in self.task.modules():
            if isinstance(part, RotaryEmbedding):
                part.context_length = -1  # its short cut for a full context would fix the length

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) -> logits (B, T, V), or (B, T, L) with labels, where the extract token counts."""
        hidden = self.task.backbone(tokens)  # (B, T, W)
        scores: Tensor = self.task.head(hidden) if self.labels else self.task.logits(hidden)
        return scores


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter, which reports progress and packages that it could have used."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _if_equal(steps: Floats, whole: Floats) -> Floats:
    """The logits of each step, NaN where those of the whole text are others: both must hold."""
    return np.where(np.abs(steps - whole) < 1e-3 * (1 + np.abs(whole)), steps, np.nan)
