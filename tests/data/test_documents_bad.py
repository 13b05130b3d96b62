"""Documents and addresses that cannot be read: one line, exit code 2, nothing is left behind."""
# ruff: noqa: E501

import io
import json
import os
import sqlite3
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import docx
import openpyxl
import pytest
import sixty
from field import documents as texts
from field import rows
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from scriven.cli import run
from scriven.config import cache_folder
from scriven.data import documents, download
from scriven.data.formats import archive

ENTITIES = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
)
BOMB = f"{ENTITIES}]><x>&j;</x>".encode()
OUTSIDE = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>'
MANIFEST = b"<manifest/>"


def changed_part(content: bytes, name: str, new: bytes | None) -> bytes:
    """A zip in which a part is replaced, added, or left out (None)."""
    with zipfile.ZipFile(io.BytesIO(content)) as container:
        parts = {each: container.read(each) for each in container.namelist()}
    parts[name] = b"" if new is None else new
    return sixty.zipped({each: part for each, part in parts.items() if each != name or part})


def word(name: str = "", new: bytes | None = None) -> bytes:
    """A Word document, in which a part may be changed."""
    out = io.BytesIO()
    docx.Document().save(out)
    return changed_part(out.getvalue(), name, new) if name else out.getvalue()


def odt(content: bytes, manifest: bytes = MANIFEST) -> bytes:
    kind = b"application/vnd.oasis.opendocument.text"
    return sixty.zipped(
        {"mimetype": kind, "META-INF/manifest.xml": manifest, "content.xml": content}
    )


def epub(name: str = "", new: bytes | None = None) -> bytes:
    """A book whose only chapter lies outside of it, in which a part may be changed."""
    item = b'<item id="a" href="../../../../etc/passwd" media-type="a/html"/>'
    spine = b'<spine><itemref idref="a"/></spine>'
    parts = {
        "mimetype": b"application/epub+zip",
        "META-INF/container.xml": b'<c><rootfile full-path="a.opf"/></c>',
        "a.opf": b"<package><manifest>" + item + b"</manifest>" + spine + b"</package>",
    }
    return changed_part(sixty.zipped(parts), name, new) if name else sixty.zipped(parts)


def pdf(path: Path, **named: object) -> bytes:
    canvas = Canvas(str(path), **named)
    canvas.rect(10, 10, 90, 90, fill=1)
    if named:
        canvas.drawString(72, 700, "Secret.")
    canvas.save()
    return path.read_bytes()


