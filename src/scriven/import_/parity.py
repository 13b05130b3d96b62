"""Whether an imported run computes what transformers computes from the original folder.

transformers gets a folder of links to the files that were read here, so nothing else in an
untrusted folder (code, pickles, adapters) is ever opened.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..export.base import CheckFailed
from ..export.parity_check import ParityReport, compare_outputs, make_probe, run_probe
from ..files import printable
from ..runs.load import Loaded
from .tensors import CONFIG, SINGLE, read_json, weight_files

BOUND = 1e-3
"""Largest difference of logits, as a fraction of their standard deviation; both are float32."""
UNCHECKED = "nowhere: transformers is not installed (pip install 'scriven[hf]')"

_TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json")


def check_parity(
    loaded: Loaded, path: Path, hf_config: Mapping[str, Any], class_name: str
) -> ParityReport | None:
    """Compares token ids, logits and greedy text; None where transformers is not installed.

    Args:
        loaded: the imported run.
        path: the original folder.
        hf_config: the content of its config.json.
        class_name: the class of transformers to compare with.

    Raises:
        CheckFailed: they differ.
    """
    if find_spec("transformers") is None:
        return None
    probe = make_probe(loaded)
    with _linked_folder(path, hf_config, class_name) as folder:
        answer = run_probe("hf", folder, probe)
    report = compare_outputs(loaded, probe, answer, "transformers", BOUND)
    if report.problem:
        raise CheckFailed(
            f"{printable(path)} was not imported, because transformers computes something "
            f"else: {report.problem}"
        )
    return report


@contextlib.contextmanager
def _linked_folder(path: Path, hf_config: Mapping[str, Any], class_name: str) -> Iterator[Path]:
    """A folder of links to the files that were read, with a config for float32."""
    config = {name: value for name, value in hf_config.items() if name != "auto_map"}
    if "n_ctx" in config:  # early releases wrote it, and later ones do not read it
        config.setdefault("n_positions", config["n_ctx"])
    config |= {"dtype": "float32", "torch_dtype": "float32", "architectures": [class_name]}
    with tempfile.TemporaryDirectory(prefix="scriven-") as temporary:
        folder = Path(temporary)
        (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
        for name in _TOKENIZER_FILES:
            if (path / name).is_file():
                content = read_json(path / name)
                content.pop("auto_map", None)
                (folder / name).write_text(json.dumps(content), encoding="utf-8")
        files, weight_map = weight_files(path)
        index = [] if weight_map is None else [path / f"{SINGLE}.index.json"]
        for file in (*files, *index, path / "tokenizer.json"):
            _link(file.resolve(), folder / file.name)
        yield folder


def _link(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError):  # some systems need a special right for links
        os.symlink(source, target)
        return
    shutil.copyfile(source, target)
