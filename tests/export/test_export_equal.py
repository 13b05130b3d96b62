"""Each target computes what the run does: ids, logits and greedy text, in the real program."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from exportable import TRAINED, text

import scriven
from scriven.cli import run as command
from scriven.export.export import export

RunOf = Callable[[str], Path]

REQUIRED = [
    ("gpt2", "gguf", "f32"),
    ("llama", "gguf", "f32"),
    ("llama", "onnx", "f32"),
    ("gpt2", "ctranslate2", "f32"),
    ("transformer", "hf", "f32"),
]
OTHERS = [
    ("qwen", "gguf", "f16"),
    ("banded", "onnx", "f32"),
]
CHILDREN = [("llama", "onnx"), ("gpt2", "ctranslate2")]
"""What is checked in a process of its own, as for users; `gguf` and `hf` are by the tests below."""
SLOW = [
    ("transformer", "ctranslate2", "f32"),
    ("qwen2", "gguf", "bf16"),
    ("dense", "gguf", "f32"),
    ("bytes", "gguf", "bf16"),
    ("qwen", "ctranslate2", "f16"),
    ("roberta", "hf", "f32"),
    ("gpt1", "hf", "f32"),
    ("gpt1", "onnx", "f32"),
    ("roberta", "onnx", "f32"),
]


@pytest.mark.parametrize(
    ("name", "target", "dtype"),
    [*REQUIRED, *OTHERS, *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)],
)
def test_the_program_computes_the_same(
    run_of: RunOf,
    tmp_path: Path,
    name: str,
    target: str,
    dtype: str,
    request: pytest.FixtureRequest,
) -> None:
    if (name, target) not in CHILDREN:
        request.getfixturevalue("checks_in_this_process")
    done = export(run_of(name), target, dtype=dtype, out=tmp_path / "out")
    check = done["check"]
    assert check["passed"]
    assert check["texts_equal"] == check["texts"] >= 10
    assert check["logit_scale"] > (0.5 if name in TRAINED else 0.05)  # not the agreement of zeros
    assert check["logit_difference"] < check["bound"] < 0.3 * check["logit_scale"]
    if (name, target, dtype) in REQUIRED:
        # GELU is a table of 16-bit numbers in llama.cpp: near-ties may fall the other way
        least = 190 if (name, target) == ("gpt2", "gguf") else 192
        assert least <= check["greedy_equal"] <= check["greedy_tokens"] == 192
    if target == "ctranslate2" or (target, dtype) in (("onnx", "f32"), ("hf", "f32")):
        assert check["bound"] <= 0.021 * check["logit_scale"]


@pytest.mark.usefixtures("checks_in_this_process")
def test_quantised_weights_are_reported_and_not_judged(run_of: RunOf, tmp_path: Path) -> None:
    done = export(run_of("qwen"), "gguf", dtype="q8_0", out=tmp_path / "out")
    check = done["check"]
    assert check["bound"] is None and check["passed"]
    assert 0.001 < check["logit_difference"] < 1
    whole = export(run_of("qwen"), "gguf", dtype="f32", out=tmp_path / "f32")
    name = next(name for name in done["files"] if name.endswith(".gguf"))
    assert done["files"][name] < 0.5 * max(whole["files"].values())


@pytest.mark.usefixtures("checks_in_this_process")
def test_four_bits_are_half_of_eight_and_keep_the_embedding_at_eight(
    run_of: RunOf, tmp_path: Path
) -> None:
    import gguf

    files, checks = {}, {}
    for dtype in ("q8_0", "q4_0"):
        done = export(run_of("qwen"), "gguf", dtype=dtype, out=tmp_path / dtype)
        files[dtype] = next(tmp_path.joinpath(dtype).glob("*.gguf"))
        checks[dtype] = done["check"]
    kinds, sizes = {}, dict[str, int]()
    for dtype, path in files.items():
        for each in gguf.GGUFReader(path).tensors:
            kinds[dtype, each.name] = each.tensor_type.name
            if each.name == "blk.0.ffn_down.weight":
                sizes[dtype] = int(each.n_bytes)
    assert kinds["q4_0", "blk.0.ffn_down.weight"] == "Q4_0"
    assert kinds["q4_0", "token_embd.weight"] == "Q8_0"
    assert sizes["q4_0"] * 34 == sizes["q8_0"] * 18
    assert checks["q4_0"]["passed"] and checks["q4_0"]["bound"] is None
    # the half of a step is 16 times larger
    assert checks["q4_0"]["logit_difference"] > 3 * checks["q8_0"]["logit_difference"]


@pytest.mark.usefixtures("checks_in_this_process")
def test_a_q8_row_that_no_blocks_fill_is_stored_in_16_bits(tmp_path: Path) -> None:
    import gguf

    source = tmp_path / "some.txt"
    source.write_text(text(), encoding="utf-8")
    model = scriven.train(
        source,
        out=tmp_path / "narrow",
        budget="2steps",
        quiet=True,
        settings={
            "model.d_model": 40,
            "model.heads": 2,
            "model.layers": 1,
            "model.context_length": 32,
            "model.d_ff": 64,
            "train.sample_seconds": 0,
            "runtime.dtype": "float32",
        },
    )
    done = export(model.folder, "gguf", dtype="q8_0", out=tmp_path / "out")
    name = next(name for name in done["files"] if name.endswith(".gguf"))
    kinds = {
        each.name: each.tensor_type.name
        for each in gguf.GGUFReader(tmp_path / "out" / name).tensors
    }
    assert kinds["blk.0.attn_q.weight"] == "F16"  # rows of 40
    assert kinds["blk.0.ffn_down.weight"] == "Q8_0"  # rows of 64
    assert kinds["blk.0.attn_norm.weight"] == "F32"


def test_the_command_shows_the_comparison_before_it_says_done(
    run_of: RunOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(run_of("qwen"))
    assert command(["export", run, "--to", "gguf", "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "checked in", "token ids", "logits", "greedy text", lines[-1],
    ]  # fmt: skip
    assert lines[-1].startswith(f"done: {tmp_path / 'out'} (")


def test_json_is_one_object_with_the_figures(
    run_of: RunOf, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of("qwen")
    assert command(["export", str(run), "--to", "hf", "--dtype", "bfloat16", "--json"]) == 0
    said = capsys.readouterr()
    data = json.loads(said.out)
    assert data["out"] == str(run / "exports" / "hf-bf16")
    assert data["check"]["passed"] and "transformers" in data["check"]["runtime"]
    assert "greedy text" in said.err
    written = json.loads((run / "exports" / "hf-bf16" / "export.json").read_text())
    assert written["check"] == data["check"]
    config = json.loads((run / "exports" / "hf-bf16" / "config.json").read_text())
    assert config["dtype"] == config["torch_dtype"] == "bfloat16"
