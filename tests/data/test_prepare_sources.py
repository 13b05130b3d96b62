"""What `scriven prepare` reads: compressed files, tables, ranges of files; and what it refuses."""

import codecs
import gzip
import itertools
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from bulky import document, prepared, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from scriven.data import prepare_plan
from scriven.data.decoding import open_compressed
from scriven.data.prepare import run_prepare
from scriven.data.prepare_plan import PrepareArgs
from scriven.errors import InputError, ResourceError
from scriven.settings import DataSettings, TokenizerSettings
from scriven.tokenizers import load_tokenizer, train_tokenizer

BYTES = TokenizerSettings("byte")


def rows(documents: int = 300) -> list[str]:
    return [document(number) for number in range(documents)]


def lines() -> bytes:
    return "".join(json.dumps({"text": row}) + "\n" for row in rows()).encode()


def zstd(path: Path, content: bytes) -> Path:
    with pyarrow.CompressedOutputStream(str(path), "zstd") as file:
        file.write(content)
    return path


def make(folder: Path, kind: str) -> Path:
    path = folder / f"a{kind}"
    if kind.endswith(".zst"):
        return zstd(path, lines())
    if kind.endswith(".gz"):
        path.write_bytes(gzip.compress(lines()))
    elif kind == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": rows()}), path, row_group_size=50)
    elif kind == ".csv":
        path.write_text("text\n" + "".join(f'"{row}"\n' for row in rows()))
    else:
        path.write_bytes(lines())
    return path


@pytest.mark.parametrize("kind", [".jsonl", ".jsonl.zst", ".jsonl.gz", ".parquet", ".csv"])
def test_each_format_gives_every_document_once(kind: str, tmp_path: Path) -> None:
    path = make(tmp_path, kind)
    corpus = prepared(path, tmp_path / "out", tokenizer=BYTES)
    train, validation = texts(corpus)
    assert sorted([*train, *validation]) == sorted(rows())
    assert len(list((tmp_path / "out" / "shards").iterdir())) > 4


@pytest.mark.parametrize("kind", [".jsonl.zst", ".jsonl.gz"])
@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_broken_archive_is_named_with_the_place(kind: str, damage: str, tmp_path: Path) -> None:
    path = make(tmp_path, kind)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    if damage == "cut":
        del content[middle:]
    else:
        content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.jsonl\.\w+ is (damaged at about byte [\d,]+|not)"):
        prepared(path, tmp_path / "out", tokenizer=BYTES)


def test_archives_of_several_frames_are_read_whole(tmp_path: Path) -> None:
    path = zstd(tmp_path / "a.txt.zst", b"one\n")
    path.write_bytes(path.read_bytes() + zstd(tmp_path / "b.zst", b"two\n").read_bytes())
    with open_compressed(path) as file:
        assert file.read() == b"one\ntwo\n"


def test_a_full_disk_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scriven.data import shards

    path = make(tmp_path, ".jsonl")

    def full(self: object, *ids: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shards.TokenFileWriter, "append", full)
        with pytest.raises(ResourceError, match=r"disk full: .*shards.* needs .*--out"):
            prepared(path, tmp_path / "out", tokenizer=BYTES)
    train, validation = texts(prepared(path, tmp_path / "out", tokenizer=BYTES))
    assert len([*train, *validation]) == 300


@pytest.mark.parametrize("size", [60, 61])
def test_a_real_limit_is_met_in_a_process_of_its_own(size: int, tmp_path: Path) -> None:
    import resource

    path = make(tmp_path, ".jsonl")
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    args = PrepareArgs(
        [str(path)], tmp_path / "out", tokenizer=BYTES, processes=2, shard_bytes=20_000
    )
    run_prepare(PrepareArgs([str(path)], tmp_path / "first", tokenizer=BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000 + size, kept[1]))
    try:
        with pytest.raises(ResourceError, match="disk full"):
            run_prepare(args)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
