"""Folders as people have them: runs beside texts, links, pipes, documents, odd names."""

import bz2
import gzip
import json
import os
import socket
from pathlib import Path

import pytest
from field import SENTENCE, documents, loaded, put, text_of

from scriven.config import cache_folder
from scriven.data import formats
from scriven.data.folders import find_glob, find_in_folder
from scriven.data.recognise import recognise_bytes
from scriven.data.sources import Sources, are_pairs
from scriven.data.table import Table
from scriven.errors import InputError, ResourceError
from scriven.files import temporary_folder
from scriven.settings import DataSettings


def test_an_empty_name_is_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "diary.txt", "private words " * 99)
    monkeypatch.chdir(tmp_path)
    for sources in ([""], ["diary.txt", ""]):
        with pytest.raises(InputError, match="a source is empty"):
            loaded(*sources)


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """Two texts, and beside them what programs leave there."""
    for name in ("a.md", "deep/b.md"):
        put(tmp_path, name, SENTENCE * 20)
    for name in (
        "runs/own/scriven.json", "runs/own/README.md", "runs/own/metrics.jsonl",
        "x/old/scriven.json", "x/old/exports/hf/README.md",
        "made/plan.json", "made/manifest.json", "made/notes.md",
        "made2/plan.json", "made2/shards/notes.md",
        "gone/export.json", "gone/README.md",
        "model/config.json", "model/tokenizer.json", "model/README.md",
        ".git/x.md", ".venv/y.md", "venv/pyvenv.cfg", "venv/lib/z.md",
        "node_modules/m/readme.md", "__pycache__/p.md",
    ):  # fmt: skip
        put(tmp_path, name, "{}")
    (tmp_path / "linked").symlink_to(tmp_path / "runs" / "own")
    return tmp_path


def test_runs_and_the_like_are_passed_over_in_folders_and_said(beside: Path) -> None:
    found = find_in_folder(beside, DataSettings())
    assert [path.relative_to(beside).as_posix() for path in found.paths] == ["a.md", "deep/b.md"]
    assert "runs/own (a run)" in found.notes[0] and "more" in found.notes[0]
    corpus = loaded(beside)
    assert text_of(corpus) == SENTENCE * 40
    assert any("passed over" in note for note in corpus.notes)


def test_runs_and_the_like_are_passed_over_in_globs_and_said(
    beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(beside)
    for pattern in ("**/*.md", "./**/*.md", f"{beside}/**/*.md"):
        found = find_glob(pattern, DataSettings())
        assert sorted(path.name for path in found.paths) == ["a.md", "b.md"], pattern
        assert "(a run)" in found.notes[0] or "more" in found.notes[0]
    assert [path.name for path in find_glob("*/*.md", DataSettings()).paths] == ["b.md"]
    for pattern in ("runs/own/*.md", "linked/*.md", "runs/*/*.md"):
        with pytest.raises(InputError, match=r"no file matches .*\(a run\)"):
            find_glob(pattern, DataSettings())


def test_a_run_itself_is_no_folder_of_texts(beside: Path) -> None:
    with pytest.raises(InputError, match="is a run, not a folder of texts"):
        Sources([str(beside / "runs" / "own")])
    with Sources([str(beside / "runs" / "own" / "README.md")]) as sources:
        assert len(sources.files) == 1


def test_links_in_circles_and_odd_files_are_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "a.txt", SENTENCE)
    put(tmp_path, "deep/b.txt", SENTENCE)
    (tmp_path / "deep" / "up").symlink_to(tmp_path)
    (tmp_path / "deep" / "up2").symlink_to(tmp_path)
    (tmp_path / "self.txt").symlink_to(tmp_path / "self.txt")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tmp_path)  # the path of a socket must be short
        try:
            server.bind("socket.txt")
        finally:
            os.chdir(here)
        for found in (
            find_in_folder(tmp_path, DataSettings()),
            find_glob(f"{tmp_path}/**/*.txt", DataSettings()),
        ):
            assert [path.name for path in found.paths] == ["a.txt", "b.txt"]
            assert "no regular file" in found.notes[0]
    for name in ("zero.txt", "self.txt", "socket.txt"):
        with pytest.raises(InputError):
            Sources([str(tmp_path / name)])


