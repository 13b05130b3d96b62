"""Data sets of the Hugging Face hub: tried on folders and on a stand-in for the hub's client."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from bulky import document, prepared, texts

from scriven.data import huggingface
from scriven.data.huggingface import DatasetName, parse_name, read_dataset, select_files
from scriven.data.prepare_plan import read_plan
from scriven.errors import InputError, MissingExtra
from scriven.settings import DataSettings, TokenizerSettings

BYTE = TokenizerSettings("byte")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    place = tmp_path / "set"
    place.mkdir()
    rows = [json.dumps({"story": document(number), "id": number}) for number in range(150)]
    (place / "train.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (place / "test.jsonl").write_text(rows[0], encoding="utf-8")
    return place


def parquet(path: Path, rows: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table({"text": rows, "id": list(range(len(rows)))})
    pyarrow.parquet.write_table(table, path, row_group_size=10)


class Hub:
    """A stand-in for the module `huggingface_hub`: revisions of one data set, each a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.newest = "first"
        self.card: dict[str, Any] = {}
        self.downloads: list[str] = []

    def HfApi(self) -> "Hub":  # noqa: N802 - the name of the class it stands in for
        return self

    def dataset_info(self, name: str, revision: str | None = None) -> SimpleNamespace:
        assert name == "org/name", "404 not found"
        place = self.root / (revision or self.newest).replace("/", "-")
        files = [path for path in place.rglob("*") if path.is_file()]
        siblings = [SimpleNamespace(rfilename=path.relative_to(place).as_posix()) for path in files]
        return SimpleNamespace(sha=place.name, siblings=siblings, card_data=self.card)

    def hf_hub_download(self, name: str, file: str, *, repo_type: str, revision: str) -> str:
        assert (name, repo_type) == ("org/name", "dataset")
        self.downloads.append(f"{revision}/{file}")
        return str(self.root / revision / file)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", made)
    huggingface._hub_files.cache_clear()
    return made


def read(name: str, **settings: Any) -> list[str]:
    return [chunk.text for chunk in read_dataset(name, DataSettings(**settings))]


def test_names_are_parsed(tmp_path: Path) -> None:
    assert parse_name("hf:wiki") == DatasetName("wiki", None, None, "train", None)
    assert parse_name("hf:org/name:test#body") == DatasetName(
        "org/name", None, None, "test", "body"
    )
    assert parse_name("hf:org/name/large@v1.0:train[:5%]#a b") == DatasetName(
        "org/name", "large", "v1.0", "train[:5%]", "a b"
    )
    assert parse_name(f"hf:{tmp_path}#x") == DatasetName(str(tmp_path), None, None, "train", "x")
    (tmp_path / "a@b").mkdir()
    assert parse_name(f"hf:{tmp_path}/a@b").path == f"{tmp_path}/a@b"
    with pytest.raises(InputError, match="write hf:NAME"):
        parse_name("hf:")


def test_a_folder_is_read_shard_by_shard(folder: Path, tmp_path: Path) -> None:
    dataset = prepared([f"hf:{folder}#story"], tmp_path / "out", tokenizer=BYTE, shard_bytes=20_000)
    train, validation = texts(dataset)
    assert sorted([*train, *validation]) == sorted(document(number) for number in range(150))
    assert len(list((tmp_path / "out" / "shards").iterdir())) > 2


def test_what_is_not_there_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no column 'text': choose with .* one of story, id"):
        prepared([f"hf:{folder}"], tmp_path / "a", tokenizer=BYTE)
    with pytest.raises(InputError, match="row 1: 'id' holds a int, not a text"):
        prepared([f"hf:{folder}#id"], tmp_path / "b", tokenizer=BYTE)
    with pytest.raises(InputError, match="no files of split 'validation': has test, train"):
        prepared([f"hf:{folder}:validation#story"], tmp_path / "c", tokenizer=BYTE)
    data = DataSettings(text_column="story")
    with pytest.raises(InputError, match=r"cannot be read: .*; check the name"):
        prepared(["hf:nobody/nothing-at-all"], tmp_path / "d", tokenizer=BYTE, data=data)


