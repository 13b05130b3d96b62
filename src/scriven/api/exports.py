"""A run for other programs: written, loaded there, compared, and only then given its name."""

import json
from collections.abc import Callable
from difflib import get_close_matches
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import __version__, registry
from ..errors import InputError, SettingError
from ..export.base import CheckFailed, asked_as, choose_dtype, describe
from ..export.shared import child
from ..export.shared.card import export_card
from ..export.shared.compare import Comparison, compare, make_question
from ..export.shared.stage import MARK, stage
from ..runs.folder import find_run
from ..runs.load import Loaded, load_run
from ..runs.model_card import model_card, read_loss_curve

FOLDER = "exports"
"""Where exports go in a run folder, each as TARGET-DTYPE."""


def export(
    run: str | Path,
    to: str,
    *,
    out: str | Path | None = None,
    dtype: str | None = None,
    arch: str | None = None,
    tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Writes a run for another program, and compares what that program makes of it.

    Args:
        run: a path, a name under runs/, or `latest`.
        to: the target: a file of `exchange/`.
        out: the folder to make; RUN/exports/TARGET-DTYPE by default. An earlier export there is
            replaced.
        dtype: how numbers are stored; the target's first by default.
        arch: the file of the user's own architecture.
        tell: is given the comparison as a table, before it is judged.

    Returns:
        out, target, dtype, files (name -> bytes), and check: the figures of the comparison, or
        None with a note where the program is not installed.

    Raises:
        InputError: the target cannot express this run; the text says why.
        CheckFailed: the program computes something else; nothing is left behind.
    """
    if to not in targets():
        near = get_close_matches(to, targets(), 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise SettingError(f"--to={to}: {hint}known are {', '.join(targets())}")
    target = registry.module("scriven.export", to)
    chosen = choose_dtype(target, to, dtype)
    loaded = load_run(find_run(str(run)), arch)
    task = str(loaded.record["task"])
    reason = target.refuse(loaded, chosen)
    if reason is None and asked_as(loaded) is None:
        reason = f"other programs cannot be asked what a model for {task} answers"
    if reason is not None:
        raise InputError(f"{loaded.folder.name} cannot be exported to {to}: {reason}")
    place = loaded.folder / FOLDER / f"{to}-{chosen}" if out is None else Path(out).absolute()
    for warning in loaded.warnings:
        if tell is not None:
            tell(warning)
    with stage(place) as folder:
        target.write(loaded, folder, chosen)
        found, note = _check(loaded, target, to, chosen, folder)
        if tell is not None:
            tell(_table(found) if found is not None else str(note))
        if found is not None and found.problem is not None:
            raise CheckFailed(
                f"{to} of {loaded.folder.name} was removed: in {found.runtime} {found.problem}"
            )
        check = None if found is None else found.figures()
        rows = None if found is None else found.rows()
        card = export_card(
            _card(loaded), target.LIBRARY, chosen, target.usage(loaded, chosen), rows
        )
        (folder / "README.md").write_text(card, encoding="utf-8", errors="replace")
        about = {"exported": to, "dtype": chosen, "scriven": __version__, "check": check}
        text = json.dumps({**about, "note": note}, indent=2, ensure_ascii=False)
        (folder / MARK).write_text(text + "\n", encoding="utf-8")
        files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    return {
        "out": str(place),
        "target": to,
        "dtype": chosen,
        "files": files,
        "check": check,
        "note": note,
    }


def targets() -> list[str]:
    """What `to` may be."""
    return registry.names("scriven.export")


def _check(
    loaded: Loaded, target: ModuleType, name: str, dtype: str, folder: Path
) -> tuple[Comparison | None, str | None]:
    """The comparison, or why there is none."""
    if any(util.find_spec(package) is None for package in target.CHECKS):
        return None, f"not checked: pip install 'scriven[{target.EXTRA}]'"
    probe = make_question(loaded)
    answer = child.ask(name, folder, probe)
    package = target.CHECKS[0]
    runtime = f"{target.RUNTIME} ({package} {registry.installed_version(package)})"
    return compare(loaded, probe, answer, runtime, target.BOUNDS.get(dtype)), None


def _table(found: Comparison) -> str:
    rows = found.rows()
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _card(loaded: Loaded) -> str:
    """The run's own card, which its owner may have edited; a new one where it says too little."""
    path = loaded.folder / "README.md"
    data = str(loaded.record.get("data", {}).get("fingerprint"))
    if path.is_file():
        text = path.read_text(encoding="utf-8", errors="replace")
        if data in text:
            return text
    shape = dict(describe(loaded) or {})
    return model_card(loaded.record, shape, read_loss_curve(loaded.folder))
