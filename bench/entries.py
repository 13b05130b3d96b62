"""The programs that take part, their interpreters, and the settings that are tried for each; the
fastest is measured. A peer that is not installed is left out, with a message."""

import itertools
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gates

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = Path(__file__).with_name("peers")
PEERS = ROOT / ".venv-bench" / "bin" / "python"
OURS = "scriven"


@dataclass(frozen=True)
class Entry:
    """One program that takes part."""

    name: str
    command: list[str]
    choices: list[dict[str, Any]]
    """Settings to try, as arguments of `prepare`."""
    bound: float = gates.SAME_GELU
    """Largest difference of a window's loss from ours, in nats."""
    least: float = gates.EXACT
    """Fraction of the generated characters that must equal ours, in float32."""
    environment: Mapping[str, str] = field(default_factory=dict)
    compiles: bool = False
    """Whether torch.compile is tried too, with the settings that are fastest without it."""
    folder: Path | None = None
    """The exported model; None: the run folder itself."""


@dataclass(frozen=True)
class Setup:
    """The interpreters, nanoGPT's folder, and whether torch.compile is tried."""

    peers: Path
    nanogpt: Path | None
    compile: bool
    """Whether torch.compile is tried, where the program offers it."""

    def our_command(self) -> list[str]:
        return [sys.executable, str(PROGRAMS / "scriven_.py")]

    def peer_command(self, file: str) -> list[str]:
        return [str(self.peers), str(PROGRAMS / file)]

    def has(self, package: str) -> bool:
        """Whether the peers' environment has a package; prints a message if not."""
        if self.peers.exists():
            test = (
                f"from importlib import util; raise SystemExit(util.find_spec({package!r}) is None)"
            )
            if subprocess.run([str(self.peers), "-c", test], check=False).returncode == 0:
                return True
        print(f"left out: {package} is not in {self.peers}; run `make bench-env`", flush=True)
        return False

    def has_nanogpt(self) -> bool:
        if self.nanogpt is None:
            print("left out: nanoGPT; name your copy with --nanogpt FOLDER", flush=True)
        return self.nanogpt is not None


def every(**choices: list[Any]) -> list[dict[str, Any]]:
    """All combinations."""
    names = list(choices)
    return [dict(zip(names, each, strict=True)) for each in itertools.product(*choices.values())]


def training(setup: Setup, arch: str, dropout: float, micro: list[int]) -> Iterator[Entry]:
    """Ours first. nanoGPT and transformers train GPT-2; LitGPT trains Llama, without dropout."""
    both = every(micro=micro, dtype=["float32", "bfloat16"])
    yield Entry(
        OURS, setup.our_command(), every(micro=micro, native=[False, True]), compiles=setup.compile
    )
    plain = every(micro=micro, dtype=["float32"])
    ours = every(micro=micro, dtype=["float32"], native=[False, True])
    yield Entry(f"{OURS}, float32", setup.our_command(), ours, compiles=setup.compile)
    if arch == "gpt2":
        if setup.has_nanogpt():
            command = [*setup.peer_command("nanogpt.py"), str(setup.nanogpt)]
            yield Entry("nanoGPT", command, plain, gates.OTHER_GELU, compiles=setup.compile)
        if setup.has("transformers"):
            command = setup.peer_command("transformers_.py")
            yield Entry("transformers", command, both, compiles=setup.compile)
    elif not dropout and setup.has("litgpt"):
        yield Entry("LitGPT", setup.peer_command("litgpt_.py"), both, compiles=setup.compile)


BITS = {"float32": ("f32", "f32"), "bfloat16": ("bf16", None), "int8": ("q8_0", "int8")}
"""Names of a dtype in llama.cpp and CTranslate2; the latter has no bf16 on CPUs."""


def single_stream(
    setup: Setup, arch: str, dtype: str, exports: Mapping[str, Path]
) -> Iterator[Entry]:
    """The programs that generate one sequence at a time.

    Args:
        exports: the folders of `scriven export`, by target.
    """
    alone = [{"dtype": dtype}]
    yield Entry(OURS, setup.our_command(), alone)
    if dtype != "int8":
        if setup.has("transformers"):
            command = setup.peer_command("transformers_.py")
            yield Entry("transformers", command, alone, compiles=setup.compile)
        if arch == "llama" and setup.has("litgpt"):
            yield Entry("LitGPT", setup.peer_command("litgpt_.py"), alone, compiles=setup.compile)
    if arch == "gpt2" and dtype == "float32" and setup.has_nanogpt():
        command = [*setup.peer_command("nanogpt.py"), str(setup.nanogpt)]
        yield Entry("nanoGPT", command, alone)
    if "gguf" in exports and setup.has("xllamacpp"):
        folder = exports["gguf"]
        least = gates.TABLES if arch == "gpt2" else gates.EXACT
        command = setup.peer_command("llamacpp.py")
        yield Entry("llama.cpp", command, alone, least=least, folder=folder)
    if "ctranslate2" in exports and setup.has("ctranslate2"):
        folder, command = exports["ctranslate2"], setup.peer_command("ctranslate2_.py")
        yield Entry("CTranslate2", command, [{"dtype": dtype}], folder=folder)


def batched(setup: Setup, dtype: str, exports: Mapping[str, Path]) -> Iterator[Entry]:
    """The programs that generate for a batch of prompts."""
    yield Entry(OURS, setup.our_command(), [{"dtype": dtype}])
    if setup.has("transformers"):
        yield Entry("transformers", setup.peer_command("transformers_.py"), [{"dtype": dtype}])
    if "ctranslate2" in exports and setup.has("ctranslate2"):
        folder, command = exports["ctranslate2"], setup.peer_command("ctranslate2_.py")
        yield Entry("CTranslate2", command, [{"dtype": dtype}], folder=folder)
