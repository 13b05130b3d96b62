"""A Hugging Face folder made into a run folder, whole or not at all.

The run is built under a temporary name, loaded again, compared with what transformers makes of the
original, and only then gets its own name. Knows no architecture: those say themselves which
config.json they can adopt.
"""

import json
import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__, config
from ..errors import DamagedError, InputError
from ..export.parity_check import ParityReport
from ..files import new_folder, printable, read_file
from ..runs import folder, metadata
from ..runs.huggingface import from_hf_weights, hf_files, save_pretrained, to_hf_weights
from ..runs.load import load_run
from ..runtime import choose_runtime
from ..settings import RuntimeSettings, Settings
from .check import check
from .folder import PICKLED, Foreign, open_foreign, refuse_pickle, shards
from .pickled import converted
from .tensors import needed, read_tensors

_LICENCE = re.compile(r"^license:[ \t]*([\w.+-]{1,40})[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class Imported:
    """A run folder made of another program's folder."""

    folder: Path
    architecture: str
    kind: str
    """The class of transformers it was."""
    parameters: int
    comparison: ParityReport | None
    """None where transformers is not installed."""


def import_folder(
    path: Path,
    out: Path | None = None,
    *,
    convert: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Imported:
    """Makes a run folder of a Hugging Face folder.

    Args:
        path: the folder; with `convert` also a file of pickled weights in it.
        out: the run folder, which must not exist or be empty; runs/NAME by default.
        convert: take the weights out of a pickle, in a confined process.
        say: told how far it is, one sentence at a time.

    Raises:
        InputError: it cannot be used; nothing was made. DamagedError: its weights are broken.
        CheckFailed: the run does not compute what transformers does; nothing was made.
        ResourceError: memory or disk are too small.
    """
    name = _name(path)
    out = _free(folder.RUNS / name if out is None else out)
    if not convert:
        _check_given(path)
    with converted(path) if convert else nullcontext(path) as place:
        foreign = open_foreign(place)
        files, index = shards(place)
        expected = needed(foreign.module, foreign.model, foreign.tokenizer.special_token_ids)
        found = read_tensors(files, index, expected)
        # through our own names, so that what is written is what `train` would have written
        own = from_hf_weights(foreign.module, foreign.model, found)
        weights = to_hf_weights(foreign.module, foreign.model, own)
        parameters = sum(tensor.numel() for tensor in expected.values())
        say(f"{printable(path)}: {foreign.kind}, {parameters:,} parameters, as {foreign.name}")
        about = _record(foreign, name, path, out, parameters)
        with new_folder(out) as made:
            described = hf_files(foreign.module, foreign.model, name, foreign.tokenizer, about)
            save_pretrained(made, described, weights, {"step": "0"})
            del weights, found, own
            metadata.write_metadata(made, about)
            comparison = check(load_run(made), foreign)
    return Imported(out, foreign.name, foreign.kind, parameters, comparison)


def _check_given(path: Path) -> None:
    """Refuses a file, with the way to go on."""
    if path.suffix in {Path(name).suffix for name in PICKLED} | {".ckpt", ".pkl"}:
        raise InputError(refuse_pickle(path))
    if path.is_file():
        raise InputError(f"{printable(path)} is a file: name its folder, {printable(path.parent)}")


def _name(path: Path) -> str:
    """The run's name, from the folder's."""
    given = path.resolve()
    own = given.parent.name if given.is_file() else given.name
    return re.sub(r"[^\w.-]+", "-", own).strip(".-")[:60] or "imported"


def _free(out: Path) -> Path:
    """Refuses a folder that holds something; nothing is made yet."""
    try:
        taken = out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir())))
    except (OSError, ValueError) as error:
        raise InputError(f"{printable(out)} cannot be used: choose another --out") from error
    if taken:
        raise InputError(f"{printable(out)} is there already: choose a new folder with --out")
    return out


def _record(foreign: Foreign, name: str, path: Path, out: Path, parameters: int) -> dict[str, Any]:
    """The content of scriven.json: what is known of a model that was trained elsewhere."""
    tokenizer = foreign.tokenizer
    runtime = choose_runtime(RuntimeSettings(dtype="float32"))
    others = folder.list_runs(out.parent).values()
    return {
        "scriven": __version__,
        "created": max(int(time.time()), 1 + max(map(metadata.created, others), default=0)),
        "name": name,
        "architecture": foreign.name,
        "task": foreign.task,
        "model": config.to_dict(foreign.model),
        "settings": {
            **config.to_dict(Settings(runtime=RuntimeSettings(dtype="float32"))),
            "budget": {"unit": "steps", "amount": 0},
            "steps": 0,
            "seed": 0,
        },
        "reasons": {},
        "command": "",
        "environment": runtime.describe(),
        "data": {"fingerprint": None, "sources": [], "opening": _opening(foreign)},
        "tokenizer": {
            "kind": tokenizer.kind,
            "vocab_size": tokenizer.vocab_size,
            "fingerprint": tokenizer.fingerprint,
        },
        "own": [],
        "imported": {
            "folder": path.resolve().name,
            "kind": foreign.kind,
            "license": _licence(foreign.path),
        },
        "results": {"finished": True, "stopped": "imported", "parameters": parameters},
    }


def _opening(foreign: Foreign) -> int:
    """The token that an empty prompt stands for: the one the model says a text begins with."""
    begins = foreign.config.get("bos_token_id")
    if isinstance(begins, int) and 0 <= begins < foreign.tokenizer.vocab_size:
        return begins
    return foreign.tokenizer.eos


def _licence(path: Path) -> str | None:
    """The licence that the original's card names, which goes with every copy."""
    try:
        text = read_file(path / "README.md", metadata.LONGEST).decode("utf-8", "replace")
    except (InputError, DamagedError):
        return None
    front = text.split("---", 2)[1] if text.startswith("---") and text.count("---") > 1 else ""
    found = _LICENCE.search(front)
    return found[1] if found else None


def as_json(imported: Imported) -> dict[str, Any]:
    """The result for a program."""
    compared = imported.comparison
    return {
        "run": str(imported.folder),
        "architecture": imported.architecture,
        "kind": imported.kind,
        "parameters": imported.parameters,
        "compared": None if compared is None else json.loads(json.dumps(compared.to_dict())),
    }
