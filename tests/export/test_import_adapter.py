"""A model without an architecture here is opened, used, trained, saved and given back."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the hf extra is not installed")

import transformers as hf
import twins
from safetensors.torch import load_file, save_file

import scriven
from scriven.cli import run
from scriven.data.batch import Batch
from scriven.import_.base import open_base
from scriven.models.shared import foreign
from scriven.runs.load import load_run

IDS = {name: twins.tokenizer().eos for name in ("bos_token_id", "eos_token_id")}
SIZES = {
    "opt": {"hidden_size": 36, "num_hidden_layers": 2, "num_attention_heads": 6, "ffn_dim": 40,
            "word_embed_proj_dim": 36, "max_position_embeddings": 64},
    "mixtral": {"hidden_size": 36, "num_hidden_layers": 2, "num_attention_heads": 6,
                "num_key_value_heads": 2, "intermediate_size": 44, "num_local_experts": 3,
                "max_position_embeddings": 64},
    "t5": {"d_model": 36, "d_kv": 10, "d_ff": 44, "num_layers": 2, "num_heads": 3,
           "decoder_start_token_id": twins.tokenizer().pad},
}  # fmt: skip


@pytest.fixture
def quiet() -> None:
    hf.logging.set_verbosity_error()
    hf.utils.logging.disable_progress_bar()


def save(folder: Path, name: str, more: int = 5) -> Any:
    """A folder as `save_pretrained` writes it, with `more` rows than the tokenizer has tokens."""
    folder.mkdir(parents=True)
    words = twins.tokenizer()
    for file, content in words.to_files(context_length=64).items():
        (folder / file).write_bytes(content)
    sizes = {"vocab_size": words.vocab_size + more, "pad_token_id": words.pad, **IDS, **SIZES[name]}
    made = hf.AutoConfig.for_model(name, **sizes)
    kind = hf.AutoModelForSeq2SeqLM if name == "t5" else hf.AutoModelForCausalLM
    torch.manual_seed(0)
    model = kind.from_config(made).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.15) if weight.dim() > 1 else weight.add_(0.01)
    model.tie_weights()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("name", ["opt", "mixtral"])
def test_opened_generated_imported_and_loaded(name: str, tmp_path: Path, quiet: None) -> None:
    theirs = save(tmp_path / "theirs", name)
    loaded = open_base(str(tmp_path / "theirs"))
    assert loaded.architecture == "transformers"
    assert any("inside transformers" in each for each in loaded.warnings)
    prompt = torch.tensor([loaded.tokenizer.encode("The quick")])
    never = [*twins.tokenizer().special_token_ids.values(), *range(300, 305)]
    wanted = theirs.generate(
        prompt, max_new_tokens=12, do_sample=False, eos_token_id=None, suppress_tokens=never
    )
    model = scriven.load(str(tmp_path / "theirs"))
    text = model.generate("The quick", max_new_tokens=12, temperature=0)
    assert text == loaded.tokenizer.decode(wanted[0].tolist())
    assert run(["import", str(tmp_path / "theirs"), "--out", str(tmp_path / "run")]) == 0
    again = load_run(tmp_path / "run")
    with torch.no_grad():
        found = again.task.logits(again.task.backbone(prompt))
        assert (found - theirs(prompt).logits).abs().max() < 1e-4
    # the run folder is a folder of transformers
    back = type(theirs).from_pretrained(tmp_path / "run").eval()
    with torch.no_grad():
        assert (back(prompt).logits - theirs(prompt).logits).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("gpt2", {"activation_function": "relu"}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
        ("marian", {"scale_embedding": False}),
    ],
)
@torch.no_grad()
def test_what_an_architecture_cannot_express_is_computed_by_transformers(
    kind: str, fields: dict[str, Any], tmp_path: Path, quiet: None
) -> None:
    theirs = twins.save(tmp_path / "theirs", kind, **fields)
    loaded = open_base(str(tmp_path / "theirs"))
    assert loaded.architecture == "transformers"
    tokens = torch.randint(290, (2, 20))
    if kind == "marian":
        tokens[:, 0] = theirs.config.decoder_start_token_id
        found = loaded.task.hidden(Batch(tokens, tokens, source=tokens.flip(1)))
        reference = theirs(input_ids=tokens.flip(1), decoder_input_ids=tokens).logits
    else:
        found = loaded.task.hidden(Batch(tokens, tokens))
        reference = theirs(tokens).logits
    assert (loaded.task.logits(found) - reference).abs().max() < 1e-5


def test_inspected_evaluated_and_refused_where_damaged(
    tmp_path: Path, quiet: None, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = save(tmp_path / "theirs", "opt")
    (tmp_path / "text.txt").write_text(twins.TEXT, encoding="utf-8")
    assert run(["inspect", str(tmp_path / "theirs"), "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["parameters"] == sum(each.numel() for each in theirs.parameters())
    assert run(["evaluate", str(tmp_path / "theirs"), str(tmp_path / "text.txt"), "--json"]) == 0
    assert 3 < json.loads(capsys.readouterr().out)["loss"] < 20
    path = tmp_path / "theirs" / "model.safetensors"
    tensors = load_file(path)
    tensors.pop(next(name for name in tensors if "fc1.weight" in name))
    save_file(tensors, path, {"format": "pt"})
    assert run(["generate", str(tmp_path / "theirs"), "The"]) == 2
    error = capsys.readouterr().err.strip()
    assert "weights lack" in error and "Traceback" not in error


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["full", "lora"])
@pytest.mark.parametrize("name", ["opt", "t5"])
def test_fine_tuned_on_a_table(name: str, weights: str, tmp_path: Path, quiet: None) -> None:
    save(tmp_path / "theirs", name, 0)
    rows = [f'"the fox number {n}","{"even" if n % 2 == 0 else "odd"}"' for n in range(60)]
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    tuned = scriven.load(str(tmp_path / "theirs")).finetune(
        tmp_path / "rows.csv", task="classify", out=tmp_path / "tuned", budget="6steps",
        settings={"finetune.weights": weights}, quiet=True,
    )  # fmt: skip
    answers = tuned.predict(["the fox number 8"])
    again = scriven.load(tmp_path / "tuned").predict(["the fox number 8"])
    assert answers[0][0] == again[0][0] and abs(answers[0][1] - again[0][1]) < 1e-5


def test_without_transformers_it_names_the_package(
    tmp_path: Path, quiet: None, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    save(tmp_path / "theirs", "opt")
    monkeypatch.setattr(foreign, "find_spec", lambda name: None)
    assert run(["generate", str(tmp_path / "theirs"), "The"]) == 2
    error = capsys.readouterr().err.strip()
    assert "pip install 'scriven[hf]'" in error and "OPTForCausalLM" in error
    assert "\n" not in error
