"""A folder of seventy kinds of files with known texts, each written by the library of another
program where there is one."""

import bz2
import gzip
import io
import json
import lzma
import mailbox
import pickle
import sqlite3
import tarfile
import zipfile
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import docx
import openpyxl
import pyarrow
import pyarrow.parquet
from odf.opendocument import OpenDocumentPresentation, OpenDocumentText
from odf.text import H, LineBreak, P, S, Span, Tab
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

PARAGRAPHS = [
    "Mira’s blue lantern — it cost 1 < 2 pounds & a “naïve” smile.",
    "Ünder the old mill 漢字 stood beside кириллица, as ever.",
    "The rain came  twice; nobody wrote it down.",
]
LINES = ["Mira found a lantern near the café.", "It rained at noon, and again.", "Nobody came."]
PLAIN = "".join(f"{line}\n" for line in PARAGRAPHS)
RUSSIAN = "Старик писал письмо вечером.\nДорога шла к реке, голос в доме.\n" * 9
JAPANESE = "山と川と空と海\nこれは日本語の文章です\nいろはにほへとちりぬるを\n" * 9
FRENCH = "L’été où la forêt brûle, déjà la fenêtre s’ouvre.\nÇa va, garçon.\n" * 9
SAID = [("Ann", "Hello there"), ("Bob Ó", "Two\nlines"), ("Ann", "See https://a.example/x & go")]
CHAT = "\n".join(f"{name}: {text}" for name, text in SAID)
PARTED = [" ".join(each.split()) for each in PARAGRAPHS]
"""The paragraphs where white space means nothing."""

Kinds = dict[str, list[str] | str]
"""File name -> its documents, or a word of the reason why it is refused."""


def write_folder(folder: Path) -> Kinds:
    """Writes all files; what each must be read as."""
    kinds: Kinds = {}
    for write in (_texts, _pages, _office, _films_and_mails, _chats, _tables, _packed, _refused):
        for name, (content, expected) in write(folder).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is not None:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
            kinds[name] = [expected] if isinstance(expected, str) else expected
            if isinstance(expected, str) and expected.startswith("refused: "):
                kinds[name] = expected.removeprefix("refused: ")
    return kinds


def _texts(folder: Path) -> dict[str, tuple[Any, Any]]:
    return {
        "utf8.txt": (PLAIN, PLAIN),
        "mark.txt": (b"\xef\xbb\xbf" + PLAIN.encode(), PLAIN),
        "utf16.txt": (PLAIN.encode("utf-16"), PLAIN),
        "cp1252.txt": (FRENCH.encode("cp1252"), FRENCH),
        "koi8.txt": (RUSSIAN.encode("koi8-r"), RUSSIAN),
        "shift-jis.txt": (JAPANESE.encode("cp932"), JAPANESE),
        "crlf.txt": (PLAIN.replace("\n", "\r\n"), PLAIN),
        "marks.txt": ("One.\n<|endoftext|>\nTwo.\n", ["One.\n", "Two.\n"]),
        "notes.md": ("# Title\n\n*One* [two](x)\n", "# Title\n\n*One* [two](x)\n"),
        "page.rst": ("Title\n=====\n\nText\n", "Title\n=====\n\nText\n"),
        "paper.tex": ("\\section{One} Text.\n", "\\section{One} Text.\n"),
        "code.py": ("def f(x):\n    return x\n", "def f(x):\n    return x\n"),
        "code.c": ("int main(void) { return 0; }\n", "int main(void) { return 0; }\n"),
        "README": (PLAIN, PLAIN),
    }


def _html(paragraphs: list[str], head: str = "") -> str:
    escaped = [each.replace("&", "&amp;").replace("<", "&lt;") for each in paragraphs]
    return (
        f"<!doctype html><html><head><title>No text</title>{head}<style>p {{}}</style></head><body>"
        "<script>var no = '<p>text</p>'</script><nav hidden>no</nav>"
        + "".join(f"\n  <p>\n  {each}</p>" for each in escaped)
        + "<p style='display: none'>no</p></body></html>"
    )


def _epub(chapters: list[str]) -> bytes:
    out = io.BytesIO()
    items = "".join(
        f'<item id="c{i}" href="text/c%20{i}.xhtml" media-type="application/xhtml+xml"/>'
        for i in range(len(chapters))
    )
    order = "".join(f'<itemref idref="c{i}"/>' for i in range(len(chapters)))
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        book.writestr(
            "META-INF/container.xml",
            '<?xml version="1.0"?><container version="1.0"'
            ' xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="OEBPS/book.opf"'
            ' media-type="application/oebps-package+xml"/></rootfiles></container>',
        )
        book.writestr(
            "OEBPS/book.opf",
            '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0">'
            f'<manifest>{items}<item id="nav" href="nav.xhtml" properties="nav"'
            ' media-type="application/xhtml+xml"/></manifest>'
            f'<spine><itemref idref="nav"/>{order}</spine></package>',
        )
        book.writestr("OEBPS/nav.xhtml", "<html><body>Contents</body></html>")
        for number, chapter in enumerate(chapters):
            page = (
                f"<html xmlns='http://www.w3.org/1999/xhtml'><body><p>{chapter}</p></body></html>"
            )
            book.writestr(f"OEBPS/text/c {number}.xhtml", f"<?xml version='1.0'?>{page}")
    return out.getvalue()


