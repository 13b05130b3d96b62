"""A new target of exports is one new file, in the package's folder or of one's own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from scriven.cli import run as command
from scriven.errors import InputError
from scriven.export import targets as package
from scriven.export.base import ExportTarget
from scriven.export.export import export, open_target, targets

RunOf = Callable[[str], Path]

TARGET = '''
"""The run's own folder, read by Scriven itself."""

from pathlib import Path

from scriven.export.base import ExportTarget, ProbeAnswer
from scriven.export.parity_check import reference_logits
from scriven.runs.load import load_run


class Target(ExportTarget):
    DTYPES = ("f32", "f64")
    BOUNDS = {"f32": 1e-4}
    CHECKS, EXTRA = ("torch",), "mine"
    RUNTIME, LIBRARY = "Myself", "scriven"

    def refuse(self, loaded, dtype):
        return "only float32 is true" if dtype == "f64" else None

    def write(self, loaded, folder, dtype):
        (folder / "where.txt").write_text(str(loaded.folder))

    def run_probe(self, folder, probe):
        loaded = load_run(Path((folder / "where.txt").read_text()))
        tokens, logits = [], []
        for prompt, count in zip(probe.prompts, probe.counts):
            written = []
            for _ in range(count):
                scores = reference_logits(loaded, probe, list(prompt), [*written, 0])[-1]
                scores[list(probe.never)] = -float("inf")
                written.append(int(scores.argmax()))
            tokens.append(written)
            logits.append(reference_logits(loaded, probe, list(prompt), written).numpy())
        return ProbeAnswer([loaded.tokenizer.encode(text) for text in probe.texts], tokens, logits)

    def usage(self, loaded, dtype):
        return "Read it with Scriven."
'''


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(TARGET, encoding="utf-8")
    return path


def test_a_file_of_ones_own_is_a_target(
    run_of: RunOf, mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    line = ["export", str(run_of("words")), "--to", str(mine), "--out", str(out)]
    assert command(line) == 0
    said = capsys.readouterr().out
    assert "checked in" in said and "Myself (torch" in said
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "export.json", "where.txt"]
    assert "Read it with Scriven." in (out / "README.md").read_text()
    with pytest.raises(InputError, match="cannot be exported to mine: only float32 is true"):
        export(run_of("words"), str(mine), dtype="f64")


def test_a_file_in_the_folder_is_a_target(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = targets()
    package.__path__.append(str(mine.parent))
    try:
        assert targets() == sorted([*before, "mine"])
        name, target = open_target("mine")
        assert name == "mine" and isinstance(target, ExportTarget)
    finally:
        package.__path__.remove(str(mine.parent))
    assert targets() == before


@pytest.mark.parametrize("name", targets())
def test_every_target_says_what_it_is(name: str) -> None:
    _, target = open_target(name)
    assert target.choose_dtype(name, None) == target.DTYPES[0]
    assert set(target.BOUNDS) <= set(target.DTYPES)
    assert target.CHECKS and target.EXTRA and target.RUNTIME and target.LIBRARY
