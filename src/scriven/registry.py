"""The folder is the registry: a name is that of a file in a package, or of a user's file.

Architectures, optimizers, tasks, metrics, data formats, commands and so on are found this way, so
adding one means adding a file (docs/extending.md).
"""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from .errors import InputError


def names(package: str, exclude: Collection[str] = ()) -> list[str]:
    """Names of the public modules in a package folder, sorted; nothing is imported.

    `base` holds what the files of a folder share, so it is not one of them. A folder appended to
    the package's `__path__` counts as well.

    Args:
        exclude: other files of the folder that are none of them either.
    """
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations, f"{package} is not a package"
    # several folders where others were appended to `__path__`
    folders = map(Path, spec.submodule_search_locations)
    stems = {file.stem for folder in folders for file in folder.glob("*.py")}
    return sorted(
        stem for stem in stems if not stem.startswith("_") and stem not in {"base", *exclude}
    )


def module(
    package: str, name: str, kind: str | None = None, *, exclude: Collection[str] = ()
) -> ModuleType:
    """The module `name` of `package`, or the user's own file when `name` ends in .py.

    A user's file is run as code, so its path may come from the command line or from Python, but
    never from a run folder.

    Args:
        kind: what such a file is, for the error message. exclude: as for `names`.

    Raises:
        InputError: no such name; the text lists the nearest and all known ones.
    """
    kind = kind or package.rsplit(".", 1)[-1].rstrip("s")
    # 1. the user's own file, which is run
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"{kind} file {path} does not exist")
        # a name of its own, so that it cannot replace a module of the package
        spec = importlib.util.spec_from_file_location(f"scriven_user_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = loaded  # dataclasses look their module up by name
        spec.loader.exec_module(loaded)
        return loaded
    # 2. a file of the package
    known = names(package, exclude)
    if name not in known:
        raise InputError(f"unknown {kind} {name!r}: {did_you_mean(name, known)}")
    return importlib.import_module(f"{package}.{name}")


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """The end of an error on an unknown name: the nearest known one, and the first twenty."""
    near = get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}known are {', '.join(known[:20])}"


def installed_version(package: str) -> str | None:
    """The version of an installed package; None where it is not installed."""
    from importlib import metadata  # 12 ms that `--help` does without

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # it may have come under another name: onnxruntime-gpu
        return "of unknown version" if importlib.util.find_spec(package) is not None else None


def class_attribute(package: str, name: str, of: str, attribute: str) -> str | None:
    """A text that a class of a module assigns to an attribute, read from the source: nothing is
    imported. None where the module is unknown or its class `of` does not assign one."""
    if name not in names(package):
        return None
    spec = importlib.util.find_spec(f"{package}.{name}")
    assert spec is not None and spec.origin is not None
    # parsed, never run: importing an architecture would load torch
    for node in ast.walk(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ClassDef) or node.name != of:
            continue
        for line in node.body:
            targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", 0)]
            value = getattr(line, "value", None)
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                if attribute in [each.id for each in targets if isinstance(each, ast.Name)]:
                    return value.value
    return None