def _pages(folder: Path) -> dict[str, tuple[Any, Any]]:
    seen = "\n\n".join(PARTED)
    latin = _html(LINES, '<meta charset="iso-8859-1">').encode("latin-1")
    archive = EmailMessage()
    archive["Subject"] = "A page"
    archive.set_content(_html(LINES), subtype="html", cte="quoted-printable")
    table = "<p>One<br>two</p><table><tr><th>a<th>b</tr><tr><td>1</td><td>2</td></tr></table>"
    return {
        "page.html": (_html(PARAGRAPHS), seen),
        "latin.htm": (latin, "\n\n".join(LINES)),
        "table.xhtml": (f"<html><body>{table}</body></html>", "One\ntwo\n\na\tb\n1\t2"),
        "page.mhtml": (archive.as_bytes(), "A page\n\n" + "\n\n".join(LINES)),
        "book.epub": (_epub(LINES), "\n\n".join(LINES)),
    }


def _office(folder: Path) -> dict[str, tuple[Any, Any]]:
    word = docx.Document()
    word.add_heading("A title", 1)
    for each in PARAGRAPHS:
        word.add_paragraph(each)
    word.add_paragraph("One ").add_run("bold").bold = True
    cells = word.add_table(2, 2)
    for number in range(4):
        cells.cell(number // 2, number % 2).text = f"cell {number}"
    word.save(folder / "letter.docx")
    wanted = ["A title", *PARAGRAPHS, "One bold\n\ncell 0\tcell 1\ncell 2\tcell 3"]
    writer = OpenDocumentText()
    writer.text.addElement(H(outlinelevel=1, text="A title"))
    for each in PARAGRAPHS:
        before, _, after = each.partition("  ")
        paragraph = P(text=before)
        if after:
            paragraph.addElement(S(c=2))
            paragraph.addElement(Span(text=after))
        writer.text.addElement(paragraph)
    last = P(text="One")
    for element in (Tab(), Span(text="two"), LineBreak(), Span(text="three")):
        last.addElement(element)
    writer.text.addElement(last)
    writer.save(folder / "letter.odt")
    slides = OpenDocumentPresentation()
    slides.presentation.addElement(P(text=LINES[0]), check_grammar=False)
    slides.save(folder / "talk.odp")
    canvas = Canvas(str(folder / "paper.pdf"), pagesize=A4)
    for line in LINES:
        canvas.drawString(72, 700, line)
        canvas.drawString(72, 680, "Second line.")
        canvas.showPage()
    canvas.save()
    rtf = "{\\rtf1\\ansi\\ansicpg1252{\\fonttbl{\\f0 Arial;}}\\f0 Caf\\'e9 \\b bold\\b0\\par "
    return {
        "letter.docx": (None, "\n\n".join(wanted)),
        "letter.odt": (None, "\n\n".join(["A title", *PARAGRAPHS, "One\ttwo\nthree"])),
        "talk.odp": (None, LINES[0]),
        "paper.pdf": (None, "\n".join(f"{line}\nSecond line." for line in LINES)),
        "letter.rtf": (rtf + "\\u28450?\\u8212?{\\*\\x no}end}", "Café bold\n漢—end"),
    }


def _films_and_mails(folder: Path) -> dict[str, tuple[Any, Any]]:
    film = "1\r\n00:00:01,000 --> 00:00:02,000\r\n<i>Hello</i>\r\nyou\r\n\r\n2\r\n"
    film += "00:00:03,000 --> 00:00:04,500\r\n- Good &amp; bad, é.\r\n"
    web = "WEBVTT\n\nNOTE a\nremark\n\n00:01.000 --> 00:02.000 align:start\n<v Ann>Hello</v> you\n"
    web += "\nlast\n00:03.000 --> 00:04.000\n1 &lt; 2\n"
    styled = (
        "[Script Info]\nScriptType: v4.00+\n\n[Events]\nFormat: Layer, Start, End, Style, Name,"
    )
    styled += (
        " MarginL, MarginR, MarginV, Effect, Text\nComment: 0,0:00:00.00,0:00:01.00,,,0,0,0,,no\n"
    )
    styled += "Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{\\i1}Hello,\\Nyou\n"
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "a@b.example", "c@d.example", "Grüße, 漢字"
    mail.set_content("Hello,\n\n" + PLAIN)
    mail.add_alternative("<p>no</p>", subtype="html")
    mail.add_attachment(b"no", maintype="image", subtype="png", filename="a.png")
    page = EmailMessage()
    page["From"], page["To"], page["Subject"] = "a@b.example", "c@d.example", "Page"
    page.set_content(_html(LINES), subtype="html")
    box = mailbox.mbox(folder / "all.mbox")
    for number in range(3):
        each = EmailMessage()
        each["From"], each["Subject"] = "a@b.example", f"Number {number}"
        each.set_content(
            f"From here on it rains.\n\nFrom there\n{LINES[number]}\n", charset="utf-8"
        )
        box.add(each)
    box.close()
    letters = [f"Number {n}\n\nFrom here on it rains.\n\nFrom there\n{LINES[n]}" for n in range(3)]
    return {
        "film.srt": (film, "Hello\nyou\n- Good & bad, é."),
        "film.vtt": (web, "Hello you\n1 < 2"),
        "film.ass": (styled, "Hello,\nyou"),
        "letter.eml": (mail.as_bytes(), "Grüße, 漢字\n\nHello,\n\n" + PLAIN.rstrip()),
        "page.eml": (page.as_bytes(), "Page\n\n" + "\n\n".join(LINES)),
        "all.mbox": (None, letters),
    }


def _chats(folder: Path) -> dict[str, tuple[Any, Any]]:
    notice = "Messages and calls are end-to-end encrypted."
    phone = f"\u200e[01/02/23, 10:11:12] Ann: \u200e{notice[:8]} omitted\n"
    phone += "".join(f"[01/02/23, 10:11:1{i}\u202fPM] {n}: {t}\n" for i, (n, t) in enumerate(SAID))
    android = f"1/2/23, 9:05 - {notice}\n" + "".join(f"1/2/23, 9:06 - {n}: {t}\n" for n, t in SAID)
    telegram = {
        "name": "Ann", "type": "personal_chat", "id": 1,
        "messages": [{"id": 0, "type": "service", "action": "phone_call", "text": ""}]
        + [{"id": 1, "type": "message", "from": n, "text": t} for n, t in SAID[:2]]
        + [{"id": 2, "type": "message", "from": "Ann", "text": [
            "See ", {"type": "link", "text": "https://a.example/x"}, " & go"]}],
    }  # fmt: skip
    joined = {"id": "0", "type": "GuildMemberJoin", "content": "no", "author": {"name": "x"}}
    discord = {
        "guild": {"id": "1", "name": "G"}, "channel": {"id": "2"}, "dateRange": {"after": None},
        "messages": [joined] + [
            {"type": "Default", "content": t, "author": {"name": "a", "nickname": n}}
            for n, t in SAID
        ],
    }  # fmt: skip
    slack: list[dict[str, Any]] = [
        {
            "type": "message",
            "subtype": "channel_join",
            "user": "U1",
            "text": "no",
            "ts": "1600000000.1",
        }
    ]
    for name, text in SAID:
        text = text.replace("&", "&amp;").replace("https://a.example/x", "<https://a.example/x>")
        user = "U1" if name == "Ann" else "U2"
        slack.append({"type": "message", "user": user, "text": text, "ts": "1600000001.200"})
    users = [{"id": f"U{i + 1}", "profile": {"real_name": SAID[i][0]}} for i in range(2)]
    signal = [{"date": "2023-01-02 10:11:12", "sender": n, "body": t, "quote": "", "sticker": "",
               "reactions": [], "attachments": []} for n, t in SAID]  # fmt: skip
    messenger = {"participants": [{"name": "Ann"}], "messages": [
        {"sender_name": n.encode().decode("latin-1"), "timestamp_ms": 1, "content": t}
        for n, t in reversed(SAID)]}  # fmt: skip
    return {
        "_chat.txt": (phone, CHAT),
        "WhatsApp Chat with Ann.txt": (android, CHAT),
        "result.json": (json.dumps(telegram, indent=1), CHAT),
        "discord.json": (json.dumps(discord, indent=1), CHAT),
        "slack/general/2020-09-13.json": (json.dumps(slack), CHAT),
        "slack/users.json": (json.dumps(users), "refused: without texts"),
        "signal.json": ("\n".join(map(json.dumps, signal)), CHAT),
        "message_1.json": (json.dumps(messenger), CHAT),
    }


def _tables(folder: Path) -> dict[str, tuple[Any, Any]]:
    rows = [{"text": each, "n": number} for number, each in enumerate(LINES)]
    nested = {"version": 1, "data": [{"text": each} for each in LINES]}
    comma = "n,text\n" + "".join(f'{i},"{each}"\n' for i, each in enumerate(LINES))
    sheet = openpyxl.Workbook()
    sheet.active.append(["n", "text"])
    for row in rows:
        sheet.active.append([row["n"], row["text"]])
    sheet.save(folder / "table.xlsx")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "table.parquet")
    with sqlite3.connect(folder / "table.db") as base:
        base.execute("CREATE TABLE notes (n INTEGER, text TEXT)")
        base.executemany("INSERT INTO notes VALUES (?, ?)", [(r["n"], r["text"]) for r in rows])
    base.close()
    cells = [{"cell_type": "markdown", "source": ["# Title\n", "Text"]},
             {"cell_type": "code", "source": "print(1)", "outputs": [{"text": "1"}]}]  # fmt: skip
    return {
        "array.json": (json.dumps(rows, indent=2), LINES),
        "texts.json": (json.dumps(LINES), LINES),
        "nested.json": (json.dumps(nested), LINES),
        "lines.jsonl": ("\n".join(map(json.dumps, rows)), LINES),
        "comma.csv": (comma, LINES),
        "semicolon.csv": ("text;n\n" + "".join(f"{each};1\n" for each in LINES), LINES),
        "tabs.tsv": ("text\tn\n" + "".join(f"{each}\t1\n" for each in LINES), LINES),
        "table.parquet": (None, LINES),
        "table.db": (None, LINES),
        "table.xlsx": (None, LINES),
        "book.ipynb": (json.dumps({"cells": cells, "nbformat": 4}), "# Title\nText\n\nprint(1)"),
    }


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as container:
        for name, content in files.items():
            container.writestr(name, content)
    return out.getvalue()


