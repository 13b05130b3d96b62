"""Every JSON file of a run folder damaged in many ways: each command says so in one line."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scriven.cli import run as command
from scriven.manifest import signed_json

FILES = [
    "scriven.json",
    "metrics.jsonl",
    "surprise.json",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "manifest.json",
    "checkpoints/step-4/state.json",
    "checkpoints/step-4/manifest.json",
]
LINES = [
    b"5",
    b"null",
    b"[]",
    b"{}",
    b'{"event": 5, "step": 1}',
    b'{"event": "step", "step": null}',
    b'{"event": "evaluation", "step": 3, "loss": "x", "best": 5}',
    b'{"event": "sample", "step": 4, "text": 5, "prompt": []}',
    b'{"event": "step", "step": 1e400}',
    b"[" * 100_000,
    b"\xff",
]
READERS = {
    "runs": [["report", "RUN"], ["compare", "RUN"], ["inspect", "RUN"]],
    "language": [
        ["evaluate", "RUN", "text.txt"],
        ["generate", "RUN", "It", "--max-new-tokens", "2"],
        ["train", "--resume", "RUN", "--quiet"],
    ],
    "labels": [
        ["evaluate", "RUN"],
        ["predict", "RUN", "rows.csv", "-o", "out.csv"],
        ["finetune", "language", "rows.csv", "--out", "RUN", "--budget", "4steps", "--quiet"],
    ],
}


def damages(name: str, raw: bytes) -> Iterator[bytes | None]:
    """The content of a damaged file; None: a folder in its place."""
    yield from (None, b"", b"null", b"5", b"[]", b"{}", b'"x"', raw[: len(raw) // 2], raw + raw)
    yield from (b"[" * 200_000, b'{"a":' * 100_000, b"\xff\x00\x80" * 50, raw[:40] + b"\xff")
    yield raw.replace(b": 1", b": 1" + b"0" * 5000, 1)
    if name.endswith(".jsonl"):
        first, *rest = raw.splitlines()
        for line in LINES:
            yield b"\n".join([first, line, *rest, line]) + b"\n"


def other_records(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """scriven.json with one value missing or of another type, and a digest that fits again."""
    record = json.loads(raw)
    places = [(key,) for key in record] + [
        (key, inner) for key, value in record.items() if isinstance(value, dict) for inner in value
    ]
    for path in places:
        for wrong in (None, 5, "x", [1], {"a": 1}, ...):
            changed = json.loads(raw)
            section = changed if len(path) == 1 else changed[path[0]]
            if path[-1] in ("format", "digest"):
                continue
            if wrong is ...:
                del section[path[-1]]
            else:
                section[path[-1]] = wrong
            body = {key: each for key, each in changed.items() if key not in ("format", "digest")}
            yield f"{'.'.join(path)} = {wrong}", signed_json(body)


@pytest.fixture
def try_command(
    small_runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    monkeypatch.chdir(small_runs)

    def attempt(kind: str, name: str, content: bytes | None, arguments: list[str]) -> None:
        run = small_runs / "tried"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(small_runs / kind, run)
        (run / name).unlink()
        if content is None:
            (run / name).mkdir()
        else:
            (run / name).write_bytes(content)
        code = command([str(run) if each == "RUN" else each for each in arguments])
        said = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
        assert code in (0, 2), said
        if code:
            assert len([line for line in said if line.startswith("scriven: ")]) == 1, said
            assert len(said[-1]) < 1000

    return attempt


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_refused_in_one_line_or_not_needed(
    small_runs: Path, name: str, try_command: Any
) -> None:
    for content in damages(name, (small_runs / "language" / name).read_bytes()):
        for arguments in READERS["runs"]:
            try_command("language", name, content, arguments)


@pytest.mark.parametrize(
    "place",
    [
        "architecture",
        "model",
        "settings.optim",
        "environment.dtype",
        "data",
        "data.sources",
        "tokenizer.fingerprint",
        "reasons",
        "baseline.loss",
        "results",
        "results.val_loss",
    ],
)
def test_a_record_of_another_shape_is_refused_in_one_line(
    small_runs: Path, place: str, try_command: Any
) -> None:
    for name, content in other_records((small_runs / "language" / "scriven.json").read_bytes()):
        if name.split(" ")[0] == place:
            for arguments in READERS["runs"][-1:] + READERS["language"]:
                try_command("language", "scriven.json", content, arguments)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["language", "labels"])
def test_every_command_survives_every_damage(small_runs: Path, kind: str, try_command: Any) -> None:
    for name in FILES:
        if (small_runs / kind / name).exists():
            for content in damages(name, (small_runs / kind / name).read_bytes()):
                for arguments in READERS[kind]:
                    try_command(kind, name, content, arguments)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["language", "labels"])
def test_every_command_survives_every_record(small_runs: Path, kind: str, try_command: Any) -> None:
    for _, content in other_records((small_runs / kind / "scriven.json").read_bytes()):
        for arguments in READERS["runs"] + READERS[kind]:
            try_command(kind, "scriven.json", content, arguments)
