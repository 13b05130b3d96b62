"""A wrong export is noticed in the real program, and nothing of it is left."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from scriven.export.base import CheckFailed
from scriven.export.export import export
from scriven.export.targets import ctranslate2, gguf, hf, onnx

RunOf = Callable[[str], Path]
here = pytest.mark.usefixtures("checks_in_this_process")


def fails(run: Path, target: str, out: Path, dtype: str | None = None) -> str:
    """The one line, after making sure that nothing is there."""
    with pytest.raises(CheckFailed) as caught:
        export(run, target, out=out, dtype=dtype)
    assert list(out.parent.iterdir()) == []
    text = str(caught.value)
    assert "\n" not in text and caught.value.exit_code == 2
    return text


@here
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_queries_and_keys_that_are_not_permuted(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setattr(gguf, "interleave", lambda weight, heads: weight)
    assert "logits differ" in fails(run_of("llama"), "gguf", tmp_path / "out", dtype)


@here
def test_query_heads_taken_for_key_heads(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = gguf.interleave
    monkeypatch.setattr(gguf, "interleave", lambda weight, heads: right(weight, 1))
    assert "logits differ" in fails(run_of("llama"), "gguf", tmp_path / "out")


@here
def test_two_matrices_exchanged(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, swapped = gguf.rename, {"ffn_up": "ffn_gate", "ffn_gate": "ffn_up"}

    def wrong(*given: Any) -> Iterator[tuple[str, Any]]:
        for name, tensor in right(*given):
            parts = [swapped.get(part, part) for part in name.split(".")]
            yield ".".join(parts), tensor

    monkeypatch.setattr(gguf, "rename", wrong)
    assert "logits differ" in fails(run_of("qwen"), "gguf", tmp_path / "out")


def test_a_missing_tensor(run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = gguf.rename
    monkeypatch.setattr(gguf, "rename", lambda *given: list(right(*given))[:-1])
    assert "could not use the files" in fails(run_of("gpt2"), "gguf", tmp_path / "out")


@here
def test_another_splitting_pattern(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gguf.PATTERNS, "llama3", "gpt-2")
    assert "encodes" in fails(run_of("llama"), "gguf", tmp_path / "out")


@here
def test_a_space_added_before_the_text(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gguf as library

    name = "add_add_space_prefix"
    right = getattr(library.GGUFWriter, name)
    monkeypatch.setattr(library.GGUFWriter, name, lambda self, value: right(self, True))
    assert "encodes" in fails(run_of("qwen"), "gguf", tmp_path / "out")


def disturbed(write: Callable[..., None]) -> Callable[..., None]:
    """A `write` that sees weights that are a little off."""

    def wrong(self: Any, loaded: Any, folder: Path, dtype: str) -> None:
        weight = loaded.task.backbone.blocks[0].mlp.up.weight
        saved = weight.detach().clone()
        with torch.no_grad():
            weight.add_(0.01)
            write(self, loaded, folder, dtype)
            weight.copy_(saved)

    return wrong


@here
@pytest.mark.parametrize(
    "target",
    [gguf, onnx, *(pytest.param(each, marks=pytest.mark.slow) for each in (hf, ctranslate2))],
)
def test_weights_that_are_a_little_off(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Any
) -> None:
    monkeypatch.setattr(target.Target, "write", disturbed(target.Target.write))
    name = target.__name__.rsplit(".", 1)[-1]
    assert "differ" in fails(run_of("gpt2"), name, tmp_path / "out", "f32")


@here
def test_a_length_that_is_fixed_in_the_graph(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = torch.onnx.export

    def fixed(*given: Any, **named: Any) -> Any:
        named["dynamic_shapes"] = None
        return right(*given, **named)

    monkeypatch.setattr(torch.onnx, "export", fixed)
    assert "could not use the files" in fails(run_of("gpt2"), "onnx", tmp_path / "out")