def test_a_text_cut_into_ranges_is_the_whole_text(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    whole = "\n".join(rows()).replace("漢", "ü")
    path.write_bytes(whole.encode(encoding))
    if encoding == "utf-16":  # characters cannot be found from the middle: read as one stream
        other = tmp_path / "b.txt"
        other.write_bytes("\n".join(["x y z"] * 60).encode(encoding))
        many = [tmp_path / f"{number}.txt" for number in range(12)]
        for number, each in enumerate(many):
            each.write_bytes(document(number).encode(encoding))
        named = {"data": DataSettings(encoding=encoding, val_fraction=0.3), "bounded": False}
        corpus = prepared([str(each) for each in (path, *many)], tmp_path / "o", **named)
        train, validation = texts(corpus)
        assert whole in [*train, *validation]
        return
    corpus = prepared(path, tmp_path / "out", data=DataSettings(encoding=encoding), tokenizer=BYTES)
    read = [part.read(0, len(part)).tolist() for part in (corpus.train, corpus.validation)]
    assert "".join(corpus.tokenizer.decode(ids) for ids in read) == whole
    assert len(list((tmp_path / "out" / "shards").iterdir())) > 3


TOKENIZER = train_tokenizer("bpe", iter([" ".join(rows())]), TokenizerSettings("bpe", 500))


@settings(max_examples=150, deadline=None)
@given(
    words=st.lists(
        st.sampled_from([" ", "\n", "\r\n", "it's", "12", "é漢", "\u3000", "a", ".", "  ", "x\n"]),
        min_size=5,
        max_size=80,
    ),
    piece=st.integers(3, 40),
)
def test_ids_of_the_ranges_are_those_of_the_whole(
    words: list[str], piece: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.txt"
    whole = "".join(words)
    path.write_bytes(whole.encode())
    borders = prepare_plan.cut_points(path, "word", len(whole.encode()), "utf-8", piece)
    parts = [whole.encode()[a:b].decode() for a, b in itertools.pairwise(borders)]
    assert "".join(parts) == whole
    ids = [number for part in parts for number in TOKENIZER.encode(part)]
    inside = [len("".join(parts[: n + 1])) for n in range(len(parts) - 1)]
    if all(_is_boundary(whole, place) for place in inside):
        assert ids == TOKENIZER.encode(whole)


def _is_boundary(text: str, place: int) -> bool:
    from scriven.tokenizers.patterns import _BOUNDARY

    return any(found.start() == place for found in _BOUNDARY.finditer(text))


def test_lines_are_cut_at_line_ends(tmp_path: Path) -> None:
    path = make(tmp_path, ".jsonl")
    raw = path.read_bytes()
    borders = prepare_plan.cut_points(path, "line", len(raw), "utf-8", 1000)
    assert len(borders) > 20
    assert all(raw[place - 1 : place] == b"\n" for place in borders[1:-1])


def test_encodings_that_can_be_cut_are_known() -> None:
    names = ["utf-8", "UTF8", "latin-1", "cp1252", "ascii", "koi8-r"]
    assert [name for name in names if not prepare_plan.has_character_borders(name)] == []
    for name in ("utf-16", "utf-32", "shift_jis", "gb18030", "utf-7", "nonsense"):
        assert not prepare_plan.has_character_borders(name), name
    assert codecs.lookup("utf-8-sig").name != "utf-8"


def test_a_tokenizer_comes_from_a_file_or_a_folder(tmp_path: Path) -> None:
    path = make(tmp_path, ".jsonl")
    first = prepared(path, tmp_path / "one", tokenizer=TokenizerSettings("bpe", 400))
    alone = tmp_path / "mine.json"
    alone.write_bytes((tmp_path / "one" / "tokenizer.json").read_bytes())
    for number, place in enumerate((tmp_path / "one", alone)):
        out = tmp_path / f"other{number}"
        again = prepared(path, out, tokenizer_from=place)
        assert again.fingerprint == first.fingerprint
        assert load_tokenizer(out).encode("the rain") == first.tokenizer.encode("the rain")
