"""A logits processor is one file: its flag, its Python argument and its help follow from it."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import scriven
from scriven import cli
from scriven.cli import run
from scriven.errors import InputError, SettingError
from scriven.generate import logits as package
from scriven.generate.sampling import SamplingParams, process_logits, processor_classes, sample

TYPICAL_P = '''
"""Typical sampling (Meister et al. 2022)."""

from dataclasses import dataclass

from scriven.generate.sampling import Candidates, LogitsProcessor, setting


@dataclass(frozen=True)
class TypicalP(LogitsProcessor):
    """Keeps tokens whose information content is close to the expected one."""

    typical_p: float = setting(1.0, "Keep typical tokens.", low=0, high=1, above=True)

    def __call__(self, candidates: Candidates) -> Candidates:
        """(B, N) -> (B, N), the most typical first."""
        log_probs = candidates.scores.log_softmax(-1)
        entropy = -(log_probs.exp() * log_probs).nansum(-1, keepdim=True)
        columns = (-log_probs - entropy).abs().argsort(-1)
        probabilities = log_probs.exp().gather(-1, columns)
        before = probabilities.cumsum(-1) - probabilities
        scores = candidates.scores.gather(-1, columns)
        return candidates.pick(scores.masked_fill(before >= self.typical_p, -float("inf")), columns)
'''


@pytest.fixture
def typical_p(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor in a folder of its own, as if it stood among the others."""
    # commands read the processors when they are imported: here, so that what stands there after
    # the test knows no typical_p, also where this is the first test of its process
    commands = {
        name: importlib.import_module(f"scriven.cli.{name}") for name in ("generate", "chat")
    }
    (tmp_path / "typical_p.py").write_text(TYPICAL_P, encoding="utf-8")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    assert package.__spec__ is not None
    monkeypatch.setattr(package.__spec__, "submodule_search_locations", package.__path__)
    for name, command in commands.items():
        monkeypatch.setattr(cli, name, command)
        monkeypatch.delitem(sys.modules, f"scriven.cli.{name}")
    monkeypatch.delitem(sys.modules, f"{package.__name__}.typical_p", raising=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run that has hardly begun to learn."""
    base = tmp_path_factory.mktemp("processors")
    (base / "text.txt").write_text("It was a dark and stormy night. " * 80, encoding="utf-8")
    out = str(base / "run")
    shape = ["--model.layers=1", "--model.d_model=16", "--model.heads=2", "--quiet"]
    asked = ["train", str(base / "text.txt"), "--out", out, "--budget", "3steps", *shape]
    assert run(asked) == 0
    return out


@pytest.mark.usefixtures("typical_p")
def test_a_new_file_is_a_new_setting_with_its_range() -> None:
    assert list(processor_classes())[-1] == "typical_p"
    with pytest.raises(SettingError, match=r"--typical-p=2: a number above 0 and at most 1"):
        SamplingParams(typical_p=2)


@pytest.mark.usefixtures("typical_p")
def test_a_new_file_changes_the_distribution_as_transformers_does() -> None:
    transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")
    logits = 3 * torch.randn(6, 40, generator=torch.Generator().manual_seed(5)).double()
    expected = transformers.TypicalLogitsWarper(0.6)(None, logits.clone()).softmax(-1)
    candidates = process_logits(logits, SamplingParams(typical_p=0.6))
    assert candidates.ids is not None
    found = torch.zeros_like(logits).scatter(-1, candidates.ids, candidates.scores.softmax(-1))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("typical_p")
def test_a_new_file_is_an_argument_in_python_and_a_flag_of_the_command(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = scriven.load(folder)
    args: dict[str, Any] = {"max_new_tokens": 40, "seed": 1, "temperature": 1.0}
    typical = model.generate("It", typical_p=0.1, **args)
    assert typical != model.generate("It", **args)
    flags = ["--max-new-tokens", "40", "--seed", "1", "--temperature", "1"]
    assert run(["generate", folder, "It", *flags, "--typical-p", "0.1"]) == 0
    assert capsys.readouterr().out == typical + "\n"
    assert run(["generate", folder, "It", "--typical-p", "0"]) == 2
    assert "--typical-p=0" in capsys.readouterr().err
    for command in ("generate", "chat"):
        assert run([command, "--help"]) == 0
        shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert "--typical-p" in shown and "Keep typical tokens." in shown


def test_an_unknown_setting_is_refused_with_the_known_ones(folder: str) -> None:
    with pytest.raises(InputError, match=r"'typical_p'.*min_p"):
        scriven.load(folder).generate("It", typical_p=0.1)


def test_a_setting_at_its_default_does_nothing() -> None:
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(1))
    defaults = SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0, repetition_penalty=1)
    seen = torch.ones(4, 9, dtype=torch.bool)
    assert [type(each).__name__ for each in defaults.active] == ["Temperature"]
    assert torch.equal(
        sample(logits, defaults, [0.1, 0.4, 0.6, 0.9], seen),
        sample(logits, SamplingParams(), [0.1, 0.4, 0.6, 0.9]),
    )
