"""Weights kept as a pickle, made into a folder of safetensors by a confined process.

This process never reads the pickle: it starts `confined.py`, hands it the open file, and believes
nothing of what comes back before it is checked like any other file.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError, ResourceError
from ..files import file_size, printable, read_error
from ..format import format_bytes
from ..runs.weights import load_tensors
from .folder import CONFIG, SINGLE, pickled

BESIDE = (CONFIG, "tokenizer.json", "tokenizer_config.json", "generation_config.json", "README.md")
SECONDS = 1800
"""Longest that a file may take, waiting for the disk included."""


@contextmanager
def converted(path: Path) -> Iterator[Path]:
    """A folder with the same model as safetensors, for as long as the block runs.

    Args:
        path: a Hugging Face folder, or a file of weights in one.

    Raises:
        InputError: there is no pickle, it holds more than tensors, or this system cannot confine.
    """
    if sys.platform == "win32":
        raise InputError("--convert needs Linux or macOS: a process cannot be confined here")
    folder = path if path.is_dir() else path.parent
    files = pickled(folder) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{printable(path)} holds no pickled weights: leave --convert away")
    with tempfile.TemporaryDirectory(prefix="scriven-") as made:
        target = Path(made) / "converted"
        target.mkdir()
        for name in BESIDE:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, target / name)
        places: dict[str, str] = {}
        for number, file in enumerate(files, 1):
            name = SINGLE
            if len(files) > 1:
                name = f"model-{number:05}-of-{len(files):05}.safetensors"
            convert(file, target / name)
            places |= dict.fromkeys(load_tensors(target / name), name) if len(files) > 1 else {}
        if places:
            index = {"metadata": {}, "weight_map": places}
            (target / f"{SINGLE}.index.json").write_text(json.dumps(index), encoding="utf-8")
        yield target


def convert(source: Path, target: Path) -> None:
    """One pickle as one safetensors file; nothing in it is run.

    Raises:
        InputError: it holds something else than tensors. ResourceError: the disk is full.
    """
    command = [sys.executable, "-I", "-m", f"{__package__}.confined"]
    where = printable(source)
    try:
        size = file_size(source)
        if shutil.disk_usage(target.parent).free < 2 * size:
            raise ResourceError(
                f"{where} needs {format_bytes(2 * size)} of room in {target.parent}: free some, "
                "or set TMPDIR to a folder with more"
            )
        with source.open("rb") as given, target.open("wb") as wanted:
            done = subprocess.run(  # noqa: S603 (our own file, no shell)
                command, stdin=given, stdout=wanted, stderr=subprocess.PIPE, timeout=SECONDS,
                cwd=target.parent, env={"OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"},
            )  # fmt: skip
    except OSError as error:
        raise read_error(source, error) from error
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{where} took longer than {SECONDS} seconds: not converted") from error
    if done.returncode == 0:
        return
    reason = _reason(done.stderr)
    if reason.startswith("code: "):
        raise InputError(
            f"{where} holds code ({reason[6:]}), not only tensors: it was refused and nothing "
            "of it was run"
        )
    raise InputError(f"{where} cannot be converted: {reason}")


def _reason(said: bytes) -> str:
    """The last line of the child, which is JSON unless it was ended by a limit."""
    try:
        return str(json.loads(said.decode("utf-8", "replace").splitlines()[-1])["reason"])[:300]
    except (ValueError, IndexError, KeyError, TypeError):
        return "its process was stopped by a limit of time, memory or size"
