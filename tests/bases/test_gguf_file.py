"""Tensors of GGUF files are those of the package gguf, bit for bit; damage is told in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from scriven.errors import DamagedError, InputError
from scriven.import_ import gguf_file
from scriven.import_.gguf_file import GGUFFile

gguf = pytest.importorskip("gguf", reason="the gguf extra is not installed")

ROWS, WIDTH = 6, 512


def packed(kind: "gguf.GGMLQuantizationType", seed: int = 0) -> np.ndarray:
    """Random rows of a type; its scales are finite, all other bits are random."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (ROWS * WIDTH // block, size), dtype=np.uint8)
    halves = {2: [0], 3: [0, 2], 6: [0], 7: [0, 2], 8: [0], 12: [0, 2], 13: [0, 2], 14: [208]}
    for at in halves.get(kind.value, []):
        scales = rng.standard_normal(len(raw)).astype(np.float16)
        raw[:, at : at + 2] = scales[:, None].view(np.uint8)
    if block == 1:
        values = rng.standard_normal((ROWS, WIDTH)).astype(np.float32)
        raw = gguf.quants.quantize(values, kind)
    return np.ascontiguousarray(raw).view(np.uint8).reshape(ROWS, -1)


def write(path: Path, **tensors: tuple[np.ndarray, "gguf.GGMLQuantizationType"]) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_string("words", "naïve")
    writer.add_array("list", ["a", "β", ""])
    writer.add_array("numbers", [1.5, 2.5])
    for name, (values, kind) in tensors.items():
        writer.add_tensor(name, values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("number", sorted(gguf_file._UNPACK))
def test_each_quantisation_is_unpacked_as_the_package_does(number: int, tmp_path: Path) -> None:
    kind = gguf.GGMLQuantizationType(number)
    values = packed(kind)
    file = GGUFFile(write(tmp_path / "x.gguf", one=(values, kind), other=(values, kind)))
    expected = gguf.quants.dequantize(values, kind)
    assert expected.shape == (ROWS, WIDTH)
    for name in ("one", "other"):
        assert torch.equal(file.read(name), torch.from_numpy(np.array(expected)))


def test_a_rare_quantisation_is_left_to_the_package(tmp_path: Path) -> None:
    kind = gguf.GGMLQuantizationType.IQ4_NL
    values = packed(kind)
    values.reshape(-1, 18)[:, :2] = np.frombuffer(np.float16(0.5).tobytes(), np.uint8)
    file = GGUFFile(write(tmp_path / "x.gguf", one=(values, kind)))
    assert torch.equal(file.read("one"), torch.from_numpy(gguf.quants.dequantize(values, kind)))


def test_metadata_is_what_was_written(tmp_path: Path) -> None:
    kind = gguf.GGMLQuantizationType.F32
    file = GGUFFile(write(tmp_path / "x.gguf", one=(np.zeros((2, 3), np.float32), kind)))
    assert file.metadata["llama.context_length"] == 64
    assert file.metadata["words"] == "naïve"
    assert file.metadata["list"] == ["a", "β", ""]
    assert file.metadata["numbers"].tolist() == [1.5, 2.5]
    assert file.tensors["one"].shape == (2, 3)


def test_a_file_that_is_damaged_anywhere_ends_in_one_line(tmp_path: Path) -> None:
    kind = gguf.GGMLQuantizationType.Q8_0
    path = write(tmp_path / "x.gguf", one=(packed(kind), kind))
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for number in range(300):
        data = bytearray(whole)
        if number % 3 == 0:
            data = data[: int(rng.integers(0, len(data)))]
        else:
            for at in rng.integers(0, min(len(data), 400), 3):
                data[at] = int(rng.integers(0, 256))
        path.write_bytes(data)
        told: list[str] = []
        try:
            file = GGUFFile(path)
            for name in file.tensors:
                file.read(name)
        except (DamagedError, InputError) as error:
            told.append(str(error))
        assert all(str(path) in text and "\n" not in text for text in told)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: b"", "is empty"),
        (lambda data: b"no" + data[2:], "does not begin with GGUF"),
        (lambda data: data[:4] + b"\x01" + data[5:], "GGUF version 1"),
        (lambda data: data[:30], "ends too early"),
        (lambda data: data[:-100], "reaches beyond its end"),
    ],
)
def test_what_is_wrong_is_said(change, words: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    kind = gguf.GGMLQuantizationType.Q8_0
    path = write(tmp_path / "x.gguf", one=(packed(kind), kind))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises((DamagedError, InputError), match=words):
        GGUFFile(path).read("one")


def test_a_quantisation_that_nobody_can_read_is_named(tmp_path: Path) -> None:
    kind = gguf.GGMLQuantizationType.F32
    path = write(tmp_path / "x.gguf", one=(np.zeros((2, 64), np.float32), kind))
    file = GGUFFile(path)
    for number in (777, gguf.GGMLQuantizationType.Q8_K.value):
        file.tensors["one"] = gguf_file.GGUFTensor((2, 64), number, 0)
        with pytest.raises(InputError, match="get the model as Q8_0"):
            file.read("one")
