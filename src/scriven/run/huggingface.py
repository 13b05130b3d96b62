"""A run folder as a Hugging Face model: what `from_pretrained` wants to find in it."""

import json
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from ..models.shared.names import from_foreign, to_foreign
from ..text import Tokenizer, save_tokenizer


def foreign_weights(
    architecture: ModuleType, model: Any, tensors: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Our weights under Hugging Face's names, in main memory; a tied head is not stored.

    Where Hugging Face has no twin of this model, under our own names.
    """
    plain = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    if architecture.foreign(model) is None:
        return plain
    return to_foreign(plain, architecture.NAMES, model.layers, architecture.sizes(model))


def own_weights(
    architecture: ModuleType, model: Any, tensors: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The inverse of `foreign_weights`."""
    if architecture.foreign(model) is None:
        return tensors
    return from_foreign(tensors, architecture.NAMES, model.layers)


def describe_files(
    architecture: ModuleType, model: Any, name: str, tokenizer: Tokenizer
) -> dict[str, bytes]:
    """Everything beside the weights: shape, defaults for writing, tokenizer and model card."""
    ids = {
        "bos_token_id": tokenizer.eos,  # a text starts as if another had just ended
        "eos_token_id": tokenizer.eos,
        "pad_token_id": tokenizer.pad,
    }
    # readers before transformers 5 look for torch_dtype, later ones for dtype
    shape = {**architecture.foreign(model), **ids, "dtype": "float32", "torch_dtype": "float32"}
    generation = {**ids, "do_sample": True, "temperature": 0.8, "max_new_tokens": 200}
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(tokenizer, Path(folder), context=model.context)
        written = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return {
        **written,
        "config.json": _json(shape),
        "generation_config.json": _json(generation),
        "README.md": CARD.format(name=name, kind=shape["architectures"][0]).encode(
            errors="replace"
        ),
    }


CARD = """---
library_name: transformers
pipeline_tag: text-generation
---
# {name}

A language model trained from scratch with Scriven. This folder is a Hugging Face model
({kind}):

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
```

`report.html` shows how it was trained and how well it does; `scriven.json` holds every setting.
"""


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
