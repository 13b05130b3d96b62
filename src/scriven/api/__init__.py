"""What a notebook needs: `train`, `load`, a `Model` to write and measure with, and `GPT` for the
compile-and-fit style."""

from .gpt import GPT, History
from .machine import examine
from .model import Model, load, train
from .shape import inspect

__all__ = ["GPT", "History", "Model", "examine", "inspect", "load", "train"]