def test_a_folder_that_may_not_be_entered_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a.txt", SENTENCE)
    put(tmp_path, "closed/b.txt", SENTENCE)
    real = os.scandir

    def scandir(path: str) -> object:
        if os.path.basename(path) == "closed":
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = find_in_folder(tmp_path, DataSettings())
    assert [path.name for path in found.paths] == ["a.txt"]
    assert "closed (permission denied)" in found.notes[0]


def test_what_is_passed_over_is_said_with_the_glob_that_reads_it(tmp_path: Path) -> None:
    put(tmp_path, "README.md", SENTENCE * 100)
    put(tmp_path, "src/a.py", "x = 1\n")
    put(tmp_path, "page.xml", "<?xml version='1.0'?><TEI/>")
    put(tmp_path, "logo.png", b"\x89PNG\r\n\x1a\n" + bytes(9))
    put(tmp_path, "package.json", '{"name": "x", "version": 2}')
    found = find_in_folder(tmp_path, DataSettings())
    assert [path.name for path in found.paths] == ["README.md"]
    (note,) = found.notes
    assert f"1 .py ('{tmp_path}/**/*.py' reads them)" in note
    _, read, passed, refused = note.split("\n")
    assert read.split() == ["read", "1", ".md"]
    assert "logo.png (an image)" in passed and "page.xml" not in passed
    assert refused.split("  ")[-1].strip() == (
        "package.json (a JSON document without texts), page.xml (an XML document)"
    )
    both = find_glob(f"{tmp_path}/**/*.py", DataSettings())
    assert [path.name for path in both.paths] == ["a.py"]


def test_a_folder_of_mostly_other_plain_text_is_read_and_said(tmp_path: Path) -> None:
    put(tmp_path, "README.md", SENTENCE)
    for number in range(30):
        put(tmp_path, f"src/part{number}.py", f"def f{number}(x):\n    return x\n" * 20)
    put(tmp_path, "data.bin", bytes(range(256)) * 9)
    found = find_in_folder(tmp_path, DataSettings())
    assert len(found.paths) == 31
    assert "30 .py" in found.notes[0] and "--data.files" in found.notes[0]
    only = find_in_folder(tmp_path, DataSettings(files="*.md, src/part1.py"))
    assert [path.name for path in only.paths] == ["README.md", "part1.py"]


@pytest.mark.parametrize(
    "name", ["a\0b", "x" * 300, "x" * 5000, "y" * 300 + "/*.txt", "~nobody/x*"]
)
def test_names_that_no_path_can_have_are_one_line(name: str, tmp_path: Path) -> None:
    for call in (
        lambda: Sources([name]),
        lambda: loaded(name),
        lambda: Table([name], DataSettings()),
        lambda: Sources([name, "shakespeare"]),
        lambda: are_pairs([name], DataSettings()),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 6000


@pytest.mark.parametrize("scheme", ["http", "ftp", "file", "s3"])
def test_an_address_of_another_scheme_is_refused(scheme: str) -> None:
    with pytest.raises(InputError, match=r"a\.txt: addresses must begin with https://; download"):
        Sources([f"{scheme}://example.org/a.txt"])


def test_no_home_and_no_temporary_folder_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SCRIVEN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(InputError, match="set SCRIVEN_CACHE"):
        cache_folder()
    monkeypatch.setattr("tempfile.mkdtemp", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "x")))
    with pytest.raises(ResourceError, match="set TMPDIR"), temporary_folder():
        pass


DOCUMENTS = {
    "html": b"\n<!DOCTYPE html>\n<html><body><p>Text</p>",
    "xml": b'<?xml version="1.0"?><TEI><p>Text</p></TEI>',
    "pdf": b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\n",
    "rtf": b"{\\rtf1\\ansi Text}",
    "docx": b"PK\x03\x04" + bytes(26) + b"word/document.xml",
    "epub": b"PK\x03\x04" + bytes(26) + b"mimetypeapplication/epub+zip",
    "odt": b"PK\x03\x04" + bytes(26) + b"mimetypeapplication/vnd.oasis.opendocument.text",
    "archive": b"PK\x03\x04" + bytes(40),
    "subtitles": b"1\r\n00:00:01,000 --> 00:00:02,000\r\nHello.\r\n",
    "mbox": b"From a@b Mon\nFrom: a@b\nTo: c@d\nSubject: x\n\nText\n",
    "email": b"Return-Path: <a@b>\nReceived: by x\n  with y\nSubject: x\n\nText\n",
    "notebook": json.dumps({"cells": [], "nbformat": 4}, indent=1).encode(),
    "json": json.dumps([{"title": "t", "text": SENTENCE * 50}] * 60).encode(),
    "jsonl": b'{"text": "a"}\n{"text": "b"}\n',
    "doc": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
    "packed": b"7z\xbc\xaf\x27\x1c" + bytes(60),
    "compressed": bz2.compress(b"text"),
    "slides": b"PK\x03\x04" + bytes(26) + b"ppt/presentation.xml",
    "spreadsheet": b"PK\x03\x04" + b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet",
    "xlsx": b"PK\x03\x04" + bytes(26) + b"xl/workbook.xml",
    "ebook": bytes(60) + b"BOOKMOBI" + bytes(60),
    "chat": b"[01/02/23, 10:11:12] Ann: Hi\n" * 3,
    "sqlite": b"SQLite format 3\0" + bytes(90),
    "image": b"GIF89a" + bytes(20),
    "gzip": gzip.compress(b"text"),
}


