"""What cannot be imported is refused in one line, with exit code 2 and nothing left behind."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the hf extra is not installed")

import twins
from safetensors.torch import load_file, save_file

from scriven.cli import run
from scriven.models import gpt2
from scriven.models.shared import hf_config as shared
from scriven.settings import TokenizerSettings
from scriven.tokenizers import train_tokenizer


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One good folder of each kind, never changed."""
    folder = tmp_path_factory.mktemp("originals")
    for kind in ("gpt2", "qwen3", "roberta", "marian"):
        twins.save(folder / kind, kind)
    return folder


def change(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def drop(folder: Path, name: str) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    del content[name]
    path.write_text(json.dumps(content))


def rewrite(folder: Path, **tensors: torch.Tensor | None) -> None:
    """Changes the weights; None takes a tensor away."""
    path = folder / "model.safetensors"
    found = {**load_file(path), **tensors}
    save_file({name: one for name, one in found.items() if one is not None}, path)


def index(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    table = {"weight_map": {"transformer.wte.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(table))


def spoil(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def larger_vocabulary(folder: Path) -> None:
    wide = TokenizerSettings(kind="bpe", vocab_size=310)
    train_tokenizer("bpe", iter([twins.TEXT]), wide).save(folder)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def text(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)


WTE, NORM = "transformer.wte.weight", "transformer.ln_f.bias"

CASES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "no config": ("gpt2", lambda at: (at / "config.json").unlink(), "holds no config.json"),
    "no JSON": ("gpt2", lambda at: text(at, "config.json", "{"), "config.json is not JSON"),
    "a list": ("gpt2", lambda at: text(at, "config.json", "[]"), "is not a JSON object"),
    "another architecture": (
        "gpt2",
        lambda at: change(at, architectures=["BloomForCausalLM"]),
        "'BloomForCausalLM', which has no architecture here, and is no causal",
    ),
    "a number for a class": (
        "gpt2", lambda at: change(at, architectures=5, model_type="bloom"), "the weights",
    ),
    "a headless class": (
        "gpt2", lambda at: change(at, architectures=["GPT2Model"]), "'GPT2Model'",
    ),
    "a trillion parameters": (
        "gpt2",
        lambda at: change(at, n_embd=131072, n_inner=524288, n_layer=5, n_head=8),
        "config.json cannot be used: a model of about 1e+12 parameters",
    ),
    "endless layers": ("gpt2", lambda at: change(at, n_layer=10**12), "config.json cannot be used"),
    "a number too long": ("gpt2", lambda at: change(at, n_embd=10**400), "n_embd is too large"),
    "text for a number": (
        "gpt2", lambda at: change(at, n_embd="32"), "n_embd is '32', not a whole number",
    ),
    "a size missing": ("gpt2", lambda at: drop(at, "n_head"), "config.json has no n_head"),
    "heads that do not divide": ("gpt2", lambda at: change(at, n_head=5), "cannot be divided"),
    "quantised": (
        "gpt2", lambda at: change(at, quantization_config={"bits": 4}), "import the original",
    ),
    "two bases": (
        "qwen3", lambda at: change(at, rope_theta=10000.0), "rope_theta is 10000.0, but",
    ),
    "scaled without a factor": (
        "qwen3",
        lambda at: change(at, rope_parameters={"rope_theta": 1e4, "rope_type": "yarn"}),
        "config.json has no factor",
    ),
    "biases without weights": (
        "qwen3", lambda at: change(at, attention_bias=True), "the weights lack",
    ),
    "another padding": ("roberta", lambda at: change(at, pad_token_id=7), "it pads with 299"),
    "no tokenizer": (
        "gpt2", lambda at: (at / "tokenizer.json").unlink(), "tokenizer.json is missing",
    ),
    "a tokenizer of another kind": (
        "gpt2",
        lambda at: text(at, "tokenizer.json", '{"model": {"type": "Unigram", "vocab": []}}'),
        "holds no vocabulary",
    ),
    "a larger tokenizer": (
        "gpt2", larger_vocabulary, "is not this model's: it has 310 tokens and the model knows 300",
    ),
    "another end": (
        "gpt2", lambda at: change(at, eos_token_id=5), "is not this model's: it ends a text with",
    ),
    "no weights": (
        "gpt2", lambda at: (at / "model.safetensors").unlink(), "model.safetensors is missing",
    ),
    "cut weights": ("gpt2", spoil, "is not a whole safetensors file"),
    "a tensor missing": (
        "gpt2", lambda at: rewrite(at, **{NORM: None}), f"the weights lack {NORM}",
    ),
    "a tensor of another shape": (
        "gpt2",
        lambda at: rewrite(at, **{NORM: torch.zeros(31)}),
        f"{NORM} is 31, but config.json asks for 32",
    ),
    "a tensor too many": (
        "gpt2", lambda at: rewrite(at, extra=torch.ones(3)), "holds extra, which this architecture",
    ),
    "not a number": (
        "gpt2",
        lambda at: rewrite(at, **{NORM: torch.full((32,), torch.nan)}),
        f"{NORM} has NaN or infinite values",
    ),
    "whole numbers": (
        "gpt2",
        lambda at: rewrite(at, **{NORM: torch.ones(32, dtype=torch.int8)}),
        f"{NORM} is int8: import the original, unquantised weights",
    ),
    "an index that leads out": (
        "gpt2", lambda at: index(at, "../gpt2/model.safetensors"), "outside the folder",
    ),
    "an index that is wrong": (
        "gpt2", lambda at: index(at, "other.safetensors"), "which its index does not",
    ),
    "a pickle": ("gpt2", pickled, "is a pickle, which can run code when it is read: `scriven"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_refused_in_one_line(
    case: str, originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, spoiled, words = CASES[case]
    folder = tmp_path / "theirs"
    folder.mkdir()
    for path in (originals / kind).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    spoiled(folder)
    assert run(["import", str(folder), "--out", str(tmp_path / "ours")]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1, said.err
    assert said.out == ""
    assert os.listdir(tmp_path) == ["theirs"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["nowhere"], "is no folder"),
        ([""], "is empty"),
        (["gpt2/model.safetensors"], "is a file: name its folder"),
        (["gpt2", "--out", ""], "--out is empty"),
        (["gpt2", "--out", "gpt2"], "is there already"),
        (["gpt2", "--convert"], "holds no pickled weights: leave --convert away"),
        ([], "`import` needs PATH"),
    ],
)
def test_paths_that_cannot_be_meant(
    given: list[str],
    words: str,
    originals: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(originals)
    assert run(["import", *given]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert not (originals / "runs").exists()


def test_a_tokenizer_that_is_not_the_runs_is_refused(
    originals: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of the same size and with the same end: only a run folder of ours can tell."""
    from scriven.importing import import_model

    monkeypatch.setattr("scriven.importing.check_parity", lambda *_: None)
    made = import_model(str(originals / "gpt2"), tmp_path / "run").folder
    path = made / "tokenizer.json"
    content = json.loads(path.read_text())
    words = content["model"]["vocab"]
    words["!"], words["?"] = words["?"], words["!"]
    path.write_text(json.dumps(content))
    assert run(["import", str(made), "--out", str(tmp_path / "copy")]) == 2
    assert "is not the one this model was trained with" in capsys.readouterr().err


def test_a_check_that_lets_everything_through_would_be_noticed(
    originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug of this file: without `require`, another activation comes in."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for path in (originals / "gpt2").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    change(folder, activation_function="relu")
    hf_config = json.loads((folder / "config.json").read_text())
    with pytest.raises(shared.Unsupported, match="activation_function"):
        gpt2.Model.from_hf_config(hf_config)
    monkeypatch.setattr(shared, "require", lambda *_, **__: None)
    assert gpt2.Model.from_hf_config(hf_config) is not None
