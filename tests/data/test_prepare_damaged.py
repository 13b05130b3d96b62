"""Records of a prepared folder that say something else than was written: one line, no traceback."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bulky import document, prepared

from scriven.data.pipeline import load_dataset
from scriven.data.prepare_jobs import RECORD
from scriven.data.prepare_plan import PLAN
from scriven.data.shards import open_dataset
from scriven.errors import DamagedError, InputError, ScrivenError
from scriven.manifest import MANIFEST, hash_file, signed_json
from scriven.settings import DataSettings, TokenizerSettings

WRONG = [None, 5, -1, 10**30, 0.5, "x", "../../x", [], [5], {}, {"x": 1}, True]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    lines = [json.dumps({"text": document(number)}) for number in range(60)]
    (folder / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    prepared(folder / "a.jsonl", folder / "out", tokenizer=TokenizerSettings("byte"))
    return folder


def damaged(value: Any) -> Iterator[Any]:
    """The same JSON value with one entry missing or replaced, at any depth."""
    if isinstance(value, dict):
        for name in list(value)[:30]:
            yield {key: each for key, each in value.items() if key != name}
            for wrong in (*WRONG, *damaged(value[name])):
                yield {**value, name: wrong}
    elif isinstance(value, list):
        for wrong in (*WRONG, *damaged(value[0])) if value else ():
            yield [wrong, *value[1:]]


def refused(call: Callable[[], object]) -> bool:
    """Whether a call is refused in one line; any other error passes through."""
    message = None
    try:
        call()
    except ScrivenError as error:
        message = str(error)
    assert "\n" not in (message or "")
    return message is not None


def read_all(folder: Path) -> None:
    """What training does with a prepared folder."""
    corpus = load_dataset([str(folder)], DataSettings(), TokenizerSettings(), seed=0)
    for part in (corpus.train, corpus.validation):
        part.read(0, len(part))
        part.close()
    assert all(isinstance(note, str) for note in corpus.notes)


def test_a_manifest_that_says_anything_else_is_one_line(made: Path) -> None:
    path = made / "out" / MANIFEST
    whole = path.read_bytes()
    facts = json.loads(whole)
    for name in ("digest", "format"):
        del facts[name]
    read_all(made / "out")
    count = 0
    try:
        for wrong in damaged(facts):
            path.write_bytes(signed_json(wrong))
            count += refused(lambda: read_all(made / "out"))
    finally:
        path.write_bytes(whole)
    assert count > 300


@pytest.mark.parametrize("name", [PLAN, RECORD])
def test_a_plan_or_a_record_that_says_anything_else_is_one_line(
    name: str, made: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made / "out", out)
    (out / MANIFEST).unlink()  # as a killed command leaves it
    path = next(out.rglob(name))
    content = json.loads(path.read_text(encoding="utf-8"))
    count = 0
    for number, wrong in enumerate(damaged(content)):
        if number % (3 if name == PLAN else 7):  # a resumed command takes a moment
            continue
        path.write_text(json.dumps(wrong), encoding="utf-8")
        count += refused(
            lambda: prepared(made / "a.jsonl", out, tokenizer=TokenizerSettings("byte"))
        )
        (out / MANIFEST).unlink(missing_ok=True)
    assert count > 30


def test_a_flipped_bit_of_a_shard_is_found_when_it_is_first_read(
    made: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made / "out", out)
    path = next(out.rglob("train.bin"))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)
    with pytest.raises(DamagedError, match=r"train\.bin is damaged"):
        open_dataset(out, name="x", sources=[]).train.read(0, 10)


def test_an_id_beyond_the_vocabulary_is_found_when_it_is_read(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(made / "out", out)
    path = next(out.rglob("train.bin"))
    ids = np.fromfile(path, "<u2")
    ids[5] = 60_000
    ids.tofile(path)
    facts = json.loads((out / MANIFEST).read_bytes())
    for name in ("digest", "format"):
        del facts[name]
    facts["files"][path.relative_to(out).as_posix()] = hash_file(path)._asdict()
    (out / MANIFEST).write_bytes(signed_json(facts))
    train = open_dataset(out, name="x", sources=[]).train
    with pytest.raises(DamagedError, match="holds id 60000, beyond the 258"):
        train.read(0, 10)


def test_a_folder_is_not_prepared_with_what_it_was_not_begun_with(made: Path) -> None:
    with pytest.raises(InputError, match="was begun with other data"):
        prepared(made / "a.jsonl", made / "out", tokenizer=TokenizerSettings("byte"),
                 data=DataSettings(quoting="single"))  # fmt: skip
