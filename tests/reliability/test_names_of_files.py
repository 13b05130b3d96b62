"""A name in a command or a file is looked up, and never joined to a path that leads elsewhere."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scriven.errors import ScrivenError
from scriven.manifest import MANIFEST, build_manifest, read_listed, read_manifest, signed_json
from scriven.runs.metadata import NAME

from .runs import command

SECRET = "secret"
NAMES = [
    "../{}", "../../{}", "./../{}", "{} ", "/etc/passwd", "..\\{}", "%2e%2e/{}", "..%2f{}",
    "a/../../{}", "\0{}", "{}\0.py", "~/{}", "file:///{}", "http://127.0.0.1:9/{}", "\u2025/{}",
    "-", "CON", "x" * 5000, "", " ", "$(touch {})", "`touch {}`", "{{x}}", "\x1b[2J", "\u202e{}",
]  # fmt: skip
"""Paths upwards, absolute and encoded; NUL; URLs; devices; shell, template and terminal code."""

opened: list[str] = []
_watching = False


def _note(event: str, given: tuple[object, ...]) -> None:
    if _watching and event == "open":
        opened.append(str(given[0]))


sys.addaudithook(_note)


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file beside the current folder that nothing may open."""
    global _watching
    folder = tmp_path / "here"
    folder.mkdir()
    for name in ("", ".py", ".yaml", ".toml", ".jsonl", ".json"):
        (tmp_path / (SECRET + name)).write_text("{}")
    (folder / "book.txt").write_text("It was a dark and stormy night. " * 50)
    monkeypatch.chdir(folder)
    opened.clear()
    _watching = True
    yield tmp_path
    _watching = False
    assert [path for path in opened if path.startswith("/etc/passwd")] == []
    assert [path for path in opened if SECRET in Path(path).name] == []
    assert sorted(each.name for each in tmp_path.iterdir() if each.name.startswith("touch")) == []


FIELDS = {
    "architecture": ["train", "book.txt", "--arch={}", "--budget=1steps"],
    "size": ["train", "book.txt", "--size={}", "--budget=1steps"],
    "preset": ["train", "book.txt", "--preset={}", "--budget=1steps"],
    "tokenizer": ["train", "book.txt", "--tokenizer.kind={}", "--budget=1steps"],
    "optimizer": ["train", "book.txt", "--optim.name={}", "--budget=1steps"],
    "schedule": ["train", "book.txt", "--optim.lr_schedule={}", "--budget=1steps"],
    "task": ["finetune", "RUN", "table.jsonl", "--task={}"],
    "target": ["export", "RUN", "--to={}"],
}
"""Commands that take a name; those that take a path may open it."""


@pytest.mark.parametrize("field", FIELDS)
def test_a_name_on_the_command_line(secret: Path, base: Path, field: str) -> None:
    for name in NAMES:
        line = [
            each.replace("{}", name.replace("{}", SECRET)).replace("RUN", str(base))
            for each in FIELDS[field]
        ]
        if name.endswith(".py") or not name:  # a user's own file, and the default
            continue
        code, out, err = command(*line)
        assert code == 2, (line, err)
        assert out == ""
        assert err.count("\n") == 1, err


def test_a_name_in_the_record_of_a_run(secret: Path, base: Path, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        for field in ("architecture", "task"):
            run = secret / "runs" / f"{field}-{number}"
            shutil.copytree(base, run)
            record = json.loads((run / NAME).read_text())
            del record["format"], record["digest"]
            record[field] = name.replace("{}", SECRET)
            (run / NAME).write_bytes(signed_json(record))
            for verb in (
                ["generate", str(run), "x"],
                ["evaluate", str(run)],
                ["inspect", str(run)],
            ):
                code, _, err = command(*verb)
                # inspect may only show it
                assert code == 2 or verb[0] == "inspect", (verb, field, name, err)
                assert err.count("\n") == (code == 2)
            shutil.rmtree(run)


def test_a_name_in_a_manifest(secret: Path) -> None:
    folder = Path("listed")
    folder.mkdir()
    for name in NAMES:
        (folder / MANIFEST).write_bytes(build_manifest({name.replace("{}", SECRET): b"{}"}))
        for each, expected in read_manifest(folder).items():
            with pytest.raises(ScrivenError):
                read_listed(folder, each, expected)


def test_a_name_in_the_index_of_weights(secret: Path, base: Path) -> None:
    theirs = secret / "theirs"
    for name in NAMES:
        shutil.copytree(base, theirs, ignore=shutil.ignore_patterns("checkpoints"))
        (theirs / "model.safetensors").unlink()
        index = {"weight_map": {"model.embed_tokens.weight": name.replace("{}", SECRET)}}
        (theirs / "model.safetensors.index.json").write_text(json.dumps(index))
        code, _, err = command("import", str(theirs), "--out=made")
        assert code == 2, (name, err)
        assert err.count("\n") == 1
        assert not Path("made").exists()
        shutil.rmtree(theirs)


def test_the_audit_would_notice(secret: Path) -> None:
    (secret / SECRET).read_text()
    assert any(SECRET in path for path in opened)
    opened.clear()
