"""FAULTS.md names tests that exist, for every fault that a program without a server can meet."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| ([A-E]\d+) \| [^|]+ \| (.+) \|$")
ROWS = [
    (match[1], re.findall(r"`([^`]+)`", match[2]))
    for line in Path(__file__).with_name("FAULTS.md").read_text(encoding="utf-8").splitlines()
    if (match := ROW.match(line))
]
SERVER = {"E7", "E8", "E9", "E11"}
EXPECTED = (
    [f"A{number}" for number in range(1, 26)]
    + [f"B{number}" for number in range(1, 11)]
    + [f"C{number}" for number in range(1, 18)]
    + [f"E{number}" for number in range(1, 15) if f"E{number}" not in SERVER]
)


def test_every_fault_has_a_row() -> None:
    assert [fault for fault, _ in ROWS] == EXPECTED
    assert len(EXPECTED) == 62


@pytest.mark.parametrize(("fault", "tests"), ROWS)
def test_its_tests_exist(fault: str, tests: list[str]) -> None:
    assert tests, f"{fault} is held by nothing"
    for each in tests:
        if each.startswith("make "):
            assert f"\n{each[5:]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
            continue
        path, _, name = each.partition("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert not name or name in functions, each
