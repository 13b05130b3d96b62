"""Safetensors files: read by every program, every flipped bit noticed, hostile headers refused."""

import hashlib
import json
import os
import random
import resource
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from scriven.errors import DamagedError
from scriven.models import gpt2
from scriven.runs import weights
from scriven.runs.weights import (
    encode,
    from_hf_weights,
    load_tensors,
    read_tensors,
    save_tensors,
    to_hf_weights,
)

from .faults import child
from .make_golden import golden_tensors

MB = 1 << 20


def _raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _every_type() -> dict[str, torch.Tensor]:
    values = torch.tensor([0, 1, 2, 3, 100, 7])
    return {name: values.to(dtype).reshape(2, 3) for dtype, name in weights.DTYPES.items()}


def test_every_type_comes_back_and_the_reference_library_reads_the_same(tmp_path: Path) -> None:
    written = {
        **_every_type(),
        **golden_tensors()["model"],
        "scalar": torch.tensor(3.5),
        "turned": torch.arange(12.0).reshape(3, 4).T,
        "part": torch.arange(12.0)[3:7],
        "é\n": torch.ones(1),
    }
    save_tensors(tmp_path / "a.safetensors", written, {"step": "7"})
    ours, theirs = load_tensors(tmp_path / "a.safetensors"), load_file(tmp_path / "a.safetensors")
    assert ours.keys() == theirs.keys() == written.keys()
    for name, tensor in written.items():
        for found in (ours[name], theirs[name]):
            assert found.dtype == tensor.dtype
            assert found.shape == tensor.shape
            assert _bytes(found) == _bytes(tensor)


def test_a_file_of_the_reference_library_is_read_but_has_no_digest(tmp_path: Path) -> None:
    written = {"a": torch.randn(3, 5), "b": torch.arange(3), "c": torch.tensor([True])}
    save_file(written, tmp_path / "a.safetensors", {"format": "pt"})
    found = load_tensors(tmp_path / "a.safetensors", require_digest=False)
    assert all(torch.equal(found[name], tensor) for name, tensor in written.items())
    with pytest.raises(DamagedError, match="has no digest"):
        load_tensors(tmp_path / "a.safetensors")


def test_the_header_keeps_the_format_for_transformers() -> None:
    raw = b"".join(encode({"a": torch.ones(1)}, {"step": "7"}))
    described = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
    assert described["__metadata__"]["format"] == "pt"
    assert described["__metadata__"]["step"] == "7"


def test_the_digest_is_the_sha256_of_the_file_with_the_digest_zeroed() -> None:
    raw = b"".join(encode(golden_tensors()["model"]))
    at = raw.index(b'"sha256":"') + 10
    blank = raw[:at] + b"0" * 64 + raw[at + 64 :]
    assert raw[at : at + 64].decode() == hashlib.sha256(blank).hexdigest()


def test_equal_tensors_make_equal_files_whatever_their_order() -> None:
    tensors = golden_tensors()["model"]
    turned = dict(reversed(tensors.items()))
    assert b"".join(encode(tensors)) == b"".join(encode(turned))


def test_loaded_tensors_can_be_changed_and_unaligned_ones_are_read(tmp_path: Path) -> None:
    data = struct.pack("<B2f", 9, 1.5, -2.5)
    described = {
        "byte": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "pair": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
    }
    (tmp_path / "a").write_bytes(_raw(described, data))
    found = load_tensors(tmp_path / "a", require_digest=False)
    assert found["pair"].tolist() == [1.5, -2.5]
    found["pair"].add_(1)
    found["byte"].add_(1)
    assert found["byte"].item() == 10


def test_copied_tensors_lie_where_pytorch_puts_its_own(tmp_path: Path) -> None:
    """Else a run that goes on has other products than one that was never stopped (MKL, AMD)."""
    given = {str(size): torch.arange(float(size)) for size in (1, 3, 16, 33, 64)}
    path = tmp_path / "a.safetensors"
    save_tensors(path, given)
    copied = read_tensors(path, copy=True)
    assert all(torch.equal(copied[name], one) for name, one in given.items())
    assert {one.data_ptr() % 64 for one in (*given.values(), *copied.values())} == {0}
    assert {one.data_ptr() % 64 for one in read_tensors(path).values()} != {0}


def _loaded(path: Path, raw: bytes | bytearray) -> dict[str, torch.Tensor]:
    """The tensors of a file with this content, each in memory of its own."""
    path.write_bytes(raw)
    return {name: tensor.clone() for name, tensor in load_tensors(path).items()}


