"""scriven.json: damage, versions, and what a stranger may write into it."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scriven import registry
from scriven.config import replace
from scriven.errors import DamagedError, InputError
from scriven.import_.base import base_digest
from scriven.manifest import NewerFormatError, signed_json
from scriven.runs import metadata
from scriven.runs.metadata import check_size, read_metadata, read_run_metadata, write_metadata
from scriven.runs.weights import save_tensors

from .make_golden import FOLDER, RECORD

CONTENT: dict[str, Any] = {
    "name": "odd\ud800 \n name é",
    "architecture": "llama",
    "task": "language",
    "model": {
        "layers": 4,
        "heads": 4,
        "d_model": 128,
        "context_length": 256,
        "dropout": 0.1,
        "tie_embeddings": True,
    },
    "tokenizer": {"kind": "char", "vocab_size": 65},
    "results": None,
}


def test_a_record_comes_back(tmp_path: Path) -> None:
    write_metadata(tmp_path, CONTENT)
    found = read_metadata(tmp_path)
    assert {name: found[name] for name in CONTENT} == CONTENT
    assert found["format"] == 2
    assert found["scriven"]
    again = {**found, "results": {"val_loss": 1.5}}
    write_metadata(tmp_path, again)
    assert read_metadata(tmp_path) == again


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    write_metadata(tmp_path, {"results": {"loss": float("nan"), "all": [float("inf"), 1.0]}})
    assert read_metadata(tmp_path)["results"] == {"loss": None, "all": [None, 1.0]}
    json.loads((tmp_path / metadata.NAME).read_text(), parse_constant=pytest.fail)


def test_a_folder_without_record_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run folder"):
        read_metadata(tmp_path)


def test_a_thousand_bit_flips_in_the_record_are_all_noticed(tmp_path: Path) -> None:
    write_metadata(tmp_path, CONTENT)
    path = tmp_path / metadata.NAME
    raw = bytearray(path.read_bytes())
    draw = random.Random(0)
    for _ in range(1000):
        bit = draw.randrange(8 * len(raw))
        raw[bit // 8] ^= 1 << bit % 8
        path.write_bytes(raw)
        with pytest.raises(DamagedError, match=r"scriven\.json"):
            read_metadata(tmp_path)
        raw[bit // 8] ^= 1 << bit % 8


def test_every_cut_of_the_record_is_noticed(tmp_path: Path) -> None:
    write_metadata(tmp_path, {"name": "r"})
    path = tmp_path / metadata.NAME
    raw = path.read_bytes()
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        with pytest.raises(DamagedError):
            read_metadata(tmp_path)


def test_a_record_of_a_newer_release_names_both_versions(tmp_path: Path) -> None:
    content = {"format": 3, "scriven": "9.9.9", "model": {"layers": "many"}}
    (tmp_path / metadata.NAME).write_bytes(signed_json(content))
    with pytest.raises(NewerFormatError, match=r"format 3 .*9\.9\.9.*reads format 2"):
        read_metadata(tmp_path)
    (tmp_path / metadata.NAME).write_text(json.dumps(content))
    with pytest.raises(DamagedError, match=r"format 3 .*9\.9\.9.*reads format 2"):
        read_metadata(tmp_path)


@pytest.mark.parametrize("old", [0, 1])
def test_a_run_folder_of_an_older_format_is_refused_with_one_line(tmp_path: Path, old: int) -> None:
    (tmp_path / metadata.NAME).write_bytes(signed_json({"format": old}))
    with pytest.raises(DamagedError, match=f"format {old}, .*reads format 2: train .*again$"):
        read_metadata(tmp_path)


def test_a_record_of_format_2_is_read() -> None:
    found = read_metadata(FOLDER / "format-2")
    assert {name: found[name] for name in RECORD} == RECORD


NO_RECORDS = [
    b"",
    b"{}",
    b"[]",
    b"1",
    b"null",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"\xff\xfe",
    b"9" * 9999,
]
NO_RECORDS += [
    b'{"format": true}',
    b'{"format": "1"}',
    b'{"format": 2, "digest": []}',
    b'{"format": 1e999}',
]


@pytest.mark.parametrize("raw", NO_RECORDS)
def test_what_is_no_record_is_refused_in_one_line(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / metadata.NAME).write_bytes(raw)
    with pytest.raises(DamagedError) as error:
        read_metadata(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "model",
    [
        {"layers": 10**6},
        {"layers": 10**400},
        {"d_model": 10**6},
        {"heads": 10**5},
        {"vocab_size": 10**9},
        {"context_length": 10**9},
        {"inner": {"layers": [1, 10**6]}},
        {"key_value_heads": 10**5},
        {"anything": 2**31},
        {"layers": float("nan")},
        {"d_model": float("inf")},
        {"layers": 4000, "d_model": 100_000},  # 5e14 parameters
        {"d_model": 131_072, "vocab_size": 10**7},  # 1.3e12
        {"layers": 64, "d_model": 40_000},  # 1.2e12
        {"layers": 1000, "d_model": 1000, "d_ff": 500_000},  # 1.5e12
        {"layers": 1000, "d_model": 1000, "heads": 4000, "head_dim": 100_000},
        {"d_model": 100_000, "context_length": 10**7},  # learned positions
        {"layers": -1},
        {"d_model": -1},
        [],
        "x",
    ],
)
def test_a_model_of_absurd_size_is_refused(tmp_path: Path, model: Any) -> None:
    with pytest.raises(InputError, match=r"scriven\.json") as error:
        check_size({"model": model})
    assert len(str(error.value)) < 300
    if model != [] and "nan" not in str(model) and "inf'" not in str(model):
        (tmp_path / metadata.NAME).write_bytes(signed_json({"model": model}))
        with pytest.raises(InputError):
            read_metadata(tmp_path)


def test_known_models_pass() -> None:
    gpt2 = {"layers": 12, "heads": 12, "d_model": 768, "context_length": 1024, "vocab_size": 50257}
    large = {"layers": 80, "heads": 64, "d_model": 8192, "d_ff": 28672, "head_dim": 128}
    large |= {"kv_heads": 8, "context_length": 131072, "vocab_size": 128256}
    for model in (gpt2, large, {"layers": 4, "pad": -1, "theta": 1e6}):
        check_size({"model": model, "architecture": "llama", "task": "language"})


@given(
    st.dictionaries(
        st.sampled_from(["layers", "d_model", "heads", "vocab_size", "context_length", "other"]),
        st.one_of(st.integers(), st.floats(), st.integers(0, 10**6)),
    )
)
def test_whatever_passes_has_a_size_that_can_be_loaded(model: dict[str, float]) -> None:
    try:
        check_size({"model": model})
    except InputError:
        return
    assert all(abs(value) < 2**31 for value in model.values())
    assert all(value >= 0 for name, value in model.items() if name != "other")
    block = 12 * model.get("layers", 1) * model.get("d_model", 0) ** 2
    assert block + model.get("vocab_size", 0) * model.get("d_model", 0) <= 1e11


BAD_NAMES = [
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "",
    "a/b",
    "a\\b",
    "%2e%2e/x",
    "a\0b",
    "~/x",
    "a\nb",
    "mine.py",
    "./mine.py",
    "../mine.py",
    "/tmp/mine.py",
    "..\\mine.py",
    "a" * 300,
    7,
    None,
    ["llama"],
    {"a": 1},
]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("place", ["architecture", "task", "kind"])
def test_names_that_are_paths_are_refused(tmp_path: Path, place: str, name: Any) -> None:
    content = {"tokenizer": {"kind": name}} if place == "kind" else {place: name}
    (tmp_path / metadata.NAME).write_bytes(signed_json(content))
    with pytest.raises(InputError, match="not a plain name") as error:
        read_metadata(tmp_path)
    assert "\n" not in str(error.value)


def test_of_a_users_own_file_only_the_name_is_kept(tmp_path: Path) -> None:
    write_metadata(tmp_path, {"architecture": "/home/someone/my model.py"})
    assert read_metadata(tmp_path)["architecture"] == "my model"


def test_names_in_a_manifest_are_never_joined_to_a_path(tmp_path: Path) -> None:
    from scriven import manifest
    from scriven.runs import checkpoint

    (tmp_path / "outside").write_text("secret")
    place = tmp_path / "run" / "checkpoints" / "step-1"
    place.mkdir(parents=True)
    names = ["../../../outside", str(tmp_path / "outside"), "a/../../x", "..", ".", "", "a\0b"]
    for name in names:
        (place / "manifest.json").write_bytes(manifest.build_manifest({name: b"secret"}, step=1))
        with pytest.raises(DamagedError, match="is missing"):
            checkpoint.load_step(tmp_path / "run", 1)
        with pytest.raises(DamagedError, match="is missing"):
            manifest.verify_folder(place)


@pytest.mark.parametrize(
    "changes",
    [
        {"d_model": 256, "heads": 4, "vocab_size": 300},
        {
            "d_model": 64,
            "heads": 8,
            "head_dim": 64,
            "vocab_size": 300,
        },  # heads wider than the model
        {"d_model": 64, "d_ff": 1024, "layers": 5, "vocab_size": 300},
        {"d_model": 32, "vocab_size": 20_000},
    ],
)
def test_the_size_that_is_estimated_is_that_of_the_model(
    changes: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"layers": 3, "heads": 4, "context_length": 16, **changes}
    module = registry.module("scriven.models", "llama")
    built = module.Model(replace(module.Config(), model, "model"))
    count = sum(weight.numel() for weight in built.parameters())
    monkeypatch.setattr(metadata, "MAX_PARAMETERS", 1.5 * count)
    check_size({"model": model})
    monkeypatch.setattr(metadata, "MAX_PARAMETERS", count / 1.5)
    with pytest.raises(InputError, match="parameters"):
        check_size({"model": model})


RUN: dict[str, Any] = {
    "architecture": "llama",
    "task": "language",
    "model": {},
    "settings": {
        "data": {},
        "optim": {"optimizer": "adamw", "lr_schedule": "cosine"},
        "train": {},
        "budget": {"unit": "steps", "amount": 2},
        "steps": 2,
        "seed": 0,
    },
    "reasons": {},
    "command": "scriven train book.txt",
    "environment": {"device": "cpu", "dtype": "float32"},
    "data": {"fingerprint": None, "sources": ["book.txt"]},
    "tokenizer": {"kind": "char", "vocab_size": 65, "fingerprint": "f"},
    "results": None,
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"command": 7}, "command is 7"),
        ({"tokenizer": {"kind": "char", "vocab_size": 65}}, "tokenizer.fingerprint is missing"),
        ({"environment": {"device": "cpu", "dtype": "int8"}}, 'environment.dtype is "int8"'),
        ({"settings": {**RUN["settings"], "budget": {"unit": 1}}}, "settings.budget.unit is 1"),
    ],
)
def test_a_value_that_is_missing_or_wrong_is_named_with_its_sections(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    write_metadata(tmp_path, RUN)
    assert read_run_metadata(tmp_path)["command"] == "scriven train book.txt"
    write_metadata(tmp_path, {**RUN, **change})
    with pytest.raises(DamagedError, match=f"is damaged, {said}: restore it"):
        read_run_metadata(tmp_path)


def test_a_run_of_adapters_is_known_by_its_base_and_its_adapters(tmp_path: Path) -> None:
    """A model that went on from it is refused where either has other weights now."""
    write_metadata(tmp_path, {**RUN, "base": {"adapter": True, "digest": "a" * 64}})
    (tmp_path / "adapter").mkdir()
    path, found = tmp_path / "adapter" / "adapter_model.safetensors", set()
    for value in (1.0, 2.0):
        save_tensors(path, {"a": torch.full((2,), value)})
        raw = path.read_bytes()
        at = raw.index(b'"sha256":"') + 10
        written = hashlib.sha256(raw[:at] + b"0" * 64 + raw[at + 64 :]).hexdigest()
        assert base_digest(str(tmp_path)) == f"{'a' * 64}+{written}"
        found.add(written)
    assert len(found) == 2
