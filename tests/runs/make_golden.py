"""Made golden/format-2 with release 0.1.0: `python -m tests.runs.make_golden`. Never make it again.

A later release has to read what this one wrote; a new format gets a new folder beside it.
"""

from pathlib import Path

import torch

from scriven.runs import checkpoint
from scriven.runs.huggingface import save_pretrained
from scriven.runs.metadata import write_metadata

FOLDER = Path(__file__).parent / "golden"


def golden_tensors() -> dict[str, dict[str, torch.Tensor]]:
    """Every type of number a run saves, by formula."""
    ramp = torch.arange(24, dtype=torch.float64) / 7 - 1
    return {
        "model": {
            "embed.weight": ramp.float().reshape(6, 4),
            "block.0.weight": ramp.bfloat16().reshape(2, 3, 4),
            "block.0.scale": ramp.half(),
            "block.0.empty": torch.empty(0, 4),
            "exact": ramp,
        },
        "optimizer": {"0.momentum": -ramp.float(), "0.step": torch.tensor(7)},
        "random": {"cpu": torch.arange(40, dtype=torch.uint8), "flag": torch.tensor([True, False])},
    }


STATE = {"progress": {"step": 7, "best_loss": float("inf"), "seconds": 0.1}, "text": "é\n"}
RECORD = {"name": "golden é", "architecture": "llama", "model": {"layers": 1, "width": 4}}


def make(folder: Path) -> None:
    """Writes a run folder."""
    folder.mkdir(parents=True)
    write_metadata(folder, RECORD)
    checkpoint.save(folder, 7, golden_tensors(), STATE)
    save_pretrained(folder, {"config.json": b"{}\n"}, golden_tensors()["model"])


if __name__ == "__main__":
    make(FOLDER / "format-2")