def linked(kind: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as container:
        part = tarfile.TarInfo("a.txt")
        part.type, part.linkname = kind, "/etc/passwd"
        container.addfile(part)
    return out.getvalue()


def zip_link() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as container:
        part = zipfile.ZipInfo("a.txt")
        part.external_attr = (stat.S_IFLNK | 0o777) << 16
        container.writestr(part, "/etc/passwd")
    return out.getvalue()


def nested(depth: int, name: str = "a.txt", text: bytes = b"Text. " * 50) -> bytes:
    content = sixty.zipped({name: text})
    for number in range(depth):
        content = sixty.zipped({f"{number}.zip": content})
    return content


def changed(content: bytes, old: bytes, new: bytes) -> bytes:
    assert old in content
    return content.replace(old, new)


def database(path: Path, *statements: str) -> bytes:
    with sqlite3.connect(path) as base:
        for statement in statements:
            base.execute(statement)
    base.close()
    return path.read_bytes()


def attachment() -> bytes:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "a@b.example", "c@d.example", "A picture"
    mail.set_content(b"\x89PNG", maintype="image", subtype="png")
    return mail.as_bytes()


def sheet(*rows: tuple[object, ...]) -> bytes:
    book, out = openpyxl.Workbook(), io.BytesIO()
    for row in rows:
        book.active.append(row)
    book.save(out)
    return out.getvalue()


ZIP = sixty.zipped({"a.txt": b"Text. " * 999})
NOTES = "CREATE TABLE notes (body TEXT)"

BAD: dict[str, tuple[Callable[[Path], bytes | str], str]] = {
    # archives
    "cut.zip": (lambda _: ZIP[:-30], "cannot be read as an archive"),
    "crc.zip": (lambda _: ZIP[:50] + b"\xff\xff" + ZIP[52:], "cannot be read as an archive"),
    "secret.zip": (lambda _: changed(ZIP, b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"), "is encrypted"),
    "deep.zip": (lambda _: nested(3), "lies in 3 other archives"),
    "up.zip": (lambda _: sixty.zipped({"x/../../up.txt": b"x"}), "leads out of the archive"),
    "up.tar": (lambda _: sixty.tarred({"../up.txt": b"x"}), "leads out of the archive"),
    "root.tar": (lambda _: sixty.tarred({"/tmp/up.txt": b"x"}), "leads out of the archive"),
    "link.zip": (lambda _: zip_link(), "holds no text"),
    "link.tar": (lambda _: linked(tarfile.SYMTYPE), "holds no text"),
    "hard.tar": (lambda _: linked(tarfile.LNKTYPE), "holds no text"),
    "device.tar": (lambda _: linked(tarfile.CHRTYPE), "holds no text"),
    "bomb.zip": (lambda _: sixty.zipped({"a.txt": bytes(3 << 20)}), "more than 1.05 MB"),
    "bomb.tgz": (lambda _: sixty.tarred({"a.txt": bytes(3 << 20)}, "w:gz"), "more than 1.05 MB"),
    "many.zip": (lambda _: sixty.zipped({f"{i}.txt": b"x" for i in range(60)}), "more than 50 files"),
    "empty.zip": (lambda _: sixty.zipped({}), "holds no text"),
    "pictures.tar": (lambda _: sixty.tarred({"a.png": b"\x89PNG\r\n"}), "a.png (an image)"),
    # Office
    "cut.docx": (lambda _: word()[:2000], "cannot be read as a Word document"),
    "bomb.docx": (lambda _: word("word/document.xml", BOMB), "declares XML entities"),
    "large.docx": (lambda _: word("word/document.xml", b" " * (2 << 20)), "larger than 1.05 MB"),
    "macro.docx": (lambda _: word("word/vbaProject.bin", b"x"), "holds macros"),
    "hollow.docx": (lambda _: word("word/document.xml"), "cannot be read as a Word document"),
    "secret.docx": (lambda _: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "without a password"),
    "slides.pptx": (lambda _: sixty.zipped({"ppt/a.xml": b""}), "is a PowerPoint presentation"),
    "bomb.odt": (lambda _: odt(BOMB), "declares XML entities"),
    "outside.odt": (lambda _: odt(OUTSIDE), "declares XML entities"),
    "secret.odt": (lambda _: odt(b"<x/>", b"<m encryption-data='1'/>"), "is encrypted"),
    "broken.odt": (lambda _: odt(b"<x><y></x>"), "cannot be read as"),
    "cut.rtf": (lambda _: b"{\\rtf1\\ansi Text", "is cut off"),
    "binary.rtf": (lambda _: b"{\\rtf1 \\bin5 abcde}", "holds binary data"),
    "bomb.xlsx": (lambda _: changed_part(sheet(("text",), ("a",)), "xl/worksheets/sheet1.xml", BOMB), "cannot be read as a spreadsheet"),
    "empty.xlsx": (lambda _: sheet(), "is empty: name the columns"),
    "other.xlsx": (lambda _: sheet(("body",), ("Text",)), "has no column 'text'"),
    "twice.xlsx": (lambda _: sheet(("text", "text"), ("a", "b")), "two columns 'text'"),
    # books, pages, mails
    "hollow.epub": (lambda _: epub("META-INF/container.xml"), "has no part META-INF"),
    "outside.epub": (lambda _: epub(), "has no part"),
    "drm.epub": (lambda _: epub("META-INF/encryption.xml", b"<e><EncryptionMethod Algorithm='x'/></e>"), "copy protection"),
    "secret.pdf": (lambda f: pdf(f, encrypt=StandardEncryption("password")), "is encrypted"),
    "scan.pdf": (lambda f: pdf(f), "1 page without any text"),
    "cut.pdf": (lambda _: b"%PDF-1.4\n1 0 obj\n", "cannot be read as a PDF document"),
    "wrong.html": (lambda _: b"<p>caf\xe9 and more</p>", "is not utf-8 text"),
    "wrong.srt": (lambda _: b"1\n00:00:01,000 --> 00:00:02,000\n\n", "has no subtitles"),
    "empty.eml": (lambda _: attachment(), "it holds attachments alone"),
    "none.mbox": (lambda _: b"Dear all,\nno mailbox.\n", "is no mailbox"),
    # data
    "cut.json": (lambda _: b'[{"text": "a"}, {"text": "b', "row 2 is not JSON"),
    "wrong.json": (lambda _: b'[{"text": "a"} {"text": "b"}]', "row 1 is not JSON: no comma"),
    "deep.json": (lambda _: b"[" * 100_000, "nested too deeply"),
    "other.json": (lambda _: b'[{"body": "a"}]', "no column 'text'"),
    "hollow.ipynb": (lambda _: json.dumps({"cells": [], "nbformat": 4}), "no cell with a text"),
    "hollow.txt.gz": (lambda _: b"\x1f\x8b\x08\0cut", "is damaged"),
    "two.db": (lambda f: database(f, NOTES, "CREATE TABLE b (c)"), "has 2 tables: name one"),
    "view.db": (lambda f: database(f, NOTES, "DROP TABLE notes", "CREATE VIEW v AS SELECT 1 AS text"), "has 0 tables"),
    "other.db": (lambda f: database(f, NOTES), "no column 'text'"),
    "cut.db": (lambda f: database(f, NOTES)[:1000], "cannot be read as a SQLite database"),
}  # fmt: skip


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., str]]:
    """Trains on something that cannot be read, and gives the one line that says so."""
    (tmp_path / "work").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(archive, "copy_limit", lambda path: 1 << 20)
    monkeypatch.setattr(documents, "copy_limit", lambda path: 1 << 20)
    monkeypatch.setattr(documents, "LARGEST_PART", 1 << 20)
    monkeypatch.setattr(archive, "MOST_PARTS", 50)

    def train(name: str) -> str:
        before = sorted(os.listdir("."))
        assert run(["train", name, "--budget", "2steps", "--size", "tiny"]) == 2
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("\n") == 1, said.err
        assert sorted(os.listdir(".")) == before and not os.listdir(tmp_path / "temporary")
        return said.err

    yield train
    assert not (tmp_path / "up.txt").exists()


@pytest.mark.parametrize("name", BAD)
def test_a_bad_document_is_one_line(name: str, refused: Callable[..., str]) -> None:
    make, reason = BAD[name]
    content = make(Path(name))
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert reason in refused(name)


def test_what_lies_in_three_archives_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(nested(2))
    assert texts(path) == ["Text. " * 50]
    path.write_bytes(nested(2, "a.csv", b"text,label\nfine,good\n"))
    assert rows(path) == [{"text": "fine", "label": "good"}]


def test_forty_kinds_are_tried() -> None:
    assert len(BAD) >= 40


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a.db:nots", "has no table 'nots': did you mean notes?"),
     ("a.db:notes.text2", "no column 'text2'"), ("b.db:notes", "does not exist")],
)  # fmt: skip
def test_a_missing_table_is_one_line(name: str, reason: str, refused: Callable[..., str]) -> None:
    database(Path("a.db"), NOTES, "INSERT INTO notes VALUES ('x')")
    assert reason in refused(name)


