"""Models whose embedding has more rows than the tokenizer has tokens, as nanoGPT's (50,304 for
50,257) and Qwen's: fine-tuned, generated with and exported like any other."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import scriven
from scriven.cli import run as command
from scriven.data.batch import Batch

SPARE = 40
SETTINGS: dict[str, Any] = {
    "model.layers": 1,
    "model.d_model": 16,
    "model.heads": 2,
    "model.context_length": 64,
    "tokenizer.kind": "char",
    "runtime.dtype": "float32",
    "train.sample_seconds": 0,
}
TUNING = {"runtime.dtype": "float32", "train.sample_seconds": 0}
TABLE = [{"text": f"{n} it", "label": "ab"[n % 2]} for n in range(20)]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def padded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An imported model with spare rows that are likelier than any token; llama has a head."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "text.txt").write_text("the fox says it, and more of it.\n" * 60)
    untied = {"model.tie_embeddings": False} if request.param == "llama" else {}
    made = scriven.train(
        folder / "text.txt", arch=request.param, out=folder / "made", budget="2steps", quiet=True,
        settings=SETTINGS | untied,
    )  # fmt: skip
    source = folder / "source"
    source.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(made.folder / name, source)
    config = json.loads((source / "config.json").read_text())
    weights = load_file(made.folder / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    for name, weight in weights.items():
        if len(weight) == config["vocab_size"]:
            spare = 30 * torch.randn(SPARE, weight.size(1), generator=generator)
            weights[name] = torch.cat([weight, spare])
    config["vocab_size"] += SPARE
    (source / "config.json").write_text(json.dumps(config))
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    return scriven.import_run(source, folder / "padded").folder


def test_no_id_without_a_token_is_generated(padded: Path) -> None:
    model = scriven.load(padded)
    rows, tokens = model.task.vocab_size, model.tokenizer.vocab_size
    assert rows == tokens + SPARE
    logits = model.task.predict(Batch(torch.tensor([[1]]), torch.tensor([[1]])))
    assert int(logits.argmax()) >= tokens, "the spare rows would be chosen"
    for sampling in ({"temperature": 0}, {"temperature": 90.0}, {"beams": 3}):
        text = model.generate("the", max_new_tokens=30, **sampling)
        assert len(text) > 3
        assert all(id < tokens for id in model.tokenizer.encode(text))


@pytest.mark.parametrize("weights", ["full", "lora", "head"])
def test_it_is_fine_tuned_in_its_spare_rows(padded: Path, tmp_path: Path, weights: str) -> None:
    table = tmp_path / "table.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in TABLE))
    tuned = scriven.finetune(
        padded, table, out=tmp_path / "tuned", budget="3steps", quiet=True,
        settings=TUNING | {"finetune.weights": weights},
    )  # fmt: skip
    again = scriven.load(tuned.folder)
    assert again.task.vocab_size == scriven.load(padded).task.vocab_size
    assert again.predict(["1 it"]) == tuned.predict(["1 it"])
    assert command(["evaluate", str(tuned.folder), str(table), "--json"]) == 0


def test_its_answers_have_tokens(padded: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.jsonl"
    rows = [{"prompt": f"say {n}", "completion": f"it {n}"} for n in range(20)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tuned = scriven.finetune(
        padded, table, task="instruct", out=tmp_path / "tuned", budget="2steps", quiet=True,
        settings=TUNING,
    )  # fmt: skip
    assert isinstance(tuned.predict(["say 3"], max_new_tokens=9)[0][0], str)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["ctranslate2", "gguf", "onnx", "hf"])
def test_it_is_exported_and_checked(padded: Path, tmp_path: Path, target: str) -> None:
    package = {"gguf": "llama_cpp", "onnx": "onnxruntime", "hf": "transformers"}
    pytest.importorskip(package.get(target, target))
    assert command(["export", str(padded), "--to", target, "--out", str(tmp_path / "out")]) == 0
