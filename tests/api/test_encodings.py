"""Every command on a terminal that knows ASCII or Windows-1252 only, with names of all kinds."""

import io
import json
import shutil
import sys
from pathlib import Path

import pytest

from scriven.cli import main

COMMANDS = [
    ["--help"],
    ["train", "--help"],
    ["train", "--help-all"],
    ["finetune", "--help"],
    ["generate", "language", "Es war «буря»", "--max-new-tokens", "20"],
    ["generate", "language", "Es war «буря»", "--max-new-tokens", "20", "--json"],
    ["evaluate", "language"],
    ["evaluate", "labels", "rows.csv"],
    ["predict", "labels", "rows.csv"],
    ["inspect", "language"],
    ["report", "labels"],
    ["compare", "language", "labels"],
    ["compare", "language", "labels", "--markdown"],
    ["compare", "language", "labels", "--json"],
    ["plan", "--size", "1M"],
    ["train", "--resume", "language"],
    ["train", "буря.txt"],
    ["generate", "буря😀"],
    ["harness", "language", "буря😀"],
    ["export", "language", "--to", "буря"],
    ["train", "text.txt", "--budget", "2steps", "--out", "новый😀", "--model.layers=1"],
    ["prepare", "text.txt", "--out", "готово😀"],
]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_no_encoding_of_the_terminal_costs_an_answer(
    arguments: list[str],
    encoding: str,
    small_runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for each in small_runs.iterdir():
        (shutil.copytree if each.is_dir() else shutil.copy)(each, tmp_path / each.name)
    monkeypatch.chdir(tmp_path)
    # as Python sets the streams up: what standard output cannot show is an error there
    out, error = io.BytesIO(), io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(error, encoding, errors="backslashreplace"))
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    shown, said = (each.getvalue().decode(encoding) for each in (out, error))
    assert caught.value.code in (0, 2), said
    assert (shown if caught.value.code == 0 else said).strip()
    assert "Traceback" not in said
    if "--json" in arguments:
        json.loads(shown)
    if encoding == "ascii":
        assert not caught.value.code or "scriven: " in said