class Handler(BaseHTTPRequestHandler):
    """A server with a page, and with all that goes wrong."""

    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        Handler.asked.append(self.path)
        to = {"/file": "file:///etc/passwd", "/ftp": "ftp://127.0.0.1/a", "/loop": "/loop",
              "/moved": "/page.html"}.get(self.path)  # fmt: skip
        if to is not None:
            self.send_response(302)
            self.send_header("Location", to)
            self.end_headers()
        elif self.path in ("/page.html", "/book", "/cut.txt", "/large.txt", "/endless.txt"):
            body = b"<p>It rains.</p>" * 40
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            if self.path != "/endless.txt":
                size = {"/cut.txt": len(body) + 9, "/large.txt": 1 << 40}
                self.send_header("Content-Length", str(size.get(self.path, len(body))))
            self.end_headers()
            self.wfile.write(body * (99 if self.path == "/endless.txt" else 1))
        elif self.path == "/silent":
            Handler.waiting.wait(5)
        else:
            self.send_error(404)

    waiting = threading.Event()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A server without encryption, which only this test allows."""
    monkeypatch.setenv("SCRIVEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "SCHEMES", ("http",))
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    monkeypatch.setattr(download, "LARGEST", 20_000)
    Handler.asked, Handler.waiting = [], threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        Handler.waiting.set()
        running.shutdown()


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/none.txt", "HTTP Error 404"), ("/silent", "timed out"), ("/file", "file:///etc/passwd"),
     ("/ftp", "addresses must begin with http://"), ("/loop", "infinite loop"),
     ("/cut.txt", "was cut after 640 of 649 bytes"), ("/large.txt", "1.1 TB, more than 20 kB"),
     ("/endless.txt", "more than 20 kB")],
)  # fmt: skip
def test_a_bad_address_is_one_line(
    path: str, reason: str, server: str, refused: Callable[..., str]
) -> None:
    assert reason in refused(server + path)
    kept = [each for each in (cache_folder() / "downloads").rglob("*") if each.is_file()]
    assert [each.name for each in kept] == [".lock"]


def test_an_address_without_a_server_is_one_line(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SCHEMES", ("http",))
    assert "could not be downloaded" in refused("http://127.0.0.1:9/a.txt")
    assert "is no address" in refused("http://[")


def test_an_address_is_downloaded_once_and_its_checksum_kept(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("/moved", "/book"):
        command = ["train", server + name, "--budget", "2steps", "--size", "tiny", "--quiet"]
        assert run([*command, "--model.context_length", "16", "--out", f"runs{name}"]) == 0
        data = json.loads(Path(f"runs{name}/scriven.json").read_text())["data"]
        assert data["sources"] == [server + name]
        (kept,) = data["downloads"]
        assert f"{server}{name}: 640 bytes, SHA-256 " in kept
        assert data["characters"] == len("\n\n".join(["It rains."] * 40))
    assert Handler.asked == ["/moved", "/page.html", "/book"]
    path, _ = download.download_address(server + "/book")
    assert path.name == "book.html"
    path.write_bytes(b"changed")
    with pytest.raises(Exception, match="is not what was downloaded: delete it"):
        download.download_address(server + "/book")