def test_a_thousand_bit_flips_are_all_noticed(tmp_path: Path) -> None:
    raw = bytearray(b"".join(encode(golden_tensors()["model"])))
    draw = random.Random(0)
    for _ in range(1000):
        bit = draw.randrange(8 * len(raw))
        raw[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedError):
            _loaded(tmp_path / "a", raw)
        raw[bit // 8] ^= 1 << bit % 8
    assert _loaded(tmp_path / "a", raw)


def test_every_bit_of_a_small_file_is_covered(tmp_path: Path) -> None:
    raw = bytearray(b"".join(encode({"a": torch.ones(2)})))
    for bit in range(8 * len(raw)):
        raw[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedError):
            _loaded(tmp_path / "a", raw)
        raw[bit // 8] ^= 1 << bit % 8


def test_planted_bug_without_the_digest_flips_get_through(tmp_path: Path) -> None:
    raw = bytearray(b"".join(encode({"a": torch.ones(200)})))
    raw[-3] ^= 4
    (tmp_path / "a").write_bytes(raw)
    assert not torch.equal(read_tensors(tmp_path / "a")["a"], torch.ones(200))
    with pytest.raises(DamagedError, match="SHA-256"):
        load_tensors(tmp_path / "a")


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    raw = b"".join(encode(golden_tensors()["model"]))
    path = tmp_path / "a.safetensors"
    for length in random.Random(0).sample(range(len(raw)), 200):
        path.write_bytes(raw[:length])
        with pytest.raises(DamagedError, match=r"a\.safetensors"):
            load_tensors(path)
        with pytest.raises(DamagedError):
            load_tensors(path, require_digest=False)


def _one(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


BIG = 1 << 62
TWO = {"dtype": "U8", "shape": [4]}
ATTACKS: dict[str, bytes] = {
    "empty": b"",
    "seven bytes": b"\0" * 7,
    "header of 2^64 - 1": _raw({}, length=2**64 - 1),
    "header of 2^63": _raw({}, length=2**63),
    "header of 1 GB": _raw({}, length=10**9),
    "header longer than the file": _raw({}, length=3),
    "no JSON": _raw(b"{"),
    "no text": _raw(b"\xff\xfe{}"),
    "a list": _raw([]),
    "a number": _raw(b"1"),
    "deep": _raw(b"[" * 200_000),
    "deep object": _raw(b'{"a":' * 200_000),
    "long number": _raw(b'{"a":' + b"9" * 100_000 + b"}"),
    "not described": _raw({"a": 1}),
    "no offsets": _raw({"a": {"dtype": "F32", "shape": [2]}}, b"\0" * 8),
    "unknown type": _raw(_one("F31"), b"\0" * 8),
    "type is a list": _raw(_one(["F32"]), b"\0" * 8),
    "shape is text": _raw(_one(shape="2"), b"\0" * 8),
    "negative shape": _raw(_one(shape=[-2]), b"\0" * 8),
    "two negative sizes": _raw(_one(shape=[-2, -1]), b"\0" * 8),
    "fraction": _raw(_one(shape=[2.0]), b"\0" * 8),
    "true": _raw(_one(shape=[True, 2]), b"\0" * 8),
    "overflow": _raw(_one(shape=[BIG, 4]), b"\0" * 8),
    "overflow to the right size": _raw(_one(shape=[1 << 32, 1 << 32, 2]), b"\0" * 8),
    "2^64": _raw(_one(shape=[1 << 64, 0], offsets=[0, 0])),
    "negative offset": _raw(_one(offsets=[-8, 0]), b"\0" * 8),
    "turned offsets": _raw(_one(offsets=[8, 0]), b"\0" * 8),
    "out of range": _raw(_one(offsets=[8, 16]), b"\0" * 8),
    "far out of range": _raw(_one(offsets=[BIG, BIG + 8]), b"\0" * 8),
    "three offsets": _raw(_one(offsets=[0, 8, 8]), b"\0" * 8),
    "shape says more": _raw(_one(shape=[3]), b"\0" * 8),
    "shape says less": _raw(_one(shape=[1]), b"\0" * 8),
    "trailing bytes": _raw(_one(), b"\0" * 9),
    "missing bytes": _raw(_one(), b"\0" * 7),
    "hole": _raw(
        {"a": {**TWO, "data_offsets": [0, 4]}, "b": {**TWO, "data_offsets": [5, 9]}}, b"123456789"
    ),
    "overlap": _raw(
        {"a": {**TWO, "data_offsets": [0, 4]}, "b": {**TWO, "data_offsets": [3, 7]}}, b"1234567"
    ),
    "twice the same": _raw(
        {"a": {**TWO, "data_offsets": [0, 4]}, "b": {**TWO, "data_offsets": [0, 4]}}, b"1234"
    ),
    "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
}


@pytest.mark.parametrize("raw", ATTACKS.values(), ids=ATTACKS.keys())
def test_attacks_are_refused_at_once(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(raw)
    for require_digest in (True, False):
        began = time.monotonic()
        with pytest.raises(DamagedError) as error:
            load_tensors(path, require_digest=require_digest)
        assert time.monotonic() - began < 1
        assert "\n" not in str(error.value)
    with pytest.raises(DamagedError):
        read_tensors(path, copy=True)


HARMLESS: dict[str, bytes] = {
    "extra key": _raw({"a": {**_one()["a"], "x": 1}}, b"\0" * 8),
    "overflow hidden by zero": _raw(_one(shape=[0, BIG, BIG], offsets=[0, 0])),
    "many dimensions": _raw(_one(shape=[1] * 1000 + [2]), b"\0" * 8),
}
"""Odd headers that the package accepts and that cost nothing."""


@pytest.mark.parametrize("raw", HARMLESS.values(), ids=HARMLESS.keys())
def test_odd_headers_give_a_tensor_of_the_bytes_that_are_there(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(raw)
    stop = 8 + int.from_bytes(raw[:8], "little")
    assert _bytes(read_tensors(path, copy=True)["a"]) == raw[stop:]
    with pytest.raises(DamagedError, match="no digest"):
        load_tensors(path)


ENTRY = b'"%07d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
FEW = b",".join(ENTRY % number for number in range(1000))
LARGE: dict[str, Callable[[], bytes]] = {
    "200,000 tensors": lambda: b"{" + b",".join([FEW] * 200) + b"}",
    "1,600,000 tensors": lambda: b"{" + b",".join([FEW] * 1600) + b"}",
    "lists": lambda: b'{"a":[' + b"[]," * 5_000_000 + b"[]]}",
    "numbers": lambda: b'{"a":[' + b"300," * 3_900_000 + b"1]}",
    "one long name": lambda: b'{"' + b"a" * 15_000_000 + b'":1}',
    "white space": lambda: b" " * 15_000_000 + b"{",
    "100 MB of white space": lambda: b" " * 100_000_000 + b"{",
}


@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE.keys())
def test_large_headers_cost_twice_the_file_and_a_second_at_most(
    tmp_path: Path, make: Callable[[], bytes]
) -> None:
    path = tmp_path / "a.safetensors"
    text = make()
    path.write_bytes(_raw(text))
    size = path.stat().st_size
    del text

    def load() -> None:
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        most = now + 2 * size + 16 * MB
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        began = time.process_time()
        with pytest.raises(DamagedError):
            load_tensors(path, require_digest=False)
        assert time.process_time() - began < 1

    status, said = child(load)
    assert status == 0, said


def test_as_many_tensors_as_allowed_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "MAX_TENSORS", 100)
    path = tmp_path / "a.safetensors"
    save_tensors(path, {str(number): torch.ones(1) for number in range(100)}, {"step": "7"})
    assert len(load_tensors(path)) == 100
    save_tensors(path, {str(number): torch.ones(1) for number in range(110)})
    with pytest.raises(DamagedError, match="more than 100 tensors"):
        load_tensors(path)


def test_mutations_are_refused_or_read_as_their_header_says(tmp_path: Path) -> None:
    raw = b"".join(encode({"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(3)}))
    draw = random.Random(0)
    refused = 0
    for _ in range(3000):
        changed = bytearray(raw)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(changed))
            kind = draw.randrange(4)
            if kind == 0:
                changed[at] = draw.randrange(256)
            elif kind == 1:
                changed[at] = ord(draw.choice('0123456789-[]{}",:.eE '))
            elif kind == 2:
                del changed[at : at + draw.randint(1, 8)]
            else:
                changed[at:at] = changed[at : at + draw.randint(1, 8)]
        if changed == raw:
            continue
        with pytest.raises(DamagedError):
            _loaded(tmp_path / "a", changed)
        try:
            found = read_tensors(tmp_path / "a")
        except DamagedError:
            refused += 1
            continue
        stop = 8 + int.from_bytes(changed[:8], "little")
        described = json.loads(changed[8:stop])
        described.pop("__metadata__", None)
        assert found.keys() == described.keys()
        for name, entry in described.items():
            start, end = entry["data_offsets"]
            assert _bytes(found[name]) == changed[stop:][start:end]
            assert list(found[name].shape) == entry["shape"]
    assert refused > 1000


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    with pytest.raises(DamagedError, match="not a regular file"):
        load_tensors(tmp_path / "a")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_file_whose_name_is_not_utf8_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "\udcff\U0001f600.safetensors"
    save_tensors(path, {"a": torch.arange(3.0)})
    assert torch.equal(load_tensors(path)["a"], torch.arange(3.0))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedError):
        read_tensors(path)


def test_a_classifier_of_transformers_is_read_with_its_head() -> None:
    import transformers

    theirs = transformers.GPT2ForSequenceClassification(
        transformers.GPT2Config(
            vocab_size=29, n_positions=12, n_layer=1, n_head=2, n_embd=16, num_labels=3
        )
    ).state_dict()
    config = gpt2.Config(vocab_size=29, context_length=12, layers=1, heads=2, d_model=16)
    found = from_hf_weights(gpt2, config, theirs, "classify")
    assert torch.equal(found["head.weight"], theirs["score.weight"])
    back = to_hf_weights(gpt2, config, found, "classify")
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in theirs.items())
