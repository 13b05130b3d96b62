"""What cannot be exported is refused with one line and the reason; what is there is not lost."""

import json
from collections.abc import Callable
from importlib import util
from pathlib import Path

import pytest

from scriven.cli import run as command
from scriven.errors import InputError, MissingExtra, SettingError
from scriven.export.export import export, targets
from scriven.export.targets.hf import Target

RunOf = Callable[[str], Path]

REFUSED = [
    ("banded", "gguf", "banded attention"),
    ("banded", "hf", "banded attention"),
    ("banded", "ctranslate2", "banded attention"),
    ("transformer_xl", "hf", "no model of transformers"),
    ("transformer_xl", "gguf", "no model of llama.cpp"),
    ("transformer_xl", "onnx", "memory"),
    ("rnn", "gguf", "no model of llama.cpp"),
    ("rnn", "hf", "no model of transformers"),
    ("rnn", "onnx", "memory"),
    ("gpt1", "gguf", "OpenAIGPTLMHeadModel"),
    ("gpt1", "ctranslate2", "OpenAIGPTLMHeadModel"),
    ("roberta", "gguf", "RobertaForMaskedLM"),
    ("transformer", "gguf", "MarianMTModel"),
    ("transformer", "onnx", "two graphs"),
    ("words", "gguf", "no word tokenizer"),
]


@pytest.mark.parametrize(("name", "target", "reason"), REFUSED)
def test_what_a_target_cannot_express_is_refused(
    run_of: RunOf, name: str, target: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(name)
    assert command(["export", str(run), "--to", target]) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert reason in line and f"to {target}" in line
    assert said.out == ""
    assert not (run / "exports").exists()


def test_the_targets_are_the_files_of_the_folder() -> None:
    assert targets() == ["ctranslate2", "gguf", "hf", "onnx"]


@pytest.mark.parametrize(
    ("given", "part"),
    [({"to": "ggfu"}, "did you mean gguf?"), ({"to": "hf", "dtype": "q4"}, "f32, f16, bf16")],
)
def test_unknown_names_are_refused_with_the_known_ones(
    run_of: RunOf, given: dict[str, str], part: str
) -> None:
    with pytest.raises(SettingError, match=part.replace("?", r"\?")):
        export(run_of("words"), **given)


def test_a_folder_that_holds_something_else_is_left_alone(run_of: RunOf, tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(InputError, match="is no export"):
        export(run_of("words"), "hf", out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


def test_an_earlier_export_is_replaced_only_by_a_good_one(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Target, "CHECKS", ("no_such_package",))
    out = tmp_path / "out"
    export(run_of("words"), "hf", out=out)
    (out / "trace").write_text("of the first")

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    right = Target.write
    monkeypatch.setattr(Target, "write", broken)
    with pytest.raises(Exception, match="disk full"):
        export(run_of("words"), "hf", out=out)
    assert (out / "trace").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    monkeypatch.setattr(Target, "write", right)
    export(run_of("words"), "hf", out=out, dtype="f16")
    assert not (out / "trace").exists()
    assert json.loads((out / "export.json").read_text())["dtype"] == "f16"


def test_without_the_program_it_says_that_nothing_was_checked(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    right = util.find_spec
    monkeypatch.setattr(
        util, "find_spec", lambda name, *rest: None if name == "xllamacpp" else right(name, *rest)
    )
    out = tmp_path / "out"
    assert command(["export", str(run_of("qwen2")), "--to", "gguf", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("not checked: pip install 'scriven[gguf]'\ndone: ")
    assert json.loads((out / "export.json").read_text())["check"] is None
    assert "have not been compared" in (out / "README.md").read_text()


def test_without_the_writer_it_says_what_to_install(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(MissingExtra, match=r"scriven\[gguf\]"):
        export(run_of("qwen2"), "gguf", out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("checks_in_this_process")
def test_the_card_speaks_of_these_files(run_of: RunOf, tmp_path: Path) -> None:
    run = run_of("qwen")
    out = tmp_path / "out"
    export(run, "gguf", out=out)
    card = (out / "README.md").read_text()
    record = json.loads((run / "scriven.json").read_text())
    assert card.startswith("---\n") and "\nlibrary_name: gguf\n" in card
    assert "qwen-f16.gguf" in card and "ollama create" in card
    assert "from_pretrained" not in card
    assert record["data"]["fingerprint"] in card
    assert f"{record['results']['val_loss']:.4f}" in card
    assert "validation loss |" in card
    assert "| greedy text |" in card
    assert "FROM ./qwen-f16.gguf" in (out / "Modelfile").read_text()


@pytest.mark.usefixtures("checks_in_this_process")
def test_a_target_of_one_file_writes_that_file_alone(run_of: RunOf, tmp_path: Path) -> None:
    out = tmp_path / "there" / "model.gguf"
    made = export(run_of("gpt2"), "gguf", out=out, dtype="f32")
    assert [path.name for path in out.parent.iterdir()] == ["model.gguf"]
    assert out.read_bytes()[:4] == b"GGUF"
    assert made["files"] == {"model.gguf": out.stat().st_size} and made["out"] == str(out)
    with pytest.raises(InputError, match=r"model\.gguf is there already"):
        export(run_of("gpt2"), "gguf", out=out)
    with pytest.raises(InputError, match=r"out=model\.onnx: onnx is a folder of files"):
        export(run_of("gpt2"), "onnx", out=tmp_path / "model.onnx")


def test_a_folder_with_a_strange_export_json_is_not_replaced(run_of: RunOf, tmp_path: Path) -> None:
    for content in ("5", "null", "[" * 100_000, '"exported'):
        (tmp_path / "export.json").write_text(content)
        with pytest.raises(InputError, match="is there and is no export"):
            export(run_of("gpt2"), "gguf", out=tmp_path)
