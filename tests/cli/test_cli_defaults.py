"""Defaults from scriven.toml, from --config and from SCRIVEN_* variables; shell completion."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scriven.cli import run

TOML = """
size = "tiny"

[model]
layers = 3

[optim]
lr = 0.25
weight_decay = 0.5
"""


@pytest.fixture
def planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """What `scriven plan` computes in an empty folder, with further arguments."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCRIVEN_CACHE", raising=False)

    def plan(*arguments: str) -> dict[str, Any]:
        command = ["plan", "--budget", "500steps", "--peak", "1", *arguments, "--json"]
        assert run(command) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return plan


def rate(data: dict[str, Any]) -> float:
    return data["learning_rates"]["rest"]


def test_the_file_of_the_folder_and_of_config_is_read(
    planned: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "scriven.toml").write_text(TOML)
    found = planned()
    assert (found["size"], found["model"]["layers"], rate(found)) == ("tiny", 3, 0.25)
    (tmp_path / "other.toml").write_text('size = "small"\n')
    for words in (["--config", "other.toml"], ["--config=other.toml"]):
        assert planned(*words)["size"] == "small"


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(
    planned: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scriven.toml").write_text(TOML)
    monkeypatch.setenv("SCRIVEN_OPTIM_LR", "0.125")
    monkeypatch.setenv("SCRIVEN_SIZE", "small")
    found = planned()
    assert (found["size"], rate(found), found["model"]["layers"]) == ("small", 0.125, 3)
    found = planned("--size", "medium", "--optim.lr=0.0625")
    assert (found["size"], rate(found)) == ("medium", 0.0625)


def test_both_go_before_a_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("It was a dark and stormy night. " * 60, encoding="utf-8")
    Path("mine.toml").write_text('size = "tiny"\n[optim]\nbeta1 = 0.5\nbeta2 = 0.5\n')
    Path("scriven.toml").write_text('preset = "mine.toml"\n[optim]\nbeta2 = 0.25\n')
    assert run(["train", "book.txt", "--budget", "1steps", "--quiet", "--explain"]) == 0
    settings = json.loads(Path("runs/book/scriven.json").read_text())["settings"]["optim"]
    assert (settings["beta1"], settings["beta2"]) == (0.5, 0.25)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[optim]\nlrr = 1", "--optim.lr"),
        ("[optim]\nrate = 1", "is now called --optim.lr"),
        ('[optim]\nlr = "much"', "a number"),
        ("[optin]\nlr = 1", "optim."),
        ("bugdet = 3", "budget"),
        ("[optim", "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(
    content: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scriven.toml").write_text(content)
    assert run(["plan", "--size", "tiny", "--peak", "1"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_wrong_variable_is_refused_and_one_of_others_is_none(
    planned: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SCRIVEN_SERVICE_HOST", "10.0.0.1")
    assert planned("--size", "tiny")["size"] == "tiny"
    monkeypatch.setenv("SCRIVEN_OPTIM_LRR", "1")
    assert run(["plan", "--size", "tiny", "--peak", "1"]) == 2
    assert "did you mean --optim.lr?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("optim", "optimizer", "./mine.py"),
        ("optim", "lr_schedule", "mine.py"),
        ("train", "trackers", "jsonl, ./mine.py"),
        ("", "arch", "./mine.py"),
    ],
)
@pytest.mark.parametrize("source", ["scriven.toml", "preset.toml", "environment"])
def test_code_is_never_run_because_a_file_or_a_variable_names_it(
    section: str,
    name: str,
    value: str,
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("It was a dark and stormy night. " * 60, encoding="utf-8")
    Path("mine.py").write_text("open('was_run', 'w').close()\n")
    if source == "environment":
        variable = f"SCRIVEN_{section}_{name}" if section else f"SCRIVEN_{name}"
        monkeypatch.setenv(variable.upper(), value)
    else:
        Path(source).write_text(
            f'[{section}]\n{name} = "{value}"\n' if section else f'{name} = "{value}"\n'
        )
    if source == "preset.toml":
        Path("scriven.toml").write_text('preset = "preset.toml"\n')
    assert run(["train", "book.txt", "--budget", "1steps", "--size", "tiny", "--quiet"]) == 2
    error = capsys.readouterr().err
    assert "from the command line only" in error and error.count("\n") == 1
    assert not Path("was_run").exists() and not Path("runs").exists()


def test_a_command_takes_only_what_is_meant_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCRIVEN_ARCH", "gpt2")
    Path("scriven.toml").write_text(TOML)
    assert run(["inspect", "gpt1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["architecture"] == "gpt1"
    assert run(["inspect", "gpt1", "--config", "scriven.toml"]) == 2
    assert "`inspect` takes no --config" in capsys.readouterr().err
    assert run(["train", "book.txt", "--config", "none.toml"]) == 2
    assert "none.toml cannot be read" in capsys.readouterr().err
    assert run(["train", "book.txt", "--config"]) == 2
    assert "--config needs a value" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_commands_and_flags(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", f"/bin/{shell}")
    monkeypatch.delenv("ZSH_CUSTOM", raising=False)
    assert run(["--install-completion"]) == 0
    scripts = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert any("finetune" in script and "length-penalty" in script for script in scripts)
