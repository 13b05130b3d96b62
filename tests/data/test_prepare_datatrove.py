"""Token files in datatrove's layout: every document once, whatever the width of the ids."""

from pathlib import Path

import numpy as np
import pytest
from bulky import digests, document, prepared, texts

from scriven.errors import InputError, SettingError
from scriven.settings import TokenizerSettings
from scriven.tokenizers import Tokenizer, train_tokenizer

DOCUMENTS = [document(number) for number in range(200)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Path]:
    made = train_tokenizer("bpe", iter(DOCUMENTS), TokenizerSettings("bpe", 400))
    folder = tmp_path_factory.mktemp("tokenizer")
    made.save(folder)
    return made, folder


def write(folder: Path, tokenizer: Tokenizer, width: int, closed: bool) -> Path:
    """Two files, as datatrove's writer lays them out: ids, and the ends in tokens."""
    folder.mkdir()
    for number in range(2):
        rows = [tokenizer.encode(text) for text in DOCUMENTS[number::2]]
        rows = [row + [tokenizer.eos] * closed for row in rows]
        ids = np.array([each for row in rows for each in row], dtype=f"<u{width}")
        path = folder / f"{number:05d}_unshuffled.ds"
        path.write_bytes(ids.tobytes())
        ends = np.cumsum([len(row) for row in rows]).astype("<u8")
        path.with_name(f"{path.name}.index").write_bytes(ends.tobytes())
        path.with_name(f"{path.name}.metadata").write_text("mine|2\n1000\n1 kT")
    return folder


@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("closed", [True, False])
def test_every_document_is_there_once(
    width: int, closed: bool, tokenizer: tuple[Tokenizer, Path], tmp_path: Path
) -> None:
    source = write(tmp_path / "ds", tokenizer[0], width, closed)
    named = {"format": "datatrove", "tokenizer_from": tokenizer[1], "shard_bytes": 5000}
    corpus = prepared(source, tmp_path / "out", **named)
    train, validation = texts(corpus)
    assert sorted([*train, *validation]) == sorted(DOCUMENTS)
    assert 10 <= len(validation) <= 30
    assert corpus.validation_bytes == sum(len(text.encode()) for text in validation)
    prepared(source, tmp_path / "two", processes=2, **named)
    assert digests(tmp_path / "two") == digests(tmp_path / "out")


def test_files_that_do_not_fit_are_refused(
    tokenizer: tuple[Tokenizer, Path], tmp_path: Path
) -> None:
    source = write(tmp_path / "ds", tokenizer[0], 2, True)
    named = {"format": "datatrove", "tokenizer_from": tokenizer[1]}
    with pytest.raises(SettingError, match="name the tokenizer"):
        prepared(source, tmp_path / "out", format="datatrove")
    small = train_tokenizer("byte", iter([""]), TokenizerSettings("byte"))
    small.save(tmp_path)
    with pytest.raises(InputError, match="beyond the 258 of the tokenizer"):
        prepared(source, tmp_path / "o1", format="datatrove", tokenizer_from=tmp_path)
    path = source / "00000_unshuffled.ds"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match="does not fit"):
        prepared(source, tmp_path / "o2", **named)
    (source / "00000_unshuffled.ds.index").unlink()
    with pytest.raises(InputError, match="has no index"):
        prepared(source, tmp_path / "o3", **named)
    with pytest.raises(InputError, match=r"holds no \.ds files"):
        prepared(tokenizer[1], tmp_path / "o4", **named)
