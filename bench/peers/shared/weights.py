"""Weights and config.json of a folder in the Hugging Face layout."""

import json
from pathlib import Path
from typing import Any

import torch


def read(folder: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """(config.json, float32 weights by name)."""
    from safetensors.torch import load_file

    config = json.loads((Path(folder) / "config.json").read_text())
    return config, load_file(Path(folder) / "model.safetensors")


def count(model: torch.nn.Module) -> int:
    """Parameters; a tied matrix counts once."""
    return sum(weight.numel() for weight in {id(w): w for w in model.parameters()}.values())