def tarred(files: dict[str, bytes], mode: Any = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as container:
        for name, content in files.items():
            part = tarfile.TarInfo(name)
            part.size = len(content)
            container.addfile(part, io.BytesIO(content))
    return out.getvalue()


def _packed(folder: Path) -> dict[str, tuple[Any, Any]]:
    files = {
        "a.txt": b"One.\n",
        "b/c.html": b"<p>Two.</p>",
        "b/.hidden.txt": b"no",
        "d.png": b"\x89PNG\r\n",
    }
    deep = tarred({"x/all.zip": zipped(files), "y.md": b"Three."}, "w:xz")
    letter = gzip.compress((folder / "letter.docx").read_bytes())
    read = ["One.\n", "Two."]
    table = "text\nOne.\nTwo.\n"
    return {
        "all.zip": (zipped(files), read),
        "all.tar": (tarred(files), read),
        "all.tgz": (tarred(files, "w:gz"), read),
        "deep.tar.xz": (deep, [*read, "Three."]),
        "plain.txt.gz": (gzip.compress(PLAIN.encode()), PLAIN),
        "rows.jsonl.bz2": (bz2.compress(json.dumps({"text": LINES[0]}).encode()), LINES[:1]),
        "rows.csv.xz": (lzma.compress(table.encode()), ["One.", "Two."]),
        "plain.md.zst": (pyarrow.compress(PLAIN.encode(), "zstd", asbytes=True), PLAIN),
        "page.html.gz": (gzip.compress(_html(LINES).encode()), "\n\n".join(LINES)),
        "letter.docx.gz": (letter, "as letter.docx"),
    }  # fmt: skip


def _refused(folder: Path) -> dict[str, tuple[Any, Any]]:
    slides = zipped({"[Content_Types].xml": b"", "ppt/presentation.xml": b""})
    sheet = io.BytesIO()
    with zipfile.ZipFile(sheet, "w") as container:
        container.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
    return {
        "old.doc": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "refused: old Office"),
        "slides.pptx": (slides, "refused: PowerPoint"),
        "sheet.ods": (sheet.getvalue(), "refused: spreadsheet"),
        "text.xml": ("<?xml version='1.0'?><TEI/>", "refused: XML"),
        "print.ps": ("%!PS-Adobe\n", "refused: PostScript"),
        "all.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(60), "refused: 7-Zip"),
        "book.mobi": (bytes(60) + b"BOOKMOBI" + bytes(60), "refused: Kindle"),
        "logo.png": (b"\x89PNG\r\n\x1a\n" + bytes(60), "refused: image"),
        "song.mp3": (b"ID3" + bytes(60), "refused: sound"),
        "film.mp4": (bytes(4) + b"ftypmp42" + bytes(60), "refused: sound or video"),
        "model.gguf": (b"GGUF" + bytes(60), "refused: GGUF"),
        "data.pkl": (pickle.dumps({"a": 1}), "refused: pickle"),
        "tool.exe": (b"MZ\x90\0" + bytes(60), "refused: program"),
    }
