"""The Hugging Face files of a run alone, for publication, in half the size if wanted.

A run folder is a Hugging Face model already; this leaves out checkpoints, logs and the report.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..runs.huggingface import WEIGHTS
from ..runs.load import Loaded
from ..runs.model_card import usage_code
from ..runs.weights import save_tensors
from ..tokenizers.chat_template import TEMPLATE_FILE
from .base import Floats, ParityProbe, ProbeAnswer, describe, twin, why_no_twin

DTYPES = ("f32", "f16", "bf16")
# in bfloat16 every intermediate result has eight bits
BOUNDS = {"f32": 1e-4, "f16": 0.02, "bf16": 0.2}
WRITES: tuple[str, ...] = ()
CHECKS, EXTRA = ("transformers",), "hf"
RUNTIME, LIBRARY = "transformers", "transformers"

TORCH = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", TEMPLATE_FILE)


def refuse(loaded: Loaded, dtype: str) -> str | None:
    """Why transformers cannot load this run."""
    return None if describe(loaded) is not None else why_no_twin(loaded, RUNTIME)


def write(loaded: Loaded, folder: Path, dtype: str) -> None:
    """config.json, the weights and the tokenizer."""
    kind = TORCH[dtype]
    weights = {name: tensor.to(kind) for name, tensor in twin(loaded).weights.items()}
    save_tensors(folder / WEIGHTS, weights)
    for name in FILES:
        source = loaded.folder / name
        if source.is_file():
            (folder / name).write_bytes(source.read_bytes())
    shape = json.loads((loaded.folder / "config.json").read_text(encoding="utf-8"))
    shape["dtype"] = shape["torch_dtype"] = str(kind).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps(shape, indent=2) + "\n", encoding="utf-8")


def answer(folder: Path, probe: ParityProbe) -> ProbeAnswer:
    """transformers' ids, logits and greedy text, in the dtype of the files."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    kind = {
        "language": transformers.AutoModelForCausalLM,
        "masked": transformers.AutoModelForMaskedLM,
        "seq2seq": transformers.AutoModelForSeq2SeqLM,
        "labels": transformers.AutoModelForSequenceClassification,
    }[probe.task]
    model = kind.from_pretrained(folder, local_files_only=True, dtype="auto").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ids = [
        tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        for text in probe.texts
    ]
    tokens, logits = [], []
    for prompt, count in zip(probe.prompts, probe.counts, strict=True):
        written, scores = _write(model, list(prompt), count, probe)
        tokens.append(written)
        logits.append(scores)
    return ProbeAnswer(ids, tokens, logits)


@torch.no_grad()
def _write(
    model: Any, prompt: list[int], count: int, probe: ParityProbe
) -> tuple[list[int], Floats]:
    """(tokens, logits before each); of the prompt's own positions where count is 0."""
    source = torch.tensor([prompt])
    if count == 0:
        logits = model(source).logits
        return [], _floats(logits if probe.task == "labels" else logits[0])
    made = model.generate(
        source,
        attention_mask=torch.ones_like(source),
        generation_config=type(model.generation_config)(
            max_new_tokens=count,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=probe.pad,
            decoder_start_token_id=getattr(model.config, "decoder_start_token_id", None),
            suppress_tokens=list(probe.never),
            output_logits=True,
            return_dict_in_generate=True,
        ),
    )
    tokens = made.sequences[0, -count:].tolist()
    return tokens, _floats(torch.cat(made.logits))


def _floats(logits: torch.Tensor) -> Floats:
    values: Floats = logits.float().numpy().astype(np.float32)
    return values


def usage(loaded: Loaded, dtype: str) -> str:
    """How to load it; transformers takes the dtype of the files by itself."""
    hf_class = (describe(loaded) or {})["architectures"][0]
    return f"```python\n{usage_code(loaded.record, hf_class)}```\n"
