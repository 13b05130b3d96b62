"""bench/processes.py and bench/preparing.py: the parts that make a figure."""

import json
import os
import subprocess
import sys
from pathlib import Path

import busy_machine
import preparing
import processes
import pytest


def test_the_rate_is_that_of_the_second_half(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    slow = [{"event": "step", "tokens": 10 * n, "seconds": 10.0 * n} for n in range(4)]
    fast = [{"event": "step", "tokens": 40 + 60 * n, "seconds": 40.0 + n} for n in range(5)]
    other = [{"event": "evaluation", "tokens": 0, "seconds": 99.0}]
    path.write_text("\n".join(map(json.dumps, [*slow, *fast, *other])))
    assert processes.rate(path) == pytest.approx(60)


def test_memory_includes_all_descendants() -> None:
    child = "x = bytearray(80_000_000); input()"
    parent = (
        "import subprocess, sys; "
        f"subprocess.run([sys.executable, '-c', {child!r}], stdin=sys.stdin)"
    )
    done = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE)
    try:
        for _ in range(200):
            found = sum(map(preparing.memory, preparing.family(done.pid)))
            if found > 80:
                break
            with pytest.raises(subprocess.TimeoutExpired):
                done.wait(0.05)
        assert 80 < found < 300
    finally:
        done.communicate(b"\n")


def test_no_two_documents_are_the_same(tmp_path: Path) -> None:
    first = preparing.generate_text(tmp_path / "a.jsonl", 1, "jsonl")
    rows = [json.loads(line)["text"] for line in first.read_text().splitlines()]
    assert len(set(rows)) == len(rows)
    assert first.stat().st_size >= 1_000_000


def test_busy_processes_run_inside_the_context_and_are_gone_afterwards() -> None:
    def children() -> int:
        me = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
        return len(me.read_text().split())

    before = children()
    with busy_machine.busy(2):
        assert children() == before + 2
    assert children() == before
