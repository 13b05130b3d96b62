"""Scriven: your own text into your own GPT, on the machine you have.

    import scriven
    model = scriven.train("book.txt", budget="10m")
    print(model.generate("It was", max_new_tokens=200))

Importing this package loads nothing heavy; torch comes with the first use of a name below.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import GPT, Model, bench, compare, export, finetune, import_run, load, prepare, train
    from .errors import ScrivenError

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


def __getattr__(name: str) -> Any:
    if name == "ScrivenError":
        from .errors import ScrivenError

        return ScrivenError
    if name in __all__:
        from .process import settle

        settle()
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module 'scriven' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """`scriven.train` stays the function although the package `scriven/train/` has its name."""

    def __setattr__(self, name: str, value: object) -> None:
        # importing a subpackage binds it to its parent, which would hide the function
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
