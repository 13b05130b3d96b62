"""Errors name the arguments of Python where a program calls, and flags at a command line."""

from pathlib import Path

import pytest

import scriven
from scriven.cli import run
from scriven.errors import InputError, SettingError, without_flags


@pytest.mark.parametrize(
    ("flags", "arguments"),
    [
        ("--budget 'x' is not a budget", "budget='x' is not a budget"),
        ("--max-new-tokens=0: from 1", "max_new_tokens=0: from 1"),
        ("--optim.lr=-1: above 0", 'settings={"optim.lr": -1}: above 0'),
        ("lower --train.micro_batch_size", 'lower settings["train.micro_batch_size"]'),
        ("use --resume a --budget +1h", 'use resume a budget="+1h"'),
        ("use --resume runs/a or --out NEW for", 'use resume="runs/a" or out=NEW for'),
        ("leave --out away: add --from RUN", "leave out away: add base=RUN"),
        ("--seed 2steps, or --limit 3.", 'seed="2steps", or limit="3".'),
        (
            "no runs yet: scriven train FILE --out x, say",
            "no runs yet: scriven train FILE --out x, say",
        ),
        ("go on with `scriven train --resume a`", "go on with `scriven train --resume a`"),
        ("a--b and -- and --1", "a--b and -- and --1"),
    ],
)
def test_flags_become_arguments_and_commands_stay(flags: str, arguments: str) -> None:
    assert without_flags(flags) == arguments
    assert without_flags(arguments) == arguments


def test_functions_and_methods_speak_of_their_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("It was a dark and stormy night.\n" * 40)
    with pytest.raises(SettingError, match=r'^settings=\{"optim.lr": -1.0\}'):
        scriven.train("book.txt", settings={"optim.lr": -1}, quiet=True)
    assert run(["train", "book.txt", "--optim.lr=-1", "--quiet"]) == 2
    assert "scriven: --optim.lr=-1.0" in capsys.readouterr().err
    model = scriven.train("book.txt", budget="2steps", size="tiny", quiet=True)
    with pytest.raises(SettingError, match=r"^temperature=-1"):
        model.generate("It", temperature=-1.0)
    assert run(["generate", "book", "It", "--temperature", "-1"]) == 2
    assert "scriven: --temperature=-1" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"^give epochs or a budget"):
        scriven.GPT().fit("book.txt", epochs=1, budget="1steps")
