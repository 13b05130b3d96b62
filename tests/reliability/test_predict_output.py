"""Predictions replace their output whole: a killed process or a broken table leaves the old one."""

import random
import signal
from pathlib import Path

from .finetuning import base_run, labelled, tuned, write_lines
from .runs import Child, command, refused


def test_an_output_appears_whole_or_not_at_all(
    tmp_path: Path,
) -> None:
    rows = write_lines(tmp_path / "labels.jsonl", labelled(20))
    tuned(base_run(tmp_path, "llama"), rows, out=tmp_path / "run")
    table = write_lines(tmp_path / "many.jsonl", labelled(6000))
    out = tmp_path / "out.csv"
    parts = ["predict", str(tmp_path / "run"), str(table), "-o", str(out)]
    assert command(*parts)[0] == 0
    right = out.read_bytes()
    out.unlink()
    chance, killed = random.Random(5), 0
    for _ in range(6):
        child = Child(lambda: command(*parts))
        child.pause(chance.uniform(0.05, 0.6))
        child.kill()
        killed += child.wait()[0] == -signal.SIGKILL
        assert not out.exists() or out.read_bytes() == right
    assert killed
    out.write_text("old")
    broken = write_lines(tmp_path / "broken.jsonl", [*labelled(3000), "{"])
    refused("predict", str(tmp_path / "run"), str(broken), "-o", str(out))
    assert out.read_text() == "old", "what was there stays"
    assert command(*parts)[0] == 0
    assert out.read_bytes() == right
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith(".tmp")]
    assert left == [], "what killed processes left is cleared"
