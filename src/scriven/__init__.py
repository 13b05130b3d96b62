"""Scriven: your own text into your own GPT, on the machine you have.

    import scriven
    model = scriven.train("book.txt", budget="10m")
    print(model.generate("It was", max_new_tokens=200))

Importing this package loads nothing heavy; torch comes with the first use of a name below.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bench import bench
    from .errors import ScrivenError
    from .export.export import export
    from .importing import import_run
    from .keras.gpt import GPT
    from .model import Model, finetune, load, train
    from .prepare import prepare
    from .report.compare import compare

__version__ = "0.1.0"
__all__ = [
    "GPT",
    "Model",
    "ScrivenError",
    "__version__",
    "bench",
    "compare",
    "export",
    "finetune",
    "import_run",
    "load",
    "prepare",
    "train",
]


_MODULES = {
    "GPT": "keras.gpt",
    "Model": "model",
    "ScrivenError": "errors",
    "bench": "bench",
    "compare": "report.compare",
    "export": "export.export",
    "finetune": "model",
    "import_run": "importing",
    "load": "model",
    "prepare": "prepare",
    "train": "model",
}
"""The module of each public name, imported when the name is first used."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'scriven' has no attribute {name!r}")
    if name != "ScrivenError":
        from .process import configure_threads_and_malloc

        configure_threads_and_malloc()  # before torch is loaded
    return getattr(import_module(f"scriven.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """`scriven.train` stays the function although the package `scriven/train/` has its name."""

    def __setattr__(self, name: str, value: object) -> None:
        # importing a subpackage binds it to its parent, which would hide the function
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
