"""Data sets by name, streamed: tried on a folder of files, as the network is not to be had."""

import json
from pathlib import Path

import pytest
from bulky import document, prepared, texts

from scriven.data.hub import Name, parse
from scriven.errors import InputError
from scriven.settings import DataSettings, TokenizerSettings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    place = tmp_path / "set"
    place.mkdir()
    rows = [json.dumps({"story": document(number), "id": number}) for number in range(150)]
    (place / "train.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (place / "test.jsonl").write_text(rows[0], encoding="utf-8")
    return place


def test_names_are_understood(tmp_path: Path) -> None:
    assert parse("hf:wiki") == Name("wiki", None, "train", None)
    assert parse("hf:org/name:test#body") == Name("org/name", None, "test", "body")
    assert parse("hf:org/name/large:train[:5%]#a b") == Name(
        "org/name", "large", "train[:5%]", "a b"
    )
    assert parse(f"hf:{tmp_path}#x") == Name(str(tmp_path), None, "train", "x")
    with pytest.raises(InputError, match="write hf:NAME"):
        parse("hf:")


def test_a_data_set_is_streamed(folder: Path, tmp_path: Path) -> None:
    named = {"tokenizer": TokenizerSettings("byte"), "piece": 20_000}
    corpus = prepared([f"hf:{folder}#story"], tmp_path / "out", **named)
    train, validation = texts(corpus)
    assert sorted([*train, *validation]) == sorted(document(number) for number in range(150))
    assert len(list((tmp_path / "out" / "shards").iterdir())) > 2


def test_what_is_not_there_is_said(folder: Path, tmp_path: Path) -> None:
    byte = TokenizerSettings("byte")
    with pytest.raises(InputError, match="no column 'text': choose with #COLUMN one of story, id"):
        prepared([f"hf:{folder}"], tmp_path / "a", tokenizer=byte)
    with pytest.raises(InputError, match="row 1: 'id' holds no text"):
        prepared([f"hf:{folder}#id"], tmp_path / "b", tokenizer=byte)
    with pytest.raises(InputError, match="cannot be read"):
        prepared([f"hf:{folder}:validation#story"], tmp_path / "c", tokenizer=byte)
    data = DataSettings(text_column="story")
    with pytest.raises(InputError, match="cannot be read"):
        prepared(["hf:nobody/nothing-at-all"], tmp_path / "d", tokenizer=byte, data=data)
