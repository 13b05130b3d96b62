"""`make mutants`: a random sample of small changes of the source, and which of them tests notice.

Unlike the planted bugs nobody chose these, so they tell which fraction of all mistakes is noticed.
Some mutants mean the same as the source and cannot be noticed: survivors are to be read.
"""

import argparse
import ast
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


def mutants(path: Path) -> list[tuple[int, str, str]]:
    """(line, what stands there, the whole mutated file) of every mutant of a file."""
    text = path.read_text(encoding="utf-8")
    lines, found = text.splitlines(keepends=True), []
    for old, new in changes(ast.parse(text)):
        at = getattr(old, "lineno", 0) - 1
        if getattr(old, "end_lineno", 0) - 1 != at:  # of one line only, to keep the rest as it is
            continue
        line = lines[at].encode()
        start, end = old.col_offset, old.end_col_offset  # type: ignore[attr-defined]
        code = ast.unparse(new)
        if isinstance(old, ast.expr):
            code = f"({code})"
        changed = (line[:start] + code.encode() + line[end:]).decode()
        whole = "".join([*lines[:at], changed, *lines[at + 1 :]])
        try:
            ast.parse(whole)
        except SyntaxError:
            continue
        found.append((at + 1, f"{lines[at].strip()}  ->  {changed.strip()}", whole))
    return found


def tests_of(package: str, module: str) -> list[str]:
    """Test files that name a module, those that are quick first; else all of its package."""
    name = re.compile(
        rf"\b{package}(\.\w+)*\.{module}\b|\bfrom scriven\.{package}\S* import .*\b{module}\b"
    )
    found = [path for path in TESTS.glob("*/test_*.py") if name.search(path.read_text())]
    own = [path for path in found if path.parent.name == package]
    chosen = own or found or sorted((TESTS / package).glob("test_*.py"))
    return [str(path.relative_to(TESTS)) for path in sorted(chosen)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="mutants")
    parser.add_argument("--packages", default="runs,data,evaluate,tasks")
    parser.add_argument("--each", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whole", action="store_true", help="run all tests of the package")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    sample: list[tuple[str, Path, tuple[int, str, str]]] = []
    for package in given.packages.split(","):
        known = [(path, each) for path in sorted((SOURCE / package).rglob("*.py"))
                 for each in mutants(path)]  # fmt: skip
        chosen = random.Random(f"{given.seed}/{package}").sample(known, given.each)
        sample += [(package, *each) for each in chosen]
    with tempfile.TemporaryDirectory() as folder:
        results, children = Path(folder, "results"), []
        for worker in range(given.workers):
            process = os.fork()
            if process == 0:
                copy = Path(folder, str(worker), "scriven")
                shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
                for package, path, (line, what, whole) in sample[worker :: given.workers]:
                    place = copy / path.relative_to(SOURCE)
                    good = place.read_text(encoding="utf-8")
                    place.write_text(whole, encoding="utf-8")
                    tests = [package] if given.whole else tests_of(package, path.stem)
                    caught = run_tests(copy, tests, Path(folder, f"log-{worker}"))
                    place.write_text(good, encoding="utf-8")
                    where = f"{path.relative_to(SOURCE)}:{line}"
                    said = f"{'killed' if caught else 'SURVIVED'} {where}: {what} | {caught}\n"
                    with results.open("a") as file:
                        file.write(said)
                    print(said, end="", flush=True)
                os._exit(0)
            children.append(process)
        for process in children:
            os.waitpid(process, 0)
        lines = results.read_text().splitlines()
    for package in given.packages.split(","):
        own = [line for line in lines if f" {package}/" in line.split(":")[0]]
        killed = sum(line.startswith("killed") for line in own)
        print(f"{package}: {killed} of {len(own)} killed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
