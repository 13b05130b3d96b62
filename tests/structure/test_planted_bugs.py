"""The bugs of `make planted` can still be planted: code that changes takes its bug along."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
BUGS: list[dict[str, Any]] = tomllib.loads((TESTS / "planted_bugs.toml").read_text())["bug"]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug['file']}: {bug['old'][:30]}")
def test_the_place_of_a_planted_bug_is_there_once(bug: dict[str, Any]) -> None:
    code = (TESTS.parent / "src" / "scriven" / bug["file"]).read_text(encoding="utf-8")
    assert code.count(bug["old"]) == 1
    assert bug["new"] != bug["old"]
    missing = [name for name in bug["tests"] if not (TESTS / name.split("::")[0]).exists()]
    assert not missing
