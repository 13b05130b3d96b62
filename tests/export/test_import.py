"""Folders that transformers wrote come in with the same ids, the same logits and the same text."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the hf extra is not installed")

import twins
from safetensors.torch import load_file, save_file

import scriven
from scriven import importing as parity
from scriven.cli import run
from scriven.data.batch import Batch
from scriven.errors import DamagedError, ScrivenError
from scriven.export.base import CheckFailed
from scriven.export.targets import hf
from scriven.importing import Imported, import_model
from scriven.manifest import signed_json
from scriven.models import gpt1, gpt2, llama, roberta, transformer
from scriven.models.shared import llama_hf
from scriven.runs import load
from scriven.runs.load import load_run
from scriven.runs.metadata import read_run_metadata


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers is loaded here already; starting it anew for each test takes seconds."""
    target = hf.Target()
    monkeypatch.setattr(parity, "run_probe", lambda _, *given: target.run_probe(*given))


def bring(folder: Path, out: Path) -> Imported:
    made = import_model(str(folder), out)
    assert made.parity is not None
    return made


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model.safetensors"))


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def change(folder: Path, **fields: Any) -> None:
    """Changes config.json; None removes a field."""
    path = folder / "config.json"
    content = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.mark.parametrize("kind", twins.KINDS)
def test_a_model_of_transformers_computes_the_same_here(kind: str, tmp_path: Path) -> None:
    theirs = twins.save(tmp_path / "theirs", kind)
    made = bring(tmp_path / "theirs", tmp_path / "ours")
    loaded = load_run(made.folder)
    assert not loaded.warnings
    assert made.class_name == type(theirs).__name__
    assert made.parity.problem is None
    assert made.parity.greedy_equal == made.parity.greedy_tokens
    tokens = torch.randint(290, (3, 30))  # none of the special ones
    with torch.no_grad():
        if kind == "marian":
            ours = loaded.task.hidden(Batch(tokens, tokens, source=tokens.flip(1)))
            reference = theirs(input_ids=tokens.flip(1), decoder_input_ids=tokens).logits
        else:
            ours = loaded.task.hidden(Batch(tokens, tokens))
            reference = theirs(tokens).logits
        difference = (loaded.task.logits(ours) - reference).abs().max()
    assert difference < 1e-5
    assert reference.std() > 0.1  # not the agreement of zeros


@pytest.mark.parametrize("kind", twins.KINDS)
def test_what_is_imported_is_a_hugging_face_folder_with_the_same_weights(
    kind: str, tmp_path: Path
) -> None:
    twins.save(tmp_path / "theirs", kind)
    once = bring(tmp_path / "theirs", tmp_path / "once")
    again = bring(once.folder, tmp_path / "again")
    assert equal(weights(once.folder), weights(again.folder))
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (once.folder / name).read_bytes() == (again.folder / name).read_bytes()
    if kind not in ("roberta", "marian"):  # theirs have rows that no position reads
        assert equal(weights(tmp_path / "theirs"), weights(once.folder))


