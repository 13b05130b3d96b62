"""No import circles: between files, also inside functions, and between packages."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "scriven"

Graph = dict[str, set[str]]


def sources() -> dict[str, str]:
    """Dotted module name, without `scriven.`, -> source. The package's own `__init__` names every
    public module lazily, so it is left out."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path.read_text(encoding="utf-8")
    return found


@cache
def imported(name: str, source: str, modules: frozenset[str], is_package: bool) -> set[str]:
    """The modules that a module imports anywhere: at the top, in a function, for type checking."""
    package = name.split(".") if is_package else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
            elif (node.module or "").split(".")[0] == "scriven":
                base = []
            else:
                continue
            stem = [*base, *(node.module or "").removeprefix("scriven").strip(".").split(".")]
            stem = [part for part in stem if part]
            names = [".".join([*stem, each.name]) for each in node.names]
            found |= {each if each in modules else ".".join(stem) for each in names}
        elif isinstance(node, ast.Import):
            names = [each.name for each in node.names if each.name.startswith("scriven.")]
            found |= {each.removeprefix("scriven.") for each in names}
    return {each for each in found if each in modules} - {name}


def graph(code: dict[str, str]) -> Graph:
    packages = {name for name in code if any(other.startswith(name + ".") for other in code)}
    modules = frozenset(code)
    return {
        name: imported(name, source, modules, name in packages) for name, source in code.items()
    }


def circle(edges: Graph) -> list[str]:
    """A circle of the graph; empty where there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def packages(edges: Graph) -> Graph:
    """The graph of the folders and files beside them, without imports inside each."""
    outer: Graph = {}
    for name, targets in edges.items():
        top = name.split(".")[0]
        outer.setdefault(top, set()).update({each.split(".")[0] for each in targets} - {top})
    return outer


def test_no_file_imports_itself_through_others() -> None:
    assert circle(graph(sources())) == []


def test_no_package_imports_itself_through_others() -> None:
    assert circle(packages(graph(sources()))) == []


@pytest.mark.parametrize(
    "line",
    [
        "from ..model import load",
        "def late():\n    from .. import model",
        "if TYPE_CHECKING:\n    from scriven.model import load",
        "import scriven.model",
    ],
)
def test_a_circle_is_found_wherever_the_import_stands(line: str) -> None:
    """A planted bug."""
    code = sources()
    code["nn.attention"] += f"\n{line}\n"
    assert {"nn", "model"} <= {name.split(".")[0] for name in circle(packages(graph(code)))}
    assert circle(graph(code)) != []
