"""`scriven import`: a model of another program becomes a run folder, whole or not at all.

The run is built under a temporary name, loaded again, compared with what transformers computes
from the original folder, and only then gets its name. transformers gets a folder of links to the
files that were read here, so nothing else in an untrusted folder (code, pickles, adapters) is ever
opened.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError, for_python
from .export.base import CheckFailed
from .export.parity_check import ParityReport, compare_outputs, make_probe, run_probe
from .files import new_folder, printable, temporary_folder
from .import_.base import foreign_name, open_foreign
from .import_.convert import converted_folder
from .import_.tensors import CONFIG, SINGLE, link_file, read_json, weight_files
from .report.page import write_report
from .runs import folder, metadata
from .runs.huggingface import hf_files, save_pretrained
from .runs.load import Loaded, load_run
from .runs.weights import to_hf_weights

if TYPE_CHECKING:
    from .model import Model

BOUND = 1e-3
"""Largest difference of logits, as a fraction of their standard deviation; both are float32."""
NOT_INSTALLED = "nothing: transformers is not installed (pip install 'scriven[hf]')"
NO_FOLDER = "nothing: only folders are compared, and this is a GGUF file"

_TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class Imported:
    """The run folder that an import has made."""

    folder: Path
    architecture: str
    class_name: str
    """The class of transformers it was."""
    parameters: int
    parity: ParityReport | None
    """None where there is nothing to compare with."""
    unchecked: str = ""
    """Why there is nothing."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "run": str(self.folder),
            "architecture": self.architecture,
            "kind": self.class_name,
            "parameters": self.parameters,
            "compared": None if self.parity is None else self.parity.to_dict(),
        }


def import_model(
    name: str,
    out: Path | None = None,
    *,
    convert: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Imported:
    """Writes a model of another program as a run folder.

    Args:
        name: as for `import_.base.open_base`; with `convert` also a file of pickled weights.
        out: the run folder, which must not exist or be empty; runs/NAME by default.
        convert: take the weights out of a pickle, in a sandboxed process.
        say: called with progress, one sentence at a time.

    Raises:
        InputError: it cannot be used; nothing was written. DamagedError: its weights are broken.
        CheckFailed: the run does not compute what transformers does; nothing was written.
        ResourceError: memory or disk are too small.
    """
    given = foreign_name(name)
    out = _check_free(folder.RUNS / given if out is None else out)
    with converted_folder(Path(name)) if convert else nullcontext(name) as place:
        # 1. the model, in memory
        base = open_foreign(str(place))
        loaded = base.load()
        about = {**loaded.metadata, "name": given}
        about["imported"] = {**about["imported"], "folder": given}
        about["tokenizer"] = {**about["tokenizer"], "fingerprint": loaded.tokenizer.fingerprint}
        kind, parameters = about["imported"]["kind"], about["results"]["parameters"]
        say(f"{printable(name)}: {kind}, {parameters:,} parameters, as {loaded.architecture}")
        # newer than its neighbours, so that `latest` is the run just imported
        others = folder.list_runs(out.parent).values()
        about["created"] = max(
            int(time.time()), 1 + max((metadata.age(each)[1] for each in others), default=0)
        )
        # 2. write, load again, compare; through our own names, so that the files are those that
        # `train` writes
        module, model = base.module, base.model_config
        with new_folder(out) as temporary:
            small = hf_files(module, model, given, loaded.tokenizer, about)
            weights = to_hf_weights(module, model, loaded.task.state_dict(), about["task"])
            save_pretrained(temporary, small, weights, {"step": "0"})
            metadata.write_metadata(temporary, about)
            write_report(temporary)
            del loaded, weights
            parity, unchecked = None, NO_FOLDER
            if base.path.is_dir():
                unchecked = NOT_INSTALLED
                written = load_run(temporary)
                parity = check_parity(written, base.path, base.hf_config, base.class_name)
    return Imported(out, base.architecture, kind, parameters, parity, unchecked)


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
    with temporary_folder() as temporary:
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
            link_file(file.resolve(), folder / file.name)
        yield folder


def _check_free(out: Path) -> Path:
    """Refuses a folder that is not empty, before anything is written."""
    try:
        taken = out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir())))
    except (OSError, ValueError) as error:
        raise InputError(f"{printable(out)} cannot be used: choose another --out") from error
    if taken:
        raise InputError(f"{printable(out)} is there already: choose a new folder with --out")
    return out


@for_python
def import_run(
    path: str | Path, out: str | Path | None = None, *, convert: bool = False
) -> "Model":
    """Imports a Hugging Face model, a folder, as a run folder (runs/NAME by default), and loads it;
    `convert` reads pickled weights (`.bin`, `.pt`) in a sandboxed process.

    Raises:
        InputError: it cannot be imported; nothing is written. DamagedError: its weights are broken.
    """
    from .model import load

    imported = import_model(str(path), None if out is None else Path(out), convert=convert)
    return load(imported.folder)
