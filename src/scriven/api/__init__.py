"""What a notebook needs: `train`, `load`, a `Model` to write and measure with, and `GPT` for the
compile-and-fit style."""

from ..report.compare import compare
from .benches import bench
from .exports import export
from .finetuning import finetune
from .gpt import GPT, History
from .incoming import import_run
from .machine import examine
from .model import Model, load
from .planning import plan
from .preparing import prepare
from .shape import inspect
from .speed import measure
from .training import train

__all__ = [
    "GPT",
    "History",
    "Model",
    "bench",
    "compare",
    "examine",
    "export",
    "finetune",
    "import_run",
    "inspect",
    "load",
    "measure",
    "plan",
    "prepare",
    "train",
]
