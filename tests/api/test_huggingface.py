"""A run folder is a Hugging Face model: same ids, same logits."""

from pathlib import Path

import pytest
import torch

import scriven

transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")

TEXT = "The quick brown fox jumps over the lazy dog; naïve café, 東京 — 😀.\n" * 60

TRIALS = [
    "Hello, wörld!",
    "  two  spaces\n\nand lines\r\n",
    "東京 unseen: Ω≠ 😀",
    "<|endoftext|> is text",
]


@pytest.fixture(
    scope="module",
    params=[
        "llama-char", "llama-bpe", "gpt2-bpe", "gpt2-word", "llama-byte",
        "gpt1-bpe", "gpt2-char-sinusoidal", "gpt3-char",
    ],
)  # fmt: skip
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> scriven.Model:
    folder = tmp_path_factory.mktemp("hf")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    arch, kind, *positions = request.param.split("-")
    settings = {
        "tokenizer.kind": kind, "model.layers": 2, "model.d_model": 32, "model.heads": 2,
        "model.context_length": 16, "runtime.dtype": "float32", "train.sample_seconds": 0,
    }  # fmt: skip
    if kind in ("bpe", "word"):
        settings["tokenizer.vocab_size"] = 300
    if positions:
        settings["model.positions"] = positions[0]
    return scriven.train(
        folder / "text.txt",
        out=folder / "run",
        arch=arch,
        budget="8steps",
        settings=settings,
        quiet=True,
    )


def test_from_pretrained_gives_the_same_logits(run: scriven.Model) -> None:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(run.folder)
    tokens = torch.randint(run.tokenizer.vocab_size, (3, 16))
    with torch.no_grad():
        ours = run.task.logits(run.task.backbone(tokens))
        difference = (ours - theirs(tokens).logits).abs().max()
    assert difference < 1e-5
    assert ours.std() > 1e-3  # not the agreement of zeros


def test_the_tokenizer_gives_the_same_ids_and_text(run: scriven.Model) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(run.folder)
    assert theirs.eos_token_id == run.tokenizer.eos
    assert theirs.pad_token_id == run.tokenizer.pad != theirs.eos_token_id
    for text in TRIALS[:-1]:
        ids = theirs(text)["input_ids"]
        assert ids == run.tokenizer.encode(text)
        assert theirs.decode(ids) == run.tokenizer.decode(ids) == text


def test_greedy_text_is_the_same(run: scriven.Model) -> None:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(run.folder)
    prompt = run.tokenizer.encode("The quick")[:8]
    made = theirs.generate(
        torch.tensor([prompt]), max_new_tokens=6, do_sample=False, eos_token_id=None
    )[0, len(prompt) :]
    text = run.generate(
        run.tokenizer.decode(prompt), temperature=0, max_new_tokens=6, ignore_eos=True
    )
    assert text.startswith(run.tokenizer.decode(prompt))
    continuation = text[len(run.tokenizer.decode(prompt)) :]
    assert continuation.strip("�") in run.tokenizer.decode(made.tolist()) or not continuation


def test_weights_are_stored_once_and_without_pickle(run: scriven.Model) -> None:
    names = {path.name for path in Path(run.folder).iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
            "generation_config.json", "README.md", "scriven.json", "metrics.jsonl",
            "report.html"} <= names  # fmt: skip
    assert not [name for name in names if name.endswith((".pt", ".pth", ".bin", ".pkl"))]
