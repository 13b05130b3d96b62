"""Readers: what comes out of each format, and the one line when nothing can."""

import builtins
import codecs
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from scriven.data import formats
from scriven.data.formats import base, txt
from scriven.data.sources import Sources
from scriven.data.table import Table
from scriven.errors import InputError, MissingExtra, SettingError
from scriven.settings import DataSettings

PLAIN = DataSettings()
SKIP = DataSettings(skip_bad=True)


def documents(pieces: Any) -> list[str]:
    found = [""]
    for piece in pieces:
        found[-1] += piece.text
        if piece.ends:
            found.append("")
    assert found.pop() == "", "the last document was not ended"
    return found


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_text_is_kept_character_by_character(tmp_path: Path) -> None:
    text = "a\r\nb\rc\x00d\u2028e\x85f\n\n" + "é中😀" * 700_000
    path = write(tmp_path, "a.txt", b"\xef\xbb\xbf" + text.encode())
    keep = DataSettings(newlines="keep")
    assert documents(base.read_documents(path, keep)) == [text]
    assert base.format_of(tmp_path / "a.md") is base.format_of(tmp_path / "a.log") is txt
    assert max(len(piece.text) for piece in base.read_documents(path, PLAIN)) <= base.BLOCK


@pytest.mark.parametrize(
    ("content", "offset", "looks"),
    [
        (codecs.BOM_UTF16_LE + "hello".encode("utf-16-le"), 0, "utf-16"),
        ("naïve".encode("latin-1"), 2, "cp1252"),
        (b"abc\xe9l", 3, "cp1252"),
        (b"a" * (1 << 20) + b"b\xffc", (1 << 20) + 1, "cp1252"),
        (b"a" * ((1 << 20) - 1) + b"\xe9\x28a", (1 << 20) - 1, "cp1252"),
    ],
)
def test_wrong_bytes_are_named_with_their_offset(
    content: bytes, offset: int, looks: str, tmp_path: Path
) -> None:
    path = write(tmp_path, "a.txt", content)
    with pytest.raises(InputError, match=f"offset {offset};.*{looks}.*--data.encoding") as caught:
        documents(base.read_documents(path, PLAIN))
    assert "\n" not in str(caught.value)


def test_the_encoding_named_in_the_message_works(tmp_path: Path) -> None:
    wide = write(tmp_path, "a.txt", "hé😀".encode("utf-16"))
    assert documents(base.read_documents(wide, DataSettings(encoding="utf-16"))) == ["hé😀"]
    raw = write(tmp_path, "b.txt", bytes(range(256)))
    latin = DataSettings(encoding="latin-1", newlines="keep")
    assert documents(base.read_documents(raw, latin))[0].encode("latin-1") == bytes(range(256))
    with pytest.raises(SettingError, match="no such encoding"):
        documents(base.read_documents(raw, DataSettings(encoding="klingon")))


def test_jsonl_rows_are_documents(tmp_path: Path) -> None:
    rows = ['{"text": "one"}', "", "   ", '{"id": 1, "text": "two\\nlines \\ud83d"}']
    path = write(tmp_path, "a.jsonl", "\r\n".join(rows).encode())
    assert documents(base.read_documents(path, PLAIN)) == ["one", "two\nlines \ufffd"]


BAD_ROWS = [
    ("{oops", "row 3 is not JSON"),
    ("[1]", "row 3 is not a JSON object"),
    ('{"body": "x", "id": 1}', "row 3 has no column 'text': .* body, id"),
    ('{"text": 5}', "row 3: 'text' holds a int"),
    ("[" * 200_000, "row 3 is not"),
]


@pytest.mark.parametrize(("row", "message"), BAD_ROWS)
def test_a_bad_row_is_named_or_counted(row: str, message: str, tmp_path: Path) -> None:
    content = '{"text": "one"}\n\n' + row + '\n{"text": "two"}\n'
    path = write(tmp_path, "a.jsonl", content.encode())
    with pytest.raises(InputError, match=message):
        documents(base.read_documents(path, PLAIN))
    pieces = list(base.read_documents(path, SKIP))
    assert [piece.skipped for piece in pieces if piece.skipped]
    assert documents(piece for piece in pieces if not piece.skipped) == ["one", "two"]