def test_files_of_the_hub_are_downloaded_one_by_one(hub: Hub) -> None:
    parquet(hub.root / "first" / "data" / "train-00000-of-00002.parquet", ["a", "b"])
    parquet(hub.root / "first" / "data" / "train-00001-of-00002.parquet", ["c"])
    parquet(hub.root / "first" / "data" / "test-00000-of-00001.parquet", ["d"])
    (hub.root / "first" / "README.md").write_text("# A data set to train on")
    chunks = read_dataset("hf:org/name", DataSettings())
    assert next(chunks).text == "a"
    assert hub.downloads == ["first/data/train-00000-of-00002.parquet"]
    assert [chunk.text for chunk in chunks] == ["b", "c"]
    assert read("hf:org/name:test") == ["d"]
    with pytest.raises(InputError, match=r"no column 'body': choose with .* one of text, id"):
        read("hf:org/name#body")
    with pytest.raises(InputError, match="hf:nobody/set cannot be read: 404"):
        read("hf:nobody/set")


def test_a_killed_preparation_goes_on_with_the_revision_it_began_with(
    hub: Hub, tmp_path: Path
) -> None:
    for revision, mark in (("first", "old"), ("second", "new")):
        parquet(hub.root / revision / "train.parquet", [f"{mark} {n}" * 20 for n in range(80)])
    out = tmp_path / "out"
    prepared(["hf:org/name"], out, tokenizer=BYTE, shard_bytes=3000)
    plan = read_plan(out)
    assert plan is not None
    assert [file.label for file in plan.files] == ["hf:org/name@first:train"]
    (out / "manifest.json").unlink()  # as if it had been killed before its last shard
    last = sorted((out / "shards").iterdir())[-1]
    for file in last.iterdir():
        file.unlink()
    last.rmdir()
    hub.newest = "second"
    huggingface._hub_files.cache_clear()
    train, validation = texts(prepared(["hf:org/name"], out, tokenizer=BYTE, shard_bytes=3000))
    assert sorted([*train, *validation]) == sorted(f"old {n}" * 20 for n in range(80))
    assert read("hf:org/name")[0].startswith("new")
    assert read("hf:org/name@first")[0].startswith("old")


def test_other_formats_are_read_as_the_hub_converted_them(hub: Hub) -> None:
    (hub.root / "first").mkdir(parents=True)
    (hub.root / "first" / "data.arrow").write_bytes(b"")
    converted = hub.root / "refs-convert-parquet"
    parquet(converted / "large" / "train" / "0000.parquet", ["x"])
    parquet(converted / "small" / "train" / "0000.parquet", ["y"])
    assert read("hf:org/name") == ["x"]
    assert read("hf:org/name/small") == ["y"]


def test_a_card_names_the_files_of_configurations() -> None:
    names = ["b.csv", "en/1.jsonl", "en/2.jsonl", "fr/1.jsonl", "held.jsonl"]
    configs: list[dict[str, Any]] = [
        {"config_name": "en", "data_files": [{"split": "train", "path": ["en/*.jsonl"]},
                                             {"split": "test", "path": "held.jsonl"}]},
        {"config_name": "fr", "data_files": "fr/*"},
    ]  # fmt: skip

    def select(path: str) -> list[str]:
        return select_files("hf:x", names, configs, parse_name(path))

    assert select("hf:x") == select("hf:a/x/en") == ["en/1.jsonl", "en/2.jsonl"]
    assert select("hf:a/x/en:test") == ["held.jsonl"]
    assert select("hf:a/x/fr") == ["fr/1.jsonl"]
    with pytest.raises(InputError, match="no files of split 'validation': has test, train"):
        select("hf:x:validation")
    with pytest.raises(InputError, match="no files of split 'train': has none"):
        select("hf:a/x/de")


@pytest.mark.parametrize(
    ("names", "split", "expected"),
    [
        (["a.txt", "b.txt"], "train", ["a.txt", "b.txt"]),
        (["train/a.txt", "dev/a.txt"], "validation", ["dev/a.txt"]),
        (["train/test.txt", "test/0.txt"], "test", ["train/test.txt", "test/0.txt"]),
        (["my-trainers.txt", "x_val.csv"], "validation", ["x_val.csv"]),
        (["LICENSE.txt", ".x.txt", "a/README.md", "a/b.md"], "train", ["a/b.md"]),
    ],
)
def test_words_in_paths_tell_the_split(names: list[str], split: str, expected: list[str]) -> None:
    assert select_files("hf:x", names, [], parse_name(f"hf:x:{split}")) == expected


def test_without_the_client_the_install_line_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    huggingface._hub_files.cache_clear()
    with pytest.raises(MissingExtra, match=r"scriven\[data\]"):
        read("hf:org/name")