@pytest.mark.parametrize("arch", ["gpt2", "llama"])
def test_a_run_of_ours_comes_back_bit_for_bit(arch: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(twins.TEXT, encoding="utf-8")
    settings = {
        "model.layers": 2,
        "model.d_model": 32,
        "model.heads": 2,
        "model.context_length": 16,
        "runtime.dtype": "float32",
    }
    trained = scriven.train(tmp_path / "text.txt", out=tmp_path / "run", arch=arch,
                            budget="4steps", settings=settings, quiet=True)  # fmt: skip
    made = bring(trained.folder, tmp_path / "copy")
    assert equal(weights(trained.folder), weights(made.folder))
    assert dict(trained.task.state_dict()).keys() == load_run(made.folder).task.state_dict().keys()


def test_weights_in_several_files_are_those_in_one(tmp_path: Path) -> None:
    twins.save(tmp_path / "one", "llama")
    twins.save(tmp_path / "many", "llama", max_shard_size="10KB")
    assert len(list((tmp_path / "many").glob("model-*.safetensors"))) > 3
    one = bring(tmp_path / "one", tmp_path / "a")
    many = bring(tmp_path / "many", tmp_path / "b")
    assert equal(weights(one.folder), weights(many.folder))


def test_half_precision_is_widened_and_nothing_else(tmp_path: Path) -> None:
    theirs = twins.save(tmp_path / "theirs", "qwen3", dtype=torch.bfloat16)
    made = bring(tmp_path / "theirs", tmp_path / "ours")
    stored = weights(made.folder)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    assert all(torch.equal(stored[name], theirs.state_dict()[name].float()) for name in stored)


def test_padding_rows_of_the_vocabulary_are_kept(tmp_path: Path) -> None:
    twins.save(tmp_path / "theirs", "llama", padding_rows=20)
    loaded = load_run(bring(tmp_path / "theirs", tmp_path / "ours").folder)
    assert (loaded.task.vocab_size, loaded.tokenizer.vocab_size) == (320, 300)


def test_old_names_of_settings_mean_the_same(tmp_path: Path) -> None:
    for kind in ("gpt2", "qwen3"):
        twins.save(tmp_path / kind, kind)
    change(tmp_path / "gpt2", n_positions=None, n_ctx=40, dtype=None, torch_dtype="float32")
    change(tmp_path / "qwen3", rope_parameters=None, rope_theta=500000, dtype=None)
    ours = load_run(bring(tmp_path / "qwen3", tmp_path / "a").folder).task.backbone.config
    assert ours.rope_theta == 500000.0
    assert load_run(
        bring(tmp_path / "gpt2", tmp_path / "b").folder
    ).task.backbone.config.context_length


def test_names_of_early_releases_mean_the_same(tmp_path: Path) -> None:
    """The published GPT-2 names its tensors without their first word and keeps masks and copies."""
    twins.save(tmp_path / "new", "gpt2")
    twins.save(tmp_path / "old", "gpt2")
    tensors = weights(tmp_path / "old")
    old = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    old["h.0.attn.bias"] = torch.ones(1, 1, 40, 40).tril()
    old["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    old["lm_head.weight"] = old["wte.weight"].clone()
    save_file(old, tmp_path / "old" / "model.safetensors", {"format": "pt"})
    one = bring(tmp_path / "new", tmp_path / "a")
    other = bring(tmp_path / "old", tmp_path / "b")
    assert equal(weights(one.folder), weights(other.folder))


def test_the_licence_of_the_original_goes_with_it(tmp_path: Path) -> None:
    twins.save(tmp_path / "theirs", "gpt2")
    (tmp_path / "theirs" / "README.md").write_text("---\ntags:\n- a\nlicense: mit\n---\n# x\n")
    made = bring(tmp_path / "theirs", tmp_path / "ours")
    assert 'license: "mit"' in (made.folder / "README.md").read_text().split("---")[1]


CONFIGS = [
    (gpt1, {"tie_embeddings": False}),
    (gpt2, {"d_ff": 40, "dropout": 0.25}),
    (gpt2, {"tie_embeddings": False, "norm_eps": 1e-3}),
    (llama, {}),
    (llama, {"kv_heads": 1, "head_dim": 6, "tie_embeddings": False, "rope_theta": 500.0}),
    (llama, {"qk_norm": False, "d_ff": 40}),
    (roberta, {"padding": 3}),
    (transformer, {"encoder_layers": 3, "activation": "gelu"}),
]


@pytest.mark.parametrize(("module", "changes"), CONFIGS)
def test_adopt_undoes_foreign(module: Any, changes: dict[str, Any]) -> None:
    before = module.Config(
        vocab_size=37, context_length=20, layers=2, heads=4, d_model=32, **changes
    )
    described = module.Model.to_hf_config(before)
    after = module.Config(**module.Model.from_hf_config(described))
    assert module.Model.to_hf_config(after) == described
    others = {gpt1, gpt2, llama, roberta, transformer} - {module}
    assert [other.Model.from_hf_config(described) for other in others] == [None] * len(others)


def test_a_forgotten_transposition_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A square matrix the wrong way round fits, so only the comparison can tell."""
    twins.save(tmp_path / "theirs", "gpt2")
    forgetful = tuple(
        type(row)(row.ours, row.hf) if "attention.out.weight" in row.ours else row
        for row in gpt2.Model.HF_WEIGHT_MAP
    )
    assert forgetful != gpt2.Model.HF_WEIGHT_MAP
    monkeypatch.setattr(gpt2.Model, "HF_WEIGHT_MAP", forgetful)
    with pytest.raises(CheckFailed, match="logits differ"):
        import_model(str(tmp_path / "theirs"), tmp_path / "ours")
    assert os.listdir(tmp_path) == ["theirs"]


def test_another_base_of_the_positions_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins.save(tmp_path / "theirs", "qwen3")
    wrong = {"rope_theta": 10000.0, "rope_scaling": None, "rope_fraction": 1.0}
    monkeypatch.setattr(llama_hf, "read_rope", lambda *_: wrong)
    with pytest.raises(CheckFailed, match="logits differ"):
        import_model(str(tmp_path / "theirs"), tmp_path / "ours")


def test_without_transformers_it_says_that_nothing_was_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    twins.save(tmp_path / "theirs", "gpt2")
    monkeypatch.setattr(parity, "find_spec", lambda name: None)
    assert run(["import", str(tmp_path / "theirs"), "--out", str(tmp_path / "ours")]) == 0
    assert "pip install 'scriven[hf]'" in capsys.readouterr().out


@pytest.mark.parametrize("step", ["write_report", "check_parity"])
def test_a_failure_leaves_nothing_and_the_next_one_clears_up(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins.save(tmp_path / "theirs", "gpt2")
    dead = tmp_path / f".tmp-ours-{2**22 + 1}"  # larger than any process number
    (dead / "ours").mkdir(parents=True)

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as planted:
        planted.setattr(f"scriven.importing.{step}", broken)
        with pytest.raises(KeyboardInterrupt):
            import_model(str(tmp_path / "theirs"), tmp_path / "ours")
    assert os.listdir(tmp_path) == ["theirs"]
    bring(tmp_path / "theirs", tmp_path / "ours")
    assert sorted(os.listdir(tmp_path)) == ["ours", "theirs"]


def test_the_command_compares_in_transformers_and_every_verb_accepts_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()  # the real child process
    monkeypatch.chdir(tmp_path)
    twins.save(tmp_path / "my model", "llama")
    Path("text.txt").write_text(twins.TEXT, encoding="utf-8")
    assert run(["import", "my model", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["run"] == "runs/my-model"
    assert said["compared"]["passed"] and said["compared"]["greedy_equal"] > 50
    for line in (
        ["generate", "my-model", "The", "--max-new-tokens", "3"],
        ["evaluate", "latest", "text.txt"],
        ["inspect", "my-model"],
        ["report", "my-model"],
    ):
        assert run(line) == 0, capsys.readouterr().err
    report = Path("runs/my-model/report.html").read_text(encoding="utf-8")
    assert "It was trained elsewhere" in report
    assert run(["import", "my model"]) == 2
    assert "runs/my-model is there already" in capsys.readouterr().err


def test_from_python(tmp_path: Path) -> None:
    from scriven import import_run

    twins.save(tmp_path / "theirs", "gpt2")
    model = import_run(tmp_path / "theirs", tmp_path / "ours")
    assert model.generate("The", max_new_tokens=2).startswith("The")
    with pytest.raises(ScrivenError, match="is there already"):
        import_run(tmp_path / "theirs", tmp_path / "ours")


def test_a_description_far_larger_than_the_weights_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins.save(tmp_path / "theirs", "gpt2")
    folder = bring(tmp_path / "theirs", tmp_path / "ours").folder
    content = read_run_metadata(folder)
    content["model"]["vocab_size"] *= 10_000
    (folder / "scriven.json").write_bytes(signed_json(content))
    monkeypatch.setattr(load, "build_uninitialized", lambda *_: pytest.fail("it was built"))
    with pytest.raises(DamagedError, match="do not fit the model"):
        load_run(folder)