REFUSED = ("xml", "doc", "packed", "compressed", "slides", "ebook", "image", "gzip")


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_documents_are_recognised_by_their_first_bytes(kind: str) -> None:
    assert recognise_bytes(DOCUMENTS[kind]) == kind


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("suffix", ["txt", "unknown"])
def test_documents_are_refused_by_name(kind: str, suffix: str, tmp_path: Path) -> None:
    path = put(tmp_path, f"a.{suffix}", DOCUMENTS[kind])
    with pytest.raises(InputError, match=r" is .*, not text: ") as caught:
        loaded(path)
    assert "\n" not in str(caught.value)
    put(tmp_path, "b.txt", SENTENCE * 20)
    corpus = loaded(tmp_path)
    assert text_of(corpus) == SENTENCE * 20
    assert any(f"a.{suffix} (" in note for note in corpus.notes)


@pytest.mark.parametrize(
    "text",
    [
        '[Event "Club"]\n[Result "1-0"]\n\n1. e4 e5', "[1] See the note.\n", "[ ] to do\n", "{x}",
        "<p align=center>A title</p>\n\nText", "From the hills\nthe river: came\n", "1\n2\n3\n",
        "To: see\nor not\n", '["Hello"] he said.\n', "Subject: a story\n\nOnce upon a time\n", "",
        "[2024-01-02 10:11:12] INFO: started\n[2024-01-02 10:11:13] WARN: slow\n" * 3,
        "12.3.1999, 10:11 Uhr: It rains.\n" * 5,
    ],
)  # fmt: skip
def test_texts_that_only_look_like_documents_are_text(text: str) -> None:
    assert recognise_bytes(text.encode()) is None


def test_a_part_of_a_page_is_one_by_its_name(tmp_path: Path) -> None:
    for name in ("a.html", "a.HTM.gz"):
        content = b"<p>Text</p>"
        path = put(tmp_path, name, gzip.compress(content) if name.endswith("gz") else content)
        assert documents(path) == ["Text"]
    with pytest.raises(InputError, match="cannot be read as a PDF document"):
        loaded(put(tmp_path, "a.txt", b"\n\n%PDF-1.7\n1 0 obj\n"))


def test_json_lines_are_read_whatever_the_file_is_called(tmp_path: Path) -> None:
    assert documents(put(tmp_path, "a.json", DOCUMENTS["jsonl"])) == ["a", "b"]


def test_a_format_takes_over_the_kind_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = put(tmp_path, "a.xyz", "<?xml version='1.0'?><p>Text</p>")
    reader = put(tmp_path, "more/xml.py", "")
    reader.write_text(
        "from scriven.data.formats.base import document_chunks\nSUFFIXES = ()\n"
        "def read(path, settings, start=0, end=None, ends_document=True):\n"
        "    return document_chunks('read')\n"
    )
    paths = [*formats.__path__, str(reader.parent)]
    monkeypatch.setattr(formats, "__path__", paths)
    assert formats.__spec__ is not None
    monkeypatch.setattr(formats.__spec__, "submodule_search_locations", paths)
    assert documents(page) == ["read"]


def test_a_named_format_reads_anything(tmp_path: Path) -> None:
    page = put(tmp_path, "a.html", "<html><p>Text</p>")
    assert documents(page, format="txt") == ["<html><p>Text</p>"]
    with pytest.raises(InputError, match="unknown format 'klingon'"):
        documents(page, format="klingon")
