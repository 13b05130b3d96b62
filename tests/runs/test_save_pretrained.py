"""The published files: damage is noticed, and another model never takes their place."""

import os
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scriven.errors import DamagedError, InputError
from scriven.runs.huggingface import (
    WEIGHTS,
    read_pretrained_file,
    save_pretrained,
)
from scriven.runs.weights import save_tensors

from .make_golden import FOLDER, golden_tensors
from .saves import verify_pretrained

FILES = {"config.json": b'{"a": 1}\n', "tokenizer.json": b"[1, 2]\n", "README.md": b"# one\n"}
CHECKED = ["config.json", "tokenizer.json", "manifest.json", "model.safetensors"]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    save_pretrained(tmp_path, FILES, {"weight": torch.ones(4, 4)})
    return tmp_path


def test_the_published_files_are_those_given_and_nothing_else(published: Path) -> None:
    assert verify_pretrained(published) == []
    assert sorted(os.listdir(published)) == sorted([*FILES, "manifest.json", "model.safetensors"])
    assert torch.equal(load_file(published / "model.safetensors")["weight"], torch.ones(4, 4))
    assert read_pretrained_file(published, "config.json") == FILES["config.json"]


def test_new_weights_touch_one_file_only(published: Path) -> None:
    before = {name: (published / name).stat().st_mtime_ns for name in os.listdir(published)}
    save_pretrained(published, FILES, {"weight": torch.zeros(4, 4)})
    save_tensors(published / WEIGHTS, {"weight": torch.zeros(4, 4)})
    after = {name: (published / name).stat().st_mtime_ns for name in os.listdir(published)}
    assert [name for name in after if after[name] != before[name]] == ["model.safetensors"]
    assert verify_pretrained(published) == []


@pytest.mark.parametrize("name", CHECKED)
def test_cut_missing_or_empty_files_are_named(published: Path, name: str) -> None:
    path = published / name
    raw = path.read_bytes()
    for content in (b"", b"\0" * len(raw), raw[:-1], raw[: len(raw) // 2], raw + b" ", None):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DamagedError, match=name):
            verify_pretrained(published)


@pytest.mark.parametrize("name", CHECKED)
def test_a_thousand_bit_flips_in_each_published_file_are_all_noticed(
    published: Path, name: str
) -> None:
    path = published / name
    raw = bytearray(path.read_bytes())
    draw = random.Random(name)
    for _ in range(1000):
        bit = draw.randrange(8 * len(raw))
        raw[bit // 8] ^= 1 << bit % 8
        path.write_bytes(raw)
        with pytest.raises(DamagedError, match=name):
            verify_pretrained(published)
        raw[bit // 8] ^= 1 << bit % 8


def test_an_edited_readme_is_noticed_but_no_damage(published: Path) -> None:
    (published / "README.md").write_text("my own words")
    assert verify_pretrained(published) == ["README.md was edited after it was written"]
    save_pretrained(published, {**FILES, "README.md": b"# two\n"}, {"weight": torch.ones(1)})
    assert verify_pretrained(published) == []


def test_another_model_never_takes_the_place_of_this_one(published: Path) -> None:
    with pytest.raises(InputError, match=r"another model \(tokenizer\.json differs\).*--out"):
        save_pretrained(published, {**FILES, "tokenizer.json": b"{}"}, {"weight": torch.zeros(1)})
    assert verify_pretrained(published) == []
    assert torch.equal(load_file(published / "model.safetensors")["weight"], torch.ones(4, 4))


def test_files_that_describe_the_same_model_in_other_words_replace_the_old_ones(
    published: Path,
) -> None:
    other = {"config.json": b"{}", "tokenizer.json": FILES["tokenizer.json"], "new.json": b"[]"}
    save_pretrained(published, other, {"weight": torch.zeros(4, 4)})
    assert verify_pretrained(published) == []
    assert read_pretrained_file(published, "config.json") == b"{}"
    with pytest.raises(DamagedError, match="not among the published"):
        read_pretrained_file(published, "README.md")


@pytest.mark.parametrize("name", ["config.json", "manifest.json"])
def test_damaged_files_are_written_again(published: Path, name: str) -> None:
    (published / name).write_bytes(b"damaged")
    save_pretrained(published, FILES, {"weight": torch.zeros(4, 4)})
    assert verify_pretrained(published) == []


def test_a_published_model_of_format_2_is_whole() -> None:
    assert verify_pretrained(FOLDER / "format-2") == []
    found = load_file(FOLDER / "format-2" / "model.safetensors")
    for name, tensor in golden_tensors()["model"].items():
        assert torch.equal(found[name], tensor)


def test_weights_alone_can_be_replaced(published: Path) -> None:
    save_tensors(published / WEIGHTS, {"weight": torch.full((2,), 3.0)})
    assert verify_pretrained(published) == []
