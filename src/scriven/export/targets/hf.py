"""The Hugging Face files of a run, without checkpoints, logs and report; half the size if wanted.

A run folder is a Hugging Face model already; this is what one publishes of it.
"""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ...runs.huggingface import WEIGHTS
from ...runs.load import Loaded
from ...runs.model_card import usage_code
from ...runs.weights import save_tensors
from ...tokenizers.chat_template import TEMPLATE_FILE
from ..base import (
    ExportTarget,
    Floats,
    ParityProbe,
    ProbeAnswer,
    copy_files,
    hf_config,
    hf_weights,
    why_no_hf_model,
)

TORCH_DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
COPIED = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", TEMPLATE_FILE)


class Target(ExportTarget):
    """transformers."""

    DTYPES = ("f32", "f16", "bf16")
    BOUNDS: ClassVar = {"f32": 1e-4, "f16": 0.02, "bf16": 0.2}  # bfloat16 has 8 bits of precision
    CHECKS, EXTRA = ("transformers",), "hf"
    RUNTIME, LIBRARY = "transformers", "transformers"

    def refuse(self, loaded: Loaded, dtype: str) -> str | None:
        """Refuses architectures that transformers does not have."""
        return None if hf_config(loaded) is not None else why_no_hf_model(loaded, self.RUNTIME)

    def write(self, loaded: Loaded, folder: Path, dtype: str) -> None:
        """config.json, the weights and the tokenizer."""
        torch_dtype = TORCH_DTYPES[dtype]
        weights = {name: each.to(torch_dtype) for name, each in hf_weights(loaded).items()}
        save_tensors(folder / WEIGHTS, weights)
        copy_files(COPIED, loaded.folder, folder)
        config = json.loads((loaded.folder / "config.json").read_text(encoding="utf-8"))
        config["dtype"] = config["torch_dtype"] = str(torch_dtype).removeprefix("torch.")
        text = json.dumps(config, indent=2) + "\n"
        (folder / "config.json").write_text(text, encoding="utf-8")

    def run_probe(self, folder: Path, probe: ParityProbe) -> ProbeAnswer:
        """transformers' ids, logits and greedy text, in the dtype of the files."""
        import transformers

        transformers.utils.logging.disable_progress_bar()
        auto_class = {
            "language": transformers.AutoModelForCausalLM,
            "masked": transformers.AutoModelForMaskedLM,
            "seq2seq": transformers.AutoModelForSeq2SeqLM,
            "labels": transformers.AutoModelForSequenceClassification,
        }[probe.task]
        model = auto_class.from_pretrained(folder, local_files_only=True, dtype="auto").eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        # special tokens in a text are text, as in our own encode
        ids = [
            tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            for text in probe.texts
        ]
        requests = zip(probe.prompts, probe.counts, strict=True)
        written = [_generate(model, list(prompt), count, probe) for prompt, count in requests]
        return ProbeAnswer(ids, [tokens for tokens, _ in written], [each for _, each in written])

    def usage(self, loaded: Loaded, dtype: str) -> str:
        """How to load the model; transformers takes the dtype from the files."""
        hf_class = (hf_config(loaded) or {})["architectures"][0]
        return f"```python\n{usage_code(loaded.metadata, hf_class)}```\n"


@torch.no_grad()
def _generate(
    model: Any, prompt: list[int], count: int, probe: ParityProbe
) -> tuple[list[int], Floats]:
    """(tokens, logits before each); of the prompt's own positions where count is 0."""
    source = torch.tensor([prompt])
    if count == 0:
        logits = model(source).logits
        return [], _floats(logits if probe.task == "labels" else logits[0])
    output = model.generate(
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
    tokens = output.sequences[0, -count:].tolist()  # an encoder-decoder gives no prompt
    return tokens, _floats(torch.cat(output.logits))


def _floats(logits: torch.Tensor) -> Floats:
    values: Floats = logits.float().numpy().astype(np.float32)
    return values
