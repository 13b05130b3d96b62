"""Documents as they lie around: sixty kinds in one folder, read to the character or refused."""

import json
import subprocess
import sys
from pathlib import Path

import docx
import pypdf
import pytest
import sixty
from field import documents, loaded, put, rows, text_of
from odf import opendocument, teletype, text

from scriven.data.sources import Sources, are_pairs
from scriven.errors import InputError, MissingExtra
from scriven.settings import DataSettings

SETTINGS = DataSettings(encoding="auto", files="*")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, sixty.Kinds]:
    path = tmp_path_factory.mktemp("sixty")
    return path, sixty.write_folder(path)


def test_sixty_kinds_in_one_folder_are_read_or_refused_by_name(
    folder: tuple[Path, sixty.Kinds],
) -> None:
    path, kinds = folder
    kinds["letter.docx.gz"] = kinds["letter.docx"]
    with Sources([str(path)], SETTINGS) as sources:
        (note,) = sources.notes
        read: sixty.Kinds = {}
        for source in sources.files:
            assert source.path is not None
            name = source.path.relative_to(path).as_posix()
            read[name] = documents(source.path, encoding="auto", files="*")
    refused = {name: reason for name, reason in kinds.items() if isinstance(reason, str)}
    wrong = {name for name in kinds.keys() - refused.keys() if read.get(name) != kinds[name]}
    assert {name: (read.get(name), kinds[name]) for name in wrong} == {}
    assert not read.keys() & refused.keys()
    # the table names the first few of each row
    assert note.startswith(f"{path}: {len(read)} files to read\n") and "  refused " in note
    assert len(kinds) >= 60


def test_documents_equal_what_other_libraries_read(folder: tuple[Path, sixty.Kinds]) -> None:
    path, _ = folder
    body = docx.Document(str(path / "letter.docx")).iter_inner_content()
    blocks = [
        each.text
        if isinstance(each, docx.text.paragraph.Paragraph)
        else "\n".join("\t".join(cell.text for cell in row.cells) for row in each.rows)
        for each in body
    ]
    assert documents(path / "letter.docx") == ["\n\n".join(blocks)]
    odt = opendocument.load(str(path / "letter.odt"))
    texts = [teletype.extractText(each) for kind in (text.H, text.P) for each in
             odt.getElementsByType(kind)]  # fmt: skip
    assert documents(path / "letter.odt") == ["\n\n".join(texts)]
    pages = pypdf.PdfReader(path / "paper.pdf").pages
    assert documents(path / "paper.pdf") == [
        "\n".join(page.extract_text().strip() for page in pages)
    ]


