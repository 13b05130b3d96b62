"""A power cut at any moment leaves the old state or the new one, and never half a file."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scriven import export, import_run, load, prepare, train
from scriven.export import export as export_module
from scriven.export.targets import hf
from scriven.generate.predict import write_predictions

from .power_cut import Disk, Tree, actual, flat, watching, write_tree
from .saves import ALL, Read, Save

if sys.platform != "linux":
    pytest.skip("what a descriptor belongs to is read in /proc", allow_module_level=True)


@ALL
def test_a_power_cut_at_any_moment_of_a_save(tmp_path: Path, make: Save, read: Read) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    make(folder, 1)
    states: list[Tree] = []
    with watching(folder, lambda disk: states.extend((disk.synced(), disk.written()))) as disk:
        make(folder, 2)
        ended = disk.synced()
    found = []
    for number, state in enumerate(states):
        write_tree(tmp_path / str(number), state)
        found.append(read(tmp_path / str(number)))
    assert set(found) == {1, 2}
    assert found == sorted(found), "an old state came back"
    write_tree(tmp_path / "ended", ended)
    assert read(tmp_path / "ended") == 2, "it was reported before it was on the disk"


# The log may lose its last lines, and a lock or a leftover means nothing after a restart.
LOOSE = ("metrics.jsonl", ".lock", ".scriven.lock", ".scriven.owner")
UNFINISHED = (".tmp-", ".old-")


def torn(disk: Disk, folder: Path) -> set[str]:
    """Files under their final names whose content is not on the disk."""
    seen, synced = flat(actual(folder)), flat(disk.written(folder))
    return {
        path
        for path, content in seen.items()
        if synced.get(path, content) != content
        and not path.endswith(LOOSE)
        and not any(part.startswith(UNFINISHED) for part in path.split("/"))
    }


def lost(disk: Disk) -> set[str]:
    """Files that a power cut after the end would lose or change."""
    seen, synced = flat(actual(disk.root)), flat(disk.synced())
    return {path for path in seen if synced.get(path) != seen[path] and not path.endswith(LOOSE)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, a table, and a run fine-tuned on it."""
    folder = tmp_path_factory.mktemp("place")
    story = "It was a dark and stormy night; the rain fell, and nobody came to see it.\n"
    (folder / "book.txt").write_text(story * 40)
    rows = [{"text": f"{n} {story}", "label": "good" if n % 2 else "bad"} for n in range(40)]
    (folder / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    patch = pytest.MonkeyPatch()
    patch.setenv("SCRIVEN_CACHE", str(folder / "cache"))
    train_one(folder, folder / "base")
    load(folder / "base").finetune(
        folder / "table.jsonl", budget="4steps", out=folder / "judge", quiet=True
    )
    patch.undo()
    return folder


def train_one(place: Path, out: Path) -> object:
    shape = {"model.layers": 1, "model.heads": 2, "model.d_model": 16, "model.context_length": 16}
    settings = {**shape, "train.save_interval": 2, "train.eval_interval": 2, "runtime.threads": 1}
    return train(place / "book.txt", out=out, budget="6steps", quiet=True, settings=settings)


FLOWS: dict[str, Callable[[Path, Path], object]] = {
    "train": lambda place, out: train_one(place, out / "run"),
    "finetune": lambda place, out: load(place / "base").finetune(
        place / "table.jsonl", budget="4steps", out=out / "run", quiet=True
    ),
    "prepare": lambda place, out: prepare(place / "book.txt", out=out / "made"),
    "predict": lambda place, out: write_predictions(
        load(place / "judge").predict_table(str(place / "table.jsonl")), out / "a.csv", print
    ),
    "export": lambda place, out: export(place / "base", to="hf", out=out / "made"),
    "import": lambda place, out: import_run(place / "base", out=out / "made"),
}


@pytest.mark.parametrize("flow", FLOWS)
def test_whatever_is_written_is_on_the_disk_before_it_gets_its_name(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flow: str
) -> None:
    root = tmp_path / "root"
    (root / "out").mkdir(parents=True)
    # the check reads only: here, in this process
    monkeypatch.setattr(export_module, "run_probe", lambda _, *given: hf.Target().run_probe(*given))
    monkeypatch.setenv("SCRIVEN_CACHE", str(root / "cache"))
    found: set[str] = set()
    with watching(root, lambda disk: found.update(torn(disk, root))) as disk:
        FLOWS[flow](place, root / "out")
        assert lost(disk) == set()
    assert found == set()
