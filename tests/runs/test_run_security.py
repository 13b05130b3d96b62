"""Nothing a run folder holds can run code."""

import ast
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import scriven
from scriven import manifest
from scriven.errors import DamagedError, InputError
from scriven.runs import checkpoint, metadata
from scriven.runs.huggingface import read_pretrained_file, save_pretrained
from scriven.runs.weights import load_tensors

from .faults import save, tensors
from .saves import verify_pretrained

SOURCE = Path(scriven.__file__).parent


class _Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.canary),)


def _attacks(canary: Path, folder: Path) -> list[bytes]:
    torch.save({"a": _Payload(canary)}, folder / "x.pt")
    zipped = (folder / "x.pt").read_bytes()
    (folder / "x.pt").unlink()
    return [*(pickle.dumps(_Payload(canary), version) for version in range(6)), zipped]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    metadata.write_metadata(folder, {"name": "r"})
    save(folder, 1)
    files = {"config.json": b"{}", "tokenizer.json": b"{}"}
    save_pretrained(folder, files, tensors(1.0)["model"])
    return folder


LOADERS: list[Callable[[Path], object]] = [
    lambda run: checkpoint.load_step(run, 1),
    checkpoint.load_newest,
    lambda run: manifest.verify_folder(run / "checkpoints" / "step-1"),
    metadata.read_metadata,
    verify_pretrained,
    lambda run: read_pretrained_file(run, "config.json"),
    lambda run: read_pretrained_file(run, "tokenizer.json"),
    lambda run: load_tensors(run / "model.safetensors"),
    lambda run: load_tensors(run / "model.safetensors", require_digest=False),
]


def test_the_payload_would_run_when_unpickled(tmp_path: Path) -> None:
    pickle.loads(_attacks(tmp_path / "canary", tmp_path)[0])
    assert (tmp_path / "canary").is_dir()


def test_a_pickle_under_any_file_name_runs_nothing(run: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) == 10
    for path in files:
        good = path.read_bytes()
        for attack in _attacks(canary, tmp_path):
            path.write_bytes(attack)
            refused = 0
            for load in LOADERS:
                try:
                    load(run)
                except (DamagedError, InputError):
                    refused += 1
            assert refused > 0, f"no loader looked at {path.name}"
            assert not canary.exists()
        path.write_bytes(good)
    for load in LOADERS:
        load(run)


def test_a_pickle_with_the_right_digests_runs_nothing(run: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    place = run / "checkpoints" / "step-1"
    for attack in _attacks(canary, tmp_path):
        for name in ("model.safetensors", "state.json"):
            held = {path.name: path.read_bytes() for path in place.iterdir()}
            held[name] = attack
            listed = {key: value for key, value in held.items() if key != manifest.MANIFEST}
            (place / name).write_bytes(attack)
            (place / manifest.MANIFEST).write_bytes(manifest.build_manifest(listed, step=1))
            manifest.verify_folder(place, step=1)
            with pytest.raises(DamagedError):
                checkpoint.load_step(run, 1)
            assert not canary.exists()


def _forbidden(tree: ast.Module, text: str) -> list[str]:
    """Lines that could run what a file holds."""
    modules = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    found = []
    for node in ast.walk(tree):
        names: set[str] = set()
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names} & modules
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").split(".")[0]} & modules
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            names = {called} & {"eval", "exec", "compile", "torch.load", "builtins.eval"}
            names |= {called} & {"os.system", "os.popen", "torch.hub.load", "__import__"}
            keywords = {(word.arg, ast.unparse(word.value)) for word in node.keywords}
            bad = {("allow_pickle", "True"), ("weights_only", "False"), ("shell", "True")}
            names |= {str(pair) for pair in keywords & bad}
        elif isinstance(node, ast.Attribute) and node.attr == "exec_module":
            names = {"exec_module"}
        found += [f"{getattr(node, 'lineno', 0)}: {name}" for name in names]
    return found


def test_no_source_file_can_run_what_a_file_holds() -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 10
    for path in files:
        text = path.read_text(encoding="utf-8")
        found = _forbidden(ast.parse(text), text)
        if path == SOURCE / "registry.py":  # a user's own file, given on the command line
            found = [line for line in found if not line.endswith("exec_module")]
        if path == SOURCE / "import_" / "sandbox.py":  # runs in a sandboxed child
            assert "weights_only=True" in text
            assert text.count("torch.load(") == text.count("weights_only=True")
            found = [line for line in found if not line.endswith("torch.load")]
        assert found == [], f"{path.relative_to(SOURCE)}: {found}"


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('x')",
        "eval('1')",
        "exec('1')",
        "numpy.load('x', allow_pickle=True)",
        "f(weights_only=False)",
        "spec.loader.exec_module(m)",
    ],
)
def test_planted_bug_the_search_finds_each(text: str) -> None:
    assert _forbidden(ast.parse(text), text)
