"""A command line that cannot be parsed is refused in one line, which names what to type."""

import pytest

from scriven.cli import run as command
from scriven.machine import doctor


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("plan book.txt", "`plan` takes no book.txt: see `scriven plan --help`"),
        ("doctor a b", "`doctor` takes no a b: see `scriven doctor --help`"),
        ("report", "`report` needs RUN: see `scriven report --help`"),
        ("export book", "`export` needs --to: see `scriven export --help`"),
        ("train a.txt --size", "--size requires an argument: see `scriven train --help`"),
        ("compare --foo x", "Unknown option: --foo: see `scriven compare --help`"),
        ("generate a --tempratur 1", "Unknown option: --tempratur. Did you mean --temperature?"),
        ("zzz", 'Unknown command "zzz": see `scriven --help`'),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(line.split()) == 2
    assert capsys.readouterr().err == f"scriven: {said}\n"


def test_doctor_lists_every_package_of_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"pyarrow": "26.0", "gigatoken": "0.10", "huggingface-hub": "2.4"}
    monkeypatch.setattr(doctor.registry, "installed_version", installed.get)
    found = doctor.extras()
    assert found["data"] == "gigatoken 0.10, huggingface-hub 2.4, pyarrow 26.0"
    assert found["eval"] == "without sacrebleu: pip install 'scriven[eval]'"
    del installed["pyarrow"]
    assert found["data"] != doctor.extras()["data"] and "without pyarrow" in doctor.extras()["data"]
    assert "dev" not in found and {"hf", "gguf", "onnx", "ct2", "harness"} <= set(found)
