"""Who takes part: programs, their interpreters, and the settings of each that are tried, of which
the fastest is raced. A rival that is not installed, or not named, is left out with a sentence."""

import itertools
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gates

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = Path(__file__).with_name("rivals")
RIVALS = ROOT / ".venv-bench" / "bin" / "python"
OURS = "scriven"


@dataclass(frozen=True)
class Entry:
    """One contestant."""

    name: str
    command: list[str]
    choices: list[dict[str, Any]]
    """Settings to try; some are said to the program as `prepare` takes them."""
    bound: float = gates.SAME_GELU
    """How far the loss of a window may be from ours."""
    least: float = gates.EXACT
    """Share of the characters it writes that must be ours, in float32."""
    environment: Mapping[str, str] = field(default_factory=dict)
    compiles: bool = False
    """Whether torch.compile is tried too, with the settings that are fastest without."""
    folder: Path | None = None
    """Its own form of the weights; None: the run folder itself."""


@dataclass(frozen=True)
class House:
    """Where the interpreters and nanoGPT are, and how much is tried."""

    rivals: Path
    nanogpt: Path | None
    compile: bool
    """Whether torch.compile is among what is tried, where the program offers it."""

    def own(self) -> list[str]:
        return [sys.executable, str(PROGRAMS / "scriven_.py")]

    def theirs(self, file: str) -> list[str]:
        return [str(self.rivals), str(PROGRAMS / file)]

    def has(self, package: str) -> bool:
        """Whether the rivals' environment has a package; says so where not."""
        if self.rivals.exists():
            test = (
                f"from importlib import util; raise SystemExit(util.find_spec({package!r}) is None)"
            )
            if subprocess.run([str(self.rivals), "-c", test], check=False).returncode == 0:
                return True
        print(f"left out: {package} is not in {self.rivals}; run `make bench-env`", flush=True)
        return False

    def has_nanogpt(self) -> bool:
        if self.nanogpt is None:
            print("left out: nanoGPT; name your copy with --nanogpt FOLDER", flush=True)
        return self.nanogpt is not None


def every(**choices: list[Any]) -> list[dict[str, Any]]:
    """All combinations."""
    names = list(choices)
    return [dict(zip(names, each, strict=True)) for each in itertools.product(*choices.values())]


def training(house: House, arch: str, dropout: float, micro: list[int]) -> Iterator[Entry]:
    """Ours first. nanoGPT and transformers have GPT-2's shape; LitGPT has Llama's, no dropout."""
    both = every(micro=micro, dtype=["float32", "bfloat16"])
    yield Entry(OURS, house.own(), every(micro=micro), compiles=house.compile)
    plain = every(micro=micro, dtype=["float32"])
    yield Entry(f"{OURS}, float32", house.own(), plain, compiles=house.compile)
    if arch == "gpt2":
        if house.has_nanogpt():
            command = [*house.theirs("nanogpt.py"), str(house.nanogpt)]
            yield Entry("nanoGPT", command, plain, gates.OTHER_GELU, compiles=house.compile)
        if house.has("transformers"):
            command = house.theirs("transformers_.py")
            yield Entry("transformers", command, both, compiles=house.compile)
    elif not dropout and house.has("litgpt"):
        yield Entry("LitGPT", house.theirs("litgpt_.py"), both, compiles=house.compile)


BITS = {"float32": ("f32", "f32"), "bfloat16": ("bf16", None), "int8": ("q8_0", "int8")}
"""What llama.cpp and CTranslate2 call it; the latter has no bf16 on processors."""


def writing(house: House, arch: str, dtype: str, exports: Mapping[str, Path]) -> Iterator[Entry]:
    """One stream.

    Args:
        exports: the folders of `scriven export`, by target.
    """
    alone = [{"dtype": dtype}]
    yield Entry(OURS, house.own(), alone)
    if dtype != "int8":
        if house.has("transformers"):
            command = house.theirs("transformers_.py")
            yield Entry("transformers", command, alone, compiles=house.compile)
        if arch == "llama" and house.has("litgpt"):
            yield Entry("LitGPT", house.theirs("litgpt_.py"), alone, compiles=house.compile)
    if arch == "gpt2" and dtype == "float32" and house.has_nanogpt():
        command = [*house.theirs("nanogpt.py"), str(house.nanogpt)]
        yield Entry("nanoGPT", command, alone)
    if "gguf" in exports and house.has("xllamacpp"):
        folder = exports["gguf"]
        least = gates.TABLES if arch == "gpt2" else gates.EXACT
        command = house.theirs("llamacpp.py")
        yield Entry("llama.cpp", command, alone, least=least, folder=folder)
    if "ctranslate2" in exports and house.has("ctranslate2"):
        folder, command = exports["ctranslate2"], house.theirs("ctranslate2_.py")
        yield Entry("CTranslate2", command, [{"dtype": dtype}], folder=folder)


def batched(house: House, dtype: str, exports: Mapping[str, Path]) -> Iterator[Entry]:
    """Many prompts at once."""
    yield Entry(OURS, house.own(), [{"dtype": dtype}])
    if house.has("transformers"):
        yield Entry("transformers", house.theirs("transformers_.py"), [{"dtype": dtype}])
    if "ctranslate2" in exports and house.has("ctranslate2"):
        folder, command = exports["ctranslate2"], house.theirs("ctranslate2_.py")
        yield Entry("CTranslate2", command, [{"dtype": dtype}], folder=folder)
