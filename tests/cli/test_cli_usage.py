"""A command line that cannot be parsed is refused in one line, which names what to type."""

import inspect
from pathlib import Path

import pytest

import scriven
from scriven import config
from scriven.cli import run as command
from scriven.cli import train
from scriven.errors import InputError
from scriven.machine import doctor
from scriven.models import llama
from scriven.settings import Settings


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("plan book.txt", "`plan`: unexpected argument book.txt: see `scriven plan --help`"),
        ("doctor a b", "`doctor`: unexpected arguments a b: see `scriven doctor --help`"),
        ("report", "`report` needs RUN: see `scriven report --help`"),
        ("export book", "`export` needs --to: see `scriven export --help`"),
        ("train a.txt --size", "--size requires an argument: see `scriven train --help`"),
        ("compare --foo x", "Unknown option: --foo: see `scriven compare --help`"),
        ("generate a --tempratur 1", "Unknown option: --tempratur. Did you mean --temperature?"),
        ("train a.txt --n_layer 4", "unknown option --n_layer: it is called --model.layers here"),
        ("train a.txt --lr 1e-3", "unknown option --lr: it is called --optim.lr here"),
        (
            "train a.txt --max-steps 9",
            "unknown option --max-steps: it is called --budget 1000steps here",
        ),
        ("train a.txt --train.lr 1", "unknown setting --train.lr: it is called --optim.lr here"),
        (
            "train a.txt --optim.adam-beta1 1",
            "unknown setting --optim.adam-beta1: did you mean --optim.beta1?",
        ),
        ("compare --n_layer 4", "Unknown option: --n_layer: see `scriven compare --help`"),
        ("zzz", 'Unknown command "zzz": see `scriven --help`'),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(line.split()) == 2
    # releases of cyclopts differ in quotes
    assert capsys.readouterr().err.replace('"', "") == f"scriven: {said}\n".replace('"', "")


def test_names_of_other_programs_lead_to_flags_that_there_are() -> None:
    table = config.read_preset(Path(config.__file__).parent / "other_names.toml")
    known = {f"--{section}.{name}" for section, name in config_names()}
    flags = {f"--{name}" for name in inspect.signature(train.train).parameters}
    for name, here in table.items():
        assert str(here).partition(" ")[0].partition("=")[0] in known | flags, name
        assert name == name.lower().replace("_", "").replace("-", "")


def config_names() -> set[tuple[str, str]]:
    """(section, name) of every setting."""
    sections = {"model": llama.Config(), **vars(Settings())}
    return {(section, name) for section, values in sections.items() for name in vars(values)}


def test_doctor_lists_every_package_of_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"pyarrow": "26.0", "gigatoken": "0.10", "huggingface-hub": "2.4"}
    monkeypatch.setattr(doctor.registry, "installed_version", installed.get)
    found = doctor.extras()
    assert found["data"] == "gigatoken 0.10, huggingface-hub 2.4, pyarrow 26.0"
    assert found["eval"] == "without sacrebleu: pip install 'scriven[eval]'"
    del installed["pyarrow"]
    assert found["data"] != doctor.extras()["data"] and "without pyarrow" in doctor.extras()["data"]
    assert "dev" not in found and {"hf", "gguf", "onnx", "ct2", "harness"} <= set(found)


@pytest.mark.parametrize("verb", ["finetune", "evaluate", "prepare", "bench"])
def test_a_text_in_place_of_its_name_is_a_short_error(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call = {
        "finetune": lambda text: scriven.finetune(text, "rows.csv"),
        "evaluate": lambda text: scriven.load(text),
        "prepare": lambda text: scriven.prepare(text, out="out"),
        "bench": lambda text: scriven.bench(text),
    }[verb]
    with pytest.raises(InputError) as caught:
        call("It was a dark and stormy night.\n" * 9000)
    assert len(str(caught.value)) < 500
    with pytest.raises(InputError) as caught:
        call("x" * 300)
    assert len(str(caught.value)) < 800
    if verb in ("prepare", "bench"):
        with pytest.raises(InputError, match="is a text of 10 characters, not the name of one"):
            call("Some\nwords")


@pytest.mark.parametrize("verb", ["train", "bench", "prepare"])
def test_a_name_that_is_too_long_is_told_in_one_line(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("It was a dark and stormy night.\n" * 90)
    line = [verb, str(tmp_path / "a.txt"), "--out", str(tmp_path / ("x" * 300)), "--quiet"]
    assert command([*line, *(["--budget", "2steps"] if verb != "prepare" else [])]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "choose another folder with --out" in error
