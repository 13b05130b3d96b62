"""An imported run beside what transformers makes of the original folder.

transformers sees only the files that were read here, in a folder of links made for it, so nothing
else in a stranger's folder (code of its own, pickles, adapters) is ever opened.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from ..export.base import CheckFailed
from ..export.parity_check import ParityReport, compare_outputs, make_probe, run_probe
from ..files import printable
from ..runs.load import Loaded
from .folder import CONFIG, SINGLE, Foreign, read_json, shards

SHARE = 1e-3
"""Of the spread of the logits that transformers may differ by: both compute in float32."""
UNCHECKED = "nowhere: transformers is not installed (pip install 'scriven[hf]')"

_TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json")


def check(loaded: Loaded, foreign: Foreign) -> ParityReport | None:
    """Compares token ids, logits and greedy text; None where transformers is not installed.

    Raises:
        CheckFailed: they differ.
    """
    if find_spec("transformers") is None:
        return None
    probe = make_probe(loaded)
    with _links(foreign) as folder:
        answer = run_probe("hf", folder, probe)
    found = compare_outputs(loaded, probe, answer, "transformers", SHARE)
    if found.problem:
        raise CheckFailed(
            f"{printable(foreign.path)} was not imported, because transformers computes something "
            f"else: {found.problem}"
        )
    return found


@contextmanager
def _links(foreign: Foreign) -> Iterator[Path]:
    """A folder of links to the files that were read, to be computed with in float32."""
    theirs = {name: value for name, value in foreign.config.items() if name != "auto_map"}
    if "n_ctx" in theirs:  # what early releases wrote, and later ones do not read
        theirs.setdefault("n_positions", theirs["n_ctx"])
    theirs |= {"dtype": "float32", "torch_dtype": "float32", "architectures": [foreign.kind]}
    with tempfile.TemporaryDirectory(prefix="scriven-") as made:
        folder = Path(made)
        (folder / CONFIG).write_text(json.dumps(theirs), encoding="utf-8")
        for name in _TOKENIZER:
            if (foreign.path / name).is_file():
                about = read_json(foreign.path / name)
                about.pop("auto_map", None)
                (folder / name).write_text(json.dumps(about), encoding="utf-8")
        files, places = shards(foreign.path)
        index = [] if places is None else [foreign.path / f"{SINGLE}.index.json"]
        for path in (*files, *index, foreign.path / "tokenizer.json"):
            _link(path.resolve(), folder / path.name)
        yield folder


def _link(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError):  # a system where links need a right of their own
        os.symlink(source, target)
        return
    shutil.copyfile(source, target)
