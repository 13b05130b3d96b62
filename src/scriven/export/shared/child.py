"""A function of a target in a process of its own.

Other people's runtimes print what they like, start threads, and may end the process on a file they
dislike. The child says everything through files in a folder that the parent made.

    python -m scriven.export.shared.child TARGET FUNCTION FOLDER WORK
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ... import registry
from ..base import CheckFailed, ParityProbe, ProbeAnswer

SECONDS = 1800
"""A large model takes minutes; a runtime that hangs must not hang us."""

QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def ask(target: str, folder: Path, probe: ParityProbe) -> ProbeAnswer:
    """What the real runtime makes of the files in a folder.

    Raises:
        CheckFailed: it cannot load them, or ends before it has answered.
    """
    with tempfile.TemporaryDirectory() as work:
        _run(target, "answer", folder, Path(work), dataclasses.asdict(probe))
        said = json.loads((Path(work) / "answer.json").read_text())
        logits = []
        for number, shape in enumerate(said.pop("shapes")):
            flat = np.fromfile(Path(work) / f"{number}.f32", dtype=np.float32)
            logits.append(flat.reshape(shape))
        return ProbeAnswer(logits=logits, **said)


def call(target: str, function: str, folder: Path, request: dict[str, Any]) -> None:
    """Runs `function(folder, request)` of a target for what it writes.

    Raises:
        CheckFailed: it ended with an error.
    """
    with tempfile.TemporaryDirectory() as work:
        _run(target, function, folder, Path(work), request)


def _run(target: str, function: str, folder: Path, work: Path, request: dict[str, Any]) -> None:
    (work / "request.json").write_text(json.dumps(request))
    # -P: a file of the user's own named onnx.py must not be taken for the package
    command = [sys.executable, "-P", "-m", __spec__.name, target, function, str(folder), str(work)]
    try:
        done = subprocess.run(  # noqa: S603
            command,
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, **QUIET},
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise CheckFailed(f"{target} did not answer in {SECONDS} seconds") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        last = lines[-1][:300] if lines else "it said nothing"
        raise CheckFailed(f"{target} could not use the files (exit {done.returncode}): {last}")


def main() -> None:
    """The child's side."""
    target, function, folder, work = sys.argv[1:]
    request = json.loads((Path(work) / "request.json").read_text())
    module = registry.module("scriven.export", target)
    if function != "answer":
        getattr(module, function)(Path(folder), request)
        return
    answer: ProbeAnswer = module.answer(Path(folder), ParityProbe(**request))
    for number, logits in enumerate(answer.logits):
        np.ascontiguousarray(logits, dtype=np.float32).tofile(Path(work) / f"{number}.f32")
    said = {
        "ids": [list(ids) for ids in answer.ids],
        "tokens": [list(tokens) for tokens in answer.tokens],
        "normalised": answer.normalised,
        "shapes": [logits.shape for logits in answer.logits],
    }
    (Path(work) / "answer.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