def test_a_huge_row_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "LARGEST_ROW", 1000)
    monkeypatch.setattr(base, "BLOCK", 500)
    huge = json.dumps({"text": "x" * 2000})
    path = write(tmp_path, "a.jsonl", ('{"text": "one"}\n' + huge).encode())
    with pytest.raises(InputError, match="row 2 is longer"):
        documents(base.read_documents(path, PLAIN))


def test_long_rows_come_in_pieces(tmp_path: Path) -> None:
    text = "word " * 500_000
    path = write(tmp_path, "a.jsonl", json.dumps({"text": text}).encode())
    assert max(len(piece.text) for piece in base.read_documents(path, PLAIN)) <= base.BLOCK
    assert documents(base.read_documents(path, PLAIN)) == [text]


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t")])
def test_tables_are_read_by_column(name: str, mark: str, tmp_path: Path) -> None:
    rows = [["id", "text"], ["1", '"a ""quoted""\nline"'], ["2", "plain"], []]
    content = "\ufeff" + "\r\n".join(mark.join(row) for row in rows)
    path = write(tmp_path, name, content.encode())
    data = DataSettings(quoting="double")
    assert documents(base.read_documents(path, data)) == ['a "quoted"\nline', "plain"]


def test_tables_name_what_is_wrong(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b"id,body\n1,x\n")
    with pytest.raises(
        InputError, match=r"no column 'text': choose with --data.text_column one of id, b"
    ):
        documents(base.read_documents(path, PLAIN))
    assert documents(base.read_documents(path, DataSettings(text_column="body"))) == ["x"]
    short = write(tmp_path, "b.csv", b"id,text\n1,x\n2\n3,y\n")
    with pytest.raises(InputError, match="row 3 has 1 column,"):
        documents(base.read_documents(short, PLAIN))
    assert sum(bool(piece.skipped) for piece in base.read_documents(short, SKIP)) == 1


def test_parquet_without_pyarrow_prints_the_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"scriven\[data\]"):
        documents(base.read_documents(tmp_path / "a.parquet", PLAIN))


def test_parquet_rows_are_documents(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra `data` is not installed")
    import pyarrow.parquet as writer

    path = tmp_path / "a.parquet"
    writer.write_table(pyarrow.table({"text": ["one", "two", None], "id": [1, 2, 3]}), path)
    with pytest.raises(InputError, match="row 3"):
        documents(base.read_documents(path, PLAIN))
    good = (piece for piece in base.read_documents(path, SKIP) if not piece.skipped)
    assert documents(good) == ["one", "two"]
    with pytest.raises(InputError, match="no column 'body'"):
        documents(base.read_documents(path, DataSettings(text_column="body")))
    with pytest.raises(InputError, match="not a readable parquet"):
        documents(base.read_documents(write(tmp_path, "b.parquet", b"PAR1junk"), PLAIN))


SUBTITLES = '''
"""Subtitles: the lines without a time stamp."""
from .base import decode, Record

SUFFIXES = (".lrc",)


def records(path, settings, columns=()):
    for number, line in enumerate("".join(decode(path, settings.encoding)).splitlines(), 1):
        if "-->" not in line:
            yield Record({"text": line}, number)
'''


def test_a_new_format_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is the registry: nothing else names the formats."""
    copy = tmp_path / "formats"
    shutil.copytree(Path(formats.__path__[0]), copy)
    (copy / "lyrics.py").write_text(SUBTITLES)
    monkeypatch.setattr(formats, "__path__", [str(copy)])
    assert formats.__spec__ is not None
    monkeypatch.setattr(formats.__spec__, "submodule_search_locations", [str(copy)])
    base.known_formats.cache_clear()
    try:
        write(tmp_path, "a.lrc", b"00:01 --> 00:02\nHello.\n")
        with Sources([str(tmp_path / "*.lrc")]) as sources:
            assert documents(sources.read()) == ["Hello."]
        with Table([str(tmp_path / "a.lrc")], PLAIN) as table:
            assert [row.values for row in table] == [{"text": "Hello."}]
    finally:
        base.known_formats.cache_clear()
        sys.modules.pop(f"{formats.__name__}.lyrics", None)
