"""The compiled libraries: for any CPU, nobody else's, and not needed where there is no compiler."""

import os
import platform
import subprocess
from pathlib import Path

import pytest

from scriven.models import llama
from scriven.native import library
from scriven.native.decoder import LazyDecoder
from scriven.native.weights import ACTIVATION_NAMES
from scriven.tasks.language import Language


def test_a_library_that_others_can_write_is_refused(compiled: Path, tmp_path: Path) -> None:
    path = library.library_path()
    assert path is not None
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    os.chmod(tmp_path, 0o700)
    os.chmod(copy, 0o722)
    assert library._open("decoder", copy) is None
    os.chmod(copy, 0o700)
    assert library._open.__wrapped__("decoder", copy) is not None
    os.chmod(tmp_path, 0o777)
    assert library._open.__wrapped__("decoder", copy) is None


@pytest.mark.parametrize("cpu", ["x86-64", "x86-64-v3", "x86-64-v4", "sapphirerapids"])
@pytest.mark.parametrize("name", library.SOURCES)
def test_the_source_is_correct_for_other_cpus_than_this_one(name: str, cpu: str) -> None:
    command = library.compile_command()
    if command is None or platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("no compiler for these CPUs")
    folder = Path(library.__file__).parent
    sources = [str(folder / source) for source in library.SOURCES[name]]
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"]  # some CPUs need no room
    check = ["-std=c++20", "-fsyntax-only", *warnings, f"-march={cpu}"]
    done = subprocess.run([command[0], *check, *sources], capture_output=True, text=True)
    if "bad value" in done.stderr or "unknown target CPU" in done.stderr:
        pytest.skip("the compiler is older than this CPU")
    assert done.returncode == 0, done.stderr


def test_a_compiler_that_fails_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRIVEN_CACHE", str(tmp_path))
    monkeypatch.setattr(library, "_loaded", {"decoder": library._Loaded()})
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho no such flag >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(library, "compile_command", lambda: (str(compiler), "decoder.cpp"))
    monkeypatch.setattr(library, "library_path", lambda name: tmp_path / "native" / "decoder-0.so")
    assert library.load_library(wait=True) is None
    assert library.state() == "the compiler failed: no such flag"
    compiler.unlink()
    assert library.load_library(wait=True) is None
    task = Language(llama.Model(llama.Config(vocab_size=53, layers=1, d_model=32, heads=2)))
    assert LazyDecoder(task, "float32").get() is None


def test_without_a_compiler_or_where_asked_pytorch_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIVEN_NATIVE", "off")
    assert library.load_library() is None
    monkeypatch.setenv("SCRIVEN_NATIVE", "on")
    monkeypatch.setattr(library, "_loaded", {"decoder": library._Loaded()})
    monkeypatch.setattr(library, "compile_command", lambda: None)
    assert library.load_library() is None
    assert library.state() == "none: no C++ compiler"


def test_activations_have_the_numbers_of_the_source() -> None:
    source = Path(library.__file__).with_name("simd.h").read_text()
    names = source.partition("enum class Activation : int { ")[2].partition(" }")[0]
    assert [name.lower() for name in names.split(", ")] == list(ACTIVATION_NAMES)
