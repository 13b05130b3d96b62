"""Adapter folders that are damaged, of another kind or for another model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from scriven.errors import DamagedError, InputError
from scriven.runs.peft import CONFIG, TENSORS, read_adapter
from scriven.runs.weights import save_tensors

from .hf_case import Case


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type is not LORA"),
        ({"use_dora": True}, "use_dora is set"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"r": 0}, "r is not a number"),
        ({"r": "8"}, "r is not a number"),
        ({"r": True}, "r is not a number"),
        ({"lora_alpha": None}, "lora_alpha"),
        ({"lora_dropout": 1.0}, "lora_dropout"),
    ],
)
def test_settings_that_do_not_exist_here_are_refused(
    case: Callable[..., Case], change: dict[str, Any], said: str
) -> None:
    made = case("gpt2")
    folder = made.write(made.adapted())
    about = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**about, **change}))
    with pytest.raises(InputError, match=said) as error:
        read_adapter(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 100_000, b"\xff"])
def test_a_damaged_description_is_refused(case: Callable[..., Case], content: bytes) -> None:
    made = case("gpt2")
    folder = made.write(made.adapted())
    (folder / CONFIG).write_bytes(content)
    with pytest.raises(DamagedError):
        read_adapter(folder)


def test_a_flipped_bit_is_noticed(case: Callable[..., Case]) -> None:
    made = case("gpt2")
    folder = made.write(made.adapted())
    raw = bytearray((folder / TENSORS).read_bytes())
    raw[-5] ^= 4
    (folder / TENSORS).write_bytes(raw)
    with pytest.raises(DamagedError, match="SHA-256"):
        read_adapter(folder)


def test_another_models_adapter_is_refused(case: Callable[..., Case], tmp_path: Path) -> None:
    made = case("gpt2")
    folder = made.write(made.adapted())
    for name, changes, said in (
        ("gpt2", {"layers": 1}, "no place for"),
        ("gpt2", {"d_model": 32}, "another model"),
        ("llama", {}, "no place for"),
    ):
        other = tmp_path / f"{name}{len(changes)}"
        other.mkdir(exist_ok=True)
        with pytest.raises(InputError, match=said) as error:
            Case(other, name, changes).attach(folder)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("lost", ["lora_A", "lora_B"])
def test_half_an_adapter_is_refused(case: Callable[..., Case], lost: str) -> None:
    made = case("llama")
    folder = made.write(made.adapted())
    tensors = dict(load_file(folder / TENSORS))
    save_tensors(
        folder / TENSORS, {each: tensors[each] for each in tensors if f"q_proj.{lost}" not in each}
    )
    with pytest.raises(InputError, match="lack"):
        made.attach(folder)


def test_an_adapter_of_the_head_is_refused(case: Callable[..., Case]) -> None:
    """Its scores are made without the layer, so an adapter would be read and then forgotten."""
    made = case("llama", {"tie_embeddings": False})
    folder = made.write(made.adapted())
    tensors = dict(load_file(folder / TENSORS))
    tensors["base_model.model.lm_head.lora_A.weight"] = torch.zeros(3, 16)
    save_tensors(folder / TENSORS, tensors)
    with pytest.raises(InputError, match=r"lm_head\.lora_A"):
        made.attach(folder)