def test_each_reader_is_left_alone_until_it_is_met(tmp_path: Path) -> None:
    """A plain text is read without loading the readers, or the libraries, of other formats."""
    (tmp_path / "a.txt").write_text("Text")
    script = (
        "import sys; from pathlib import Path; from scriven.data.formats import base;"
        "from scriven.settings import DataSettings;"
        f"list(base.read_documents(Path({str(tmp_path / 'a.txt')!r}), DataSettings()));"
        "print(sorted(x.rpartition('.')[2] for x in sys.modules if x.startswith("
        "'scriven.data.formats.')), 'lxml' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "['base', 'txt'] False\n", done.stderr


@pytest.mark.parametrize(
    ("name", "package"),
    [("page.html", "lxml"), ("letter.docx", "mammoth"), ("paper.pdf", "pypdfium2"),
     ("letter.rtf", "striprtf.striprtf"), ("film.srt", "pysubs2"), ("table.xlsx", "openpyxl")],
)  # fmt: skip
def test_a_missing_library_is_one_line_with_the_extra(
    name: str, package: str, folder: tuple[Path, sixty.Kinds], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"pip install 'scriven\[documents\]'"):
        documents(folder[0] / name)


@pytest.mark.parametrize("newlines", ["lf", "keep"])
def test_an_html_page_is_read_as_a_browser_copies_it(newlines: str, tmp_path: Path) -> None:
    cases = {
        "<p>a <b>b</b>c</p><p> d\r\n e </p>": "a bc\n\nd e",
        "<h1>T</h1>x<div>y</div>z": "T\nx\ny\nz",
        "<ul><li>a<li>b</ul>c<br><br>d": "a\nb\nc\n\nd",
        "<pre>\n  a\n b</pre>c": "  a\n b\nc",
        "<pre>a\n</pre><p>c": "a\n\nc",
        "<table><tr><td><p>a</p><td></td><td>c</tr><tr><td><td>e</table>": "a\t\tc\n\te",
        "a<script>b</script><!-- c --><template>d</template>&lt;e&gt;&copy;": "a<e>©",
        "<textarea>a</textarea><select><option>b</select><p hidden>c<i>d</i></p>e": "e",
        "<p style='color: red; Display:NONE'>a</p>b<span>  </span>c": "b c",
        "<div><div><p>a<p>b</div></div>": "a\n\nb",
        "no tags &amp; no end": "no tags & no end",
        "": "",
    }
    for source, expected in cases.items():
        read = documents(put(tmp_path, "a.html", source), newlines=newlines)
        assert read == [expected], source


def test_a_page_larger_than_a_block_is_read_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "".join(f"<p>Línea {n} <b>x</b>&amp;{n}</p>\n" for n in range(300))
    whole = documents(put(tmp_path, "a.html", source))
    monkeypatch.setattr("scriven.data.decoding.BLOCK", 7)
    assert documents(put(tmp_path, "b.html", source)) == whole
    assert whole == ["\n\n".join(f"Línea {n} x&{n}" for n in range(300))]


@pytest.mark.parametrize("block", [1 << 20, 5])
def test_an_array_larger_than_a_block_is_read_the_same(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compared with what json reads at once."""
    monkeypatch.setattr("scriven.data.decoding.BLOCK", block)
    made = [{"text": f"é{n}]}},", "n": n, "deep": {"a": [n, {"b": f"x\\{n}"}]}} for n in range(40)]
    for indent in (None, 1):
        path = put(tmp_path, f"{indent}.json", json.dumps(made, indent=indent))
        assert rows(path) == made
    assert documents(path, text_column="deep.a.b") == [f"x\\{n}" for n in range(40)]
    path = put(tmp_path, "n.json", "[" + ", ".join(map(str, range(300))) + "]")
    with pytest.raises(InputError, match="row 1 is not a JSON object"):
        rows(path)
    assert rows(path, skip_bad=True) == []


def test_tables_give_the_same_rows_from_every_format(folder: tuple[Path, sixty.Kinds]) -> None:
    path, _ = folder
    expected = [{"text": each, "n": number} for number, each in enumerate(sixty.LINES)]
    for name in ("array.json", "lines.jsonl", "table.parquet", "table.db", "table.xlsx"):
        assert rows(path / name) == expected, name
    assert rows(f"{path / 'table.db'}:notes") == expected
    with Sources([f"{path / 'table.db'}:notes.text"]) as sources:
        assert [chunk.text for chunk in sources.read()] == sixty.LINES


def test_the_whole_folder_is_trained_on_and_resumed_from(folder: tuple[Path, sixty.Kinds]) -> None:
    path, kinds = folder
    corpus = loaded(path, encoding="auto", files="*")
    texts = [each for value in kinds.values() if isinstance(value, list) for each in value]
    assert corpus.documents == len(texts)
    assert loaded(path, encoding="auto", files="*").fingerprint == corpus.fingerprint


def test_bad_files_are_left_out_and_counted_only_when_asked(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path, f"{number}.txt", f"Text {number}. " * 9)
    put(tmp_path, "bad.docx", b"PK\x03\x04 damaged")
    put(tmp_path, "bad.txt", b"caf\xe9 and so on, " * 9)
    with pytest.raises(InputError, match=r"bad\.(txt|docx) .*\(--skip-bad-files leaves such"):
        loaded(tmp_path)
    corpus = loaded(tmp_path, skip_bad_files=True)
    assert text_of(corpus).startswith("Text 0.") and corpus.documents == 3
    (note,) = [note for note in corpus.notes if "bad file" in note]
    assert note.startswith("2 bad files left out:\n") and note.count("\n") == 2
    with pytest.raises(InputError, match="cannot be read as a Word document"):
        loaded(tmp_path / "bad.docx", skip_bad_files=True)
    for number in range(3):
        (tmp_path / f"{number}.txt").unlink()
    with pytest.raises(InputError, match="none of 2 files can be read, first"):
        loaded(tmp_path, skip_bad_files=True)


def test_parallel_texts_and_folders_are_pairs(tmp_path: Path) -> None:
    german, english = ["Es regnet.", "Sie lachte."], ["It rains.", "She laughed."]
    for name, lines in (("book.de", german), ("book.en", english)):
        for chapter in ("a.txt", "b.txt"):
            put(tmp_path, f"{name}/{chapter}", "\n".join(lines) + "\n")
        put(tmp_path, f"one.{name[-2:]}", "\n".join(lines) + "\n")
    pairs = [{"source": a, "target": b} for a, b in zip(german, english, strict=True)]
    folders = [str(tmp_path / "book.de"), str(tmp_path / "book.en")]
    assert are_pairs(folders, DataSettings())
    assert rows(*folders) == pairs * 2
    assert rows(tmp_path / "one.de", tmp_path / "one.en") == pairs
    put(tmp_path, "book.en/b.txt", "One line.\n")
    assert not are_pairs(folders, DataSettings())
