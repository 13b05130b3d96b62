"""Attacks by pickled weights: refused in one line, in time, in bounded memory, with nothing run."""

import contextlib
import io
import pickle
import re
import resource
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scriven.errors import InputError
from scriven.import_.sandbox import convert_pickle

if sys.platform == "win32":
    pytest.skip("a process cannot be confined here", allow_module_level=True)


def archive(rename: Callable[[str], str] = str, compress: bool = False, **more: bytes) -> bytes:
    """What torch.save writes, with other names, compressed, or with other entries."""
    plain, made = io.BytesIO(), io.BytesIO()
    torch.save({"weight": torch.ones(4)}, plain)
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(made, "w", kind) as target:
        for name in source.namelist():
            end = name.rpartition("/")[2]
            target.writestr(rename(name), more.pop(end, None) or source.read(name))
        for name, content in more.items():
            target.writestr(f"archive/{name}", content)
    return made.getvalue()


def tensor_of(size: int) -> bytes:
    """data.pkl whose one tensor claims to have another size than its storage."""
    plain = io.BytesIO()
    torch.save({"weight": torch.ones(4)}, plain)
    with zipfile.ZipFile(plain) as source:
        (name,) = [each for each in source.namelist() if each.endswith("data.pkl")]
        content = source.read(name)
    # K\x04\x85: the tuple (4,), the shape
    assert content.count(b"K\x04\x85") >= 1
    return content.replace(b"K\x04\x85", b"J" + struct.pack("<i", size) + b"\x85")


MANY = b"\x80\x02" + b"}q\x00" * 50_000 + b"."
DEEP = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
MEMO = b"\x80\x02" + b"".join(b"r" + struct.pack("<I", 2**31 + n) for n in range(5)) + b"."
LAUGHS = b"\x80\x02]q\x00(" + b"".join(
    b"]q" + bytes([n]) + b"(" + b"h" + bytes([n - 1]) + b"h" + bytes([n - 1]) + b"e"
    for n in range(1, 40)
) + b"e."  # fmt: skip

ATTACKS: dict[str, Callable[[], bytes]] = {
    "zip bomb": lambda: archive(compress=True, **{"0": bytes(300_000_000)}),
    "zip bomb that nothing refers to": lambda: archive(compress=True, bomb=bytes(300_000_000)),
    "zip bomb as the pickle": lambda: archive(compress=True, **{"data.pkl": bytes(300_000_000)}),
    "larger than its storage": lambda: archive(**{"data.pkl": tensor_of(2**30)}),
    "negative size": lambda: archive(**{"data.pkl": tensor_of(-4)}),
    "path upwards": lambda: archive(lambda name: "../../../escaped/" + name),
    "absolute path": lambda: archive(lambda name: "/tmp/escaped/" + name),
    "nested a hundred thousand times": lambda: archive(**{"data.pkl": DEEP}),
    "fifty thousand objects": lambda: archive(**{"data.pkl": MANY}),
    "huge memo": lambda: archive(**{"data.pkl": MEMO}),
    "billion laughs": lambda: archive(**{"data.pkl": LAUGHS}),
    "old format": lambda: pickle.dumps(0x1950A86A20F9469CFC6C, 2) + DEEP,
    "cut": lambda: archive()[:-40],
    "nothing": lambda: b"",
    "tar": lambda: b"pickle".ljust(257, b"\0") + b"ustar\x0000" + bytes(1000),
}
HARMLESS = ["zip bomb that nothing refers to", "path upwards", "absolute path"]
"""PyTorch may read the tensors in them, and must not do anything else."""
QUICK = ["zip bomb", "larger than its storage", "nested a hundred thousand times"]
"""One child process each, of some seconds: the others are for `make test-all`."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in ATTACKS]
)
def test_it_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "in" / "model.bin"
    path.parent.mkdir()
    path.write_bytes(ATTACKS[name]())
    (tmp_path / "out").mkdir()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = pytest.raises(InputError, match=f"^[^\n]*{re.escape(str(path))}[^\n]*$")
    with contextlib.suppress(InputError) if name in HARMLESS else refused:
        convert_pickle(path, tmp_path / "out" / "model.safetensors")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (
        grown < 50_000 or sys.platform != "linux"
    )  # kB: the bomb went off in the child, if at all
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in", "out"]
    assert not Path("/tmp/escaped").exists()
