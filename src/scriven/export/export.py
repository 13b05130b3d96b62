"""`scriven export`: a run written for another program, checked there, and only then named.

One file of `targets/` holds one target; `parity_check` probes run and program alike.
"""

import contextlib
import dataclasses
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import Any

from .. import __version__, registry
from ..errors import InputError, SettingError, for_python
from ..files import (
    disk_errors,
    make_folder,
    new_folder,
    printable,
    remove_leftovers,
    rename_durably,
    temporary_beside,
)
from ..format import table
from ..import_.base import base_name, open_base
from ..runs.huggingface import hf_files
from ..runs.load import Loaded
from ..runs.metadata import NAME
from ..runs.model_card import model_card, read_loss_curve
from .base import CheckFailed, ExportTarget, hf_config, probe_task
from .parity_check import ParityReport, compare_outputs, make_probe, run_probe

FOLDER = "exports"  # where exports go in a run folder, each as TARGET-DTYPE
MODEL_FILES = (".gguf", ".onnx", ".bin", ".safetensors")
"""Endings of files, which nobody gives a folder on purpose."""
EXPORT_FILE = "export.json"
"""What was exported; a folder with this file may be replaced by another export."""


@for_python
def export(
    run: str | Path,
    to: str,
    *,
    out: str | Path | None = None,
    dtype: str | None = None,
    arch: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Writes a run for another program, and compares what that program computes with the run.

    Args:
        run: a path, a name under runs/, or `latest`.
        to: the target: a file of `export/targets/`, or the path of your own.
        out: the folder to make; RUN/exports/TARGET-DTYPE by default. An earlier export there is
            replaced. With the ending of a target that is one file (model.gguf): that file.
        dtype: data type of the weights; the target's first by default.
        arch: the file of the user's own architecture.
        tell: called with warnings, and with the comparison as a table.

    Returns:
        out, target, dtype, files (name -> bytes), and check: the comparison, or None with a note
        where the program is not installed.

    Raises:
        InputError: the target cannot express this run; the text says why.
        CheckFailed: the program computes something else; nothing is left behind.
    """
    name, target = open_target(to)
    chosen = target.choose_dtype(name, dtype)
    loaded = open_base(str(run), arch)
    # 1. refuse what the target cannot express, before anything is written
    reason = target.refuse(loaded, chosen)
    if reason is None and probe_task(loaded) is None:
        reason = f"other programs cannot run a model for {loaded.metadata['task']}"
    if reason is not None:
        raise InputError(f"{loaded.folder.name} cannot be exported to {name}: {reason}")
    is_run = (loaded.folder / NAME).exists()  # for any other model, a folder by its name
    home = loaded.folder / FOLDER if is_run else Path(FOLDER) / base_name(str(run))
    place = home / f"{name}-{chosen}" if out is None else Path(out).absolute()
    for warning in loaded.warnings:
        tell(warning)
    _check_place(place, name, target.FILE)
    named = _with_files(loaded, base_name(str(run)))
    with named as loaded, _new_export(place, target.FILE) as folder:
        # 2. write it, 3. run the program on it, 4. compare, and give up what differs
        target.write(loaded, folder, chosen)
        report, note = _check(loaded, target, to, chosen, folder)
        tell(str(note) if report is None else table(report.rows()))
        if report is not None and report.problem is not None:
            raise CheckFailed(
                f"{name} of {loaded.folder.name} was removed: in {report.runtime} {report.problem}"
            )
        # 5. describe it, for people and for programs
        checked = {"check": None if report is None else report.to_dict(), "note": note}
        _describe(loaded, name, target, chosen, folder, report, checked)
        files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    if place.is_file():
        files = {place.name: place.stat().st_size}
    return {"out": str(place), "target": name, "dtype": chosen, "files": files, **checked}


@contextlib.contextmanager
def _with_files(loaded: Loaded, name: str) -> Iterator[Loaded]:
    """A model whose folder holds the files beside the weights, as that of a run does: targets copy
    them."""
    if (loaded.folder / NAME).exists():
        yield loaded
        return
    backbone = loaded.task.backbone
    module = registry.module("scriven.models", loaded.architecture)
    with tempfile.TemporaryDirectory(prefix="scriven-") as temporary:
        folder = Path(temporary) / name
        folder.mkdir()
        files = hf_files(module, backbone.config, name, loaded.tokenizer, loaded.metadata)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        yield dataclasses.replace(loaded, folder=folder)


def targets() -> list[str]:
    """What `to` may be."""
    return registry.names("scriven.export.targets")


def open_target(to: str) -> tuple[str, ExportTarget]:
    """A target and its name, by its name or by the path of a user's file."""
    if not to.endswith(".py") and to not in targets():
        raise SettingError(f"--to={to}: {registry.did_you_mean(to, targets())}")
    target: ExportTarget = registry.module("scriven.export.targets", to).Target()
    return Path(to).stem, target


def _describe(
    loaded: Loaded,
    name: str,
    target: ExportTarget,
    dtype: str,
    folder: Path,
    report: ParityReport | None,
    checked: Mapping[str, Any],
) -> None:
    """Writes the model card, and for programs what was exported."""
    usage, rows = target.usage(loaded, dtype), None if report is None else report.rows()
    card = export_card(_run_card(loaded), target.LIBRARY, dtype, usage, rows)
    (folder / "README.md").write_text(card, encoding="utf-8", errors="replace")
    about = {"exported": name, "dtype": dtype, "scriven": __version__, **checked}
    text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
    (folder / EXPORT_FILE).write_text(text, encoding="utf-8")


def _check(
    loaded: Loaded, target: ExportTarget, to: str, dtype: str, folder: Path
) -> tuple[ParityReport | None, str | None]:
    """The comparison, or why there is none."""
    if any(util.find_spec(package) is None for package in target.CHECKS):
        return None, f"not checked: pip install 'scriven[{target.EXTRA}]'"
    probe = make_probe(loaded)
    answer = run_probe(to, folder, probe)
    package = target.CHECKS[0]  # the program itself, whose version the report names
    runtime = f"{target.RUNTIME} ({package} {registry.installed_version(package)})"
    return compare_outputs(loaded, probe, answer, runtime, target.BOUNDS.get(dtype)), None


@contextlib.contextmanager
def _new_export(place: Path, ending: str) -> Iterator[Path]:
    """An empty folder to fill, which becomes `place`, or whose file of this ending does."""
    if not ending or place.suffix != ending:
        with new_folder(place, replace=True) as folder:
            yield folder
        return
    make_folder(place.parent)
    remove_leftovers(place.parent)
    with disk_errors(place), temporary_beside(place) as folder:
        folder.mkdir()
        yield folder
        (file,) = folder.glob(f"*{ending}")
        rename_durably(file, place)


def _check_place(out: Path, name: str, ending: str) -> None:
    """Refuses the ending of a file for a folder, and a name that is taken by something other than
    an export or an empty folder."""
    if out.suffix in MODEL_FILES and out.suffix != ending:
        raise SettingError(f"--out={out.name}: {name} is a folder of files: name a folder")
    if not os.path.lexists(out):
        return
    if out.suffix == ending and ending:
        raise InputError(f"{printable(out)} is there already: choose another name with --out")
    if out.is_dir() and not out.is_symlink():
        if not any(out.iterdir()):  # an empty folder may have been made for this
            return
        try:
            if "exported" in json.loads((out / EXPORT_FILE).read_text(encoding="utf-8")):
                return
        except (OSError, ValueError, TypeError, RecursionError):  # not what was written here
            pass
    raise InputError(
        f"{printable(out)} is there and is no export: choose another folder with --out"
    )


def _run_card(loaded: Loaded) -> str:
    """The run's own card, which its owner may have edited; a new one if it is of another run."""
    path = loaded.folder / "README.md"
    data = str(loaded.metadata.get("data", {}).get("fingerprint"))
    if (
        path.is_file() and (loaded.folder / NAME).exists()
    ):  # the fingerprint shows that the card is still about this run
        text = path.read_text(encoding="utf-8", errors="replace")
        if data in text:
            return text
    return model_card(
        loaded.metadata, dict(hf_config(loaded) or {}), read_loss_curve(loaded.folder)
    )


_FRONT_MATTER = re.compile(r"\A---\n(.*?\n)---\n+", re.DOTALL)
_USE_SECTION = re.compile(r"^## Use\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)


def export_card(
    readme: str, library: str, dtype: str, usage: str, rows: Sequence[tuple[str, str]] | None
) -> str:
    """README.md of an export: the run's own card with another `library_name` and `## Use`.

    library: Hugging Face's name of the program. usage: Markdown that shows how to load the weights.
    rows: the comparison, or None where there was none.
    """
    match = _FRONT_MATTER.match(readme)
    front, body = (match[1], readme[match.end() :]) if match else ("", readme)
    front, count = re.subn(r"^library_name:.*$", f"library_name: {library}", front, flags=re.M)
    if not count:
        front = f"library_name: {library}\n{front}"
    checked = "These files have not been compared with the run they were made from."
    if rows is not None:
        lines = [f"| {name} | {value} |" for name, value in rows]
        opening = "Compared with the run that these files were made from:"
        checked = "\n".join([opening, "", "| | |", "|---|---|", *lines])
    use = f"## Use\n\nWeights: {dtype}.\n\n{usage}\n{checked}\n\n"
    # a function, since the text may hold backslashes
    body, count = _USE_SECTION.subn(lambda _: use, body, count=1)
    if not count:
        body = f"{body.rstrip()}\n\n{use}"
    return f"---\n{front}---\n{body.rstrip()}\n"
