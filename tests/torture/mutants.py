"""`make mutants`: a random sample of small changes of the source, and which of them tests notice.

Unlike the planted bugs nobody chose these, so they tell which fraction of all mistakes is noticed.
Some mutants mean the same as the source and cannot be noticed: survivors are to be read.
"""

import argparse
import ast
import itertools
import os
import random
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from .planted import SOURCE, TESTS, run_tests

COMPARISONS: dict[type[ast.cmpop], ast.cmpop] = {
    ast.Lt: ast.LtE(), ast.LtE: ast.Lt(), ast.Gt: ast.GtE(), ast.GtE: ast.Gt(), ast.Eq: ast.NotEq(),
    ast.NotEq: ast.Eq(), ast.In: ast.NotIn(), ast.NotIn: ast.In(), ast.Is: ast.IsNot(),
    ast.IsNot: ast.Is(),
}  # fmt: skip
OPERATORS: dict[type[ast.operator], ast.operator] = {
    ast.Add: ast.Sub(), ast.Sub: ast.Add(), ast.Mult: ast.Add(), ast.Div: ast.Mult(),
    ast.FloorDiv: ast.Mult(), ast.Mod: ast.FloorDiv(), ast.Pow: ast.Mult(),
}  # fmt: skip


def changes(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.AST]]:
    """(part of the tree, what takes its place) of every mutant."""
    for node in ast.walk(tree):
        for kind, made in _changed(node):
            yield kind, ast.copy_location(made, kind)


def _changed(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        other = COMPARISONS.get(type(node.ops[0]))
        if other is not None:
            yield node, ast.Compare(node.left, [other], node.comparators)
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        if not isinstance(node.left, ast.Constant) or not isinstance(node.left.value, str):
            yield node, ast.BinOp(node.left, OPERATORS[type(node.op)], node.right)
    elif isinstance(node, ast.BoolOp):
        yield node, ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node, node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield node, ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield node, ast.Constant(node.value + 1)
    elif isinstance(node, ast.If | ast.IfExp):
        yield node.test, ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield node, ast.Pass()
    elif isinstance(node, ast.Return) and node.value is not None:
        yield node, ast.Return(ast.Constant(None))


def mutants(path: Path) -> Iterator[tuple[int, ast.AST, ast.AST]]:
    """(line, part of the tree, what takes its place) of every mutant of a file."""
    for old, new in changes(ast.parse(path.read_text(encoding="utf-8"))):
        line = getattr(old, "lineno", 0)
        # of one line only, to keep the rest as it is
        if line and old.end_lineno == line and ast.dump(old) != ast.dump(new):  # type: ignore[attr-defined]
            yield line, old, new


def mutate(path: Path, line: int, old: ast.AST, new: ast.AST) -> tuple[str, str] | None:
    """(what stands there and takes its place, the whole mutated file), None where it is no code."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    there = lines[line - 1].encode()
    start, end = old.col_offset, old.end_col_offset  # type: ignore[attr-defined]
    code = ast.unparse(new)
    if isinstance(old, ast.expr):
        code = f"({code})"
    changed = (there[:start] + code.encode() + there[end:]).decode()
    whole = "".join([*lines[: line - 1], changed, *lines[line:]])
    try:
        ast.parse(whole)
    except SyntaxError:
        return None
    return f"{lines[line - 1].strip()}  ->  {changed.strip()}", whole


def draw(package: str, count: int, seed: int) -> Iterator[tuple[Path, int, str, str]]:
    """(file, line, what is changed, the whole mutated file) of a random sample of a package."""
    known = [(path, each) for path in sorted((SOURCE / package).rglob("*.py"))
             for each in mutants(path)]  # fmt: skip
    random.Random(f"{seed}/{package}").shuffle(known)
    made = ((path, each[0], mutate(path, *each)) for path, each in known)
    good = ((path, line, *found) for path, line, found in made if found is not None)
    return itertools.islice(good, count)


def tests_of(package: str, module: str) -> list[str]:
    """Test files that name a module, those of its package first; else all of its package."""
    name = re.compile(
        rf"\b{package}(\.\w+)*\.{module}\b|\bfrom scriven\.{package}\S* import .*\b{module}\b"
    )
    found = [path for path in TESTS.glob("*/test_*.py") if name.search(path.read_text())]
    if not any(path.parent.name == package for path in found):
        found += sorted((TESTS / package).glob("test_*.py"))
    found.sort(key=lambda path: (path.parent.name != package, path))
    return [str(path.relative_to(TESTS)) for path in found]


def try_mutants(sample: list[tuple[str, Path, int, str, str]], folder: Path, results: Path) -> None:
    """Puts mutants one after the other into a copy; appends a line to `results` for each."""
    copy = folder / "scriven"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for package, path, line, what, whole in sample:
        place = copy / path.relative_to(SOURCE)
        good = place.read_text(encoding="utf-8")
        place.write_text(whole, encoding="utf-8")
        caught = run_tests(copy, tests_of(package, path.stem), folder / "log")
        place.write_text(good, encoding="utf-8")
        where = f"{path.relative_to(SOURCE)}:{line}"
        said = f"{'killed' if caught else 'SURVIVED'} {where}: {what} | {caught}\n"
        with results.open("a") as file:
            file.write(said)
        print(said, end="", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="mutants")
    parser.add_argument("--packages", default="runs,data,evaluate,tasks")
    parser.add_argument("--each", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    packages = given.packages.split(",")
    sample = [(each, *mutant) for each in packages for mutant in draw(each, given.each, given.seed)]
    with tempfile.TemporaryDirectory() as folder:
        results, children = Path(folder, "results"), []
        for worker in range(given.workers):
            process = os.fork()
            if process == 0:
                place = Path(folder, str(worker))
                place.mkdir()
                try_mutants(sample[worker :: given.workers], place, results)
                os._exit(0)
            children.append(process)
        for process in children:
            os.waitpid(process, 0)
        lines = results.read_text().splitlines()
    for package in packages:
        own = [line for line in lines if f" {package}/" in line.split(":")[0]]
        killed = sum(line.startswith("killed") for line in own)
        print(f"{package}: {killed} of {len(own)} killed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
