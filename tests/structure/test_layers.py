"""The house: a file imports only from a lower layer, or from its own folder."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "scriven"

LAYERS = {
    "errors": 0, "registry": 0, "config": 0, "settings": 0, "process": 0,
    "files": 0, "manifest": 0, "format": 0, "notebook": 0,
    "runtime": 1, "distributed": 1, "tokenizers": 1, "nn": 1,
    "data": 2, "models": 2,
    "tasks": 3,
    "runs": 4, "native": 4,
    "generate": 5, "import_": 5,
    "evaluate": 6, "export": 6, "report": 6,
    "train": 7,
    "plan": 8, "serve": 8, "evaluation": 8, "frames": 8,
    "machine": 9, "model": 9, "inspect": 9, "bench": 9, "prepare": 9,
    "keras": 10, "importing": 10, "sklearn": 10,
    "cli": 11, "__init__": 11, "__main__": 11,
}  # fmt: skip

GROUND = {
    "errors", "registry", "config", "settings", "process", "files", "manifest", "format",
}  # fmt: skip
"""Files of one folder, the package's own, on the lowest layer."""

IMPORTS_BY_NAME = {"registry.py", "__init__.py"}
"""The files that may: the registry, and the package's own lazy public names."""

READS_PICKLES = {"import_/sandbox.py"}
"""The one file that may: tensors alone, in a process of its own that can do nothing else."""


def files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def place(path: Path) -> str:
    """The room a file stands in: a folder of the package, or a file beside it."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imports(path: Path, source: str | None = None) -> list[tuple[str, str]]:
    """(room, dotted name) of every import of our own, those inside functions too."""
    here = ("scriven", *path.relative_to(ROOT).with_suffix("").parts)
    found = []
    for node in ast.walk(ast.parse(path.read_text() if source is None else source)):
        if isinstance(node, ast.ImportFrom):
            base = here[: -node.level] if node.level else ()
            dotted = (*base, *(node.module or "").split("."))
            dotted = tuple(part for part in dotted if part)
            names = [dotted] if len(dotted) > 1 else [(*dotted, each.name) for each in node.names]
        elif isinstance(node, ast.Import):
            names = [tuple(each.name.split(".")) for each in node.names]
        else:
            continue
        found += [(name[1], ".".join(name)) for name in names if name[0] == "scriven" and name[1:]]
    return found


def wrong_arrows(path: Path, source: str | None = None) -> list[str]:
    own = place(path)
    if own in ("__init__", "__main__"):
        return []
    wrong = []
    for room, name in imports(path, source):
        if room == own or room.startswith("__") or {room, own} <= GROUND:
            continue
        if LAYERS[room] >= LAYERS[own]:
            wrong.append(f"{path.relative_to(ROOT)} -> {name}")
    return wrong


def test_every_room_has_a_layer() -> None:
    assert {place(path) for path in files()} <= set(LAYERS)


def test_files_import_only_from_lower_layers() -> None:
    assert [arrow for path in files() for arrow in wrong_arrows(path)] == []


def test_an_upward_import_inside_a_function_is_found() -> None:
    planted = "def f():\n    from ..train.trainer import Trainer\n"
    assert wrong_arrows(ROOT / "nn" / "attend.py", planted) == [
        "nn/attend.py -> scriven.train.trainer"
    ]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_small_and_say_what_they_are_for(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400, "one idea hides in two"
    # an empty file only marks a package
    assert not text or ast.get_docstring(ast.parse(text)), "no docstring"


def test_no_loader_can_run_code() -> None:
    """No pickle, no eval, no torch.load anywhere; modules by name only in the registry."""
    banned = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
    calls = {"eval", "exec", "compile", "__import__"}
    wrong = []
    for path in files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                wrong += [(path.name, each.name) for each in node.names if each.name in banned]
            if isinstance(node, ast.ImportFrom) and node.module in banned:
                wrong.append((path.name, node.module))
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called == "torch.load" and path.relative_to(ROOT).as_posix() in READS_PICKLES:
                    keys = {key.arg: ast.unparse(key.value) for key in node.keywords}
                    called = "" if keys.get("weights_only") == "True" else called
                if called in calls or called in ("torch.load", "np.load", "numpy.load"):
                    wrong.append((path.name, called))
                if called.endswith(("import_module", "exec_module")):
                    if path.relative_to(ROOT).as_posix() not in IMPORTS_BY_NAME:
                        wrong.append((path.name, called))
    assert wrong == []
