"""A folder with pickled weights as one with safetensors, converted by a confined process."""

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from ..files import printable, temporary_folder
from ..runs.weights import load_tensors
from .hub import PREFIX
from .sandbox import convert_pickle
from .tensors import SINGLE, SMALL_FILES, pickled_files


@contextlib.contextmanager
def converted_folder(path: Path) -> Iterator[Path]:
    """A temporary copy of a folder with safetensors in place of pickles.

    Args:
        path: a Hugging Face folder, or a file of weights in one.

    Raises:
        InputError: there is no pickle, it holds more than tensors, or this system has no sandbox.
    """
    if path.suffix == ".gguf" or str(path).startswith(PREFIX):
        raise InputError(f"{printable(path)} holds no pickled weights: leave --convert away")
    if sys.platform == "win32":
        raise InputError("--convert needs Linux or macOS: a process cannot be confined here")
    folder = path if path.is_dir() else path.parent
    pickles = pickled_files(folder) if path.is_dir() else [path]
    if not pickles:
        raise InputError(f"{printable(path)} holds no pickled weights: leave --convert away")
    with temporary_folder() as temporary:
        target = Path(temporary) / "converted"
        target.mkdir()
        # copies, so that nothing else of the folder is reachable under the new path
        for name in SMALL_FILES:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, target / name)
        weight_map: dict[str, str] = {}
        for number, pickle in enumerate(pickles, 1):
            name = SINGLE
            if len(pickles) > 1:
                name = f"model-{number:05}-of-{len(pickles):05}.safetensors"
            convert_pickle(pickle, target / name)
            if len(pickles) > 1:
                weight_map |= dict.fromkeys(load_tensors(target / name), name)
        if weight_map:
            index = json.dumps({"metadata": {}, "weight_map": weight_map})
            (target / f"{SINGLE}.index.json").write_text(index, encoding="utf-8")
        yield target
