"""Tables as people have them: stray quotes, compression, no header, two parallel texts."""

import bz2
import csv
import gzip
import io
import json
import lzma
from pathlib import Path

import pytest
from field import SENTENCE, documents, loaded, put, rows, text_of

from scriven.data.pipeline import load_dataset
from scriven.data.sources import are_pairs
from scriven.errors import InputError
from scriven.settings import DataSettings, TokenizerSettings
from scriven.train.load_table import infer_task

ROWS = [(number, f"{SENTENCE} {number}") for number in range(600)]


@pytest.mark.parametrize("where", [1, 100, 598, 599])
def test_a_stray_quote_costs_one_row(where: int, tmp_path: Path) -> None:
    lines = [f'{n},"{text}' if n == where else f"{n},{text}" for n, text in ROWS]
    path = put(tmp_path, "a.csv", "\n".join(["id,text", *lines]) + "\n")
    with pytest.raises(InputError, match=f"row {where + 2} "):
        rows(path)
    found = rows(path, skip_bad=True)
    assert [int(row["id"]) for row in found] == [n for n, _ in ROWS if n != where]


@pytest.mark.parametrize("columns", ["id,text", "text,id", "text,kind"])
def test_a_quote_that_is_closed_pages_later_swallows_no_rows(columns: str, tmp_path: Path) -> None:
    lines = []
    for number, text in ROWS:
        text = f'"{text}' if number == 100 else f'{text}"' if number == 300 else text
        values = {"id": str(number), "text": text, "kind": "good" if number % 2 else "bad"}
        lines.append(",".join(values[name] for name in columns.split(",")))
    path = put(tmp_path, "a.csv", "\n".join([columns, *lines]) + "\n")
    with pytest.raises(InputError, match="row 102 opens a quote"):
        rows(path)
    assert len(rows(path, skip_bad=True)) == 599


@pytest.mark.parametrize("breaks", [1, 2, 5])
def test_quoted_texts_of_several_lines_before_their_labels_are_read(
    breaks: int, tmp_path: Path
) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    texts = [
        f"{SENTENCE}" + "\nand so, on".join([""] * breaks) + f'\n"more" {n}' for n in range(40)
    ]
    writer.writerows([("text", "label"), *((text, "ab"[n % 2]) for n, text in enumerate(texts))])
    path = put(tmp_path, "a.csv", file.getvalue())
    assert [row["text"] for row in rows(path)] == texts


def test_several_stray_quotes_cost_a_row_each(tmp_path: Path) -> None:
    stray = {3, 50, 51, 200, 201, 202, 577}
    lines = [f'{n},"{text}' if n in stray else f"{n},{text}" for n, text in ROWS]
    path = put(tmp_path, "a.csv", "\n".join(["id,text", *lines]))
    assert len(rows(path, skip_bad=True)) == 600 - len(stray)
    corpus = loaded(path, skip_bad=True)
    assert any(note.startswith("7 rows were skipped") for note in corpus.notes)


def test_real_quotes_over_several_lines_are_read(tmp_path: Path) -> None:
    poem = "\n".join(f"a line of verse {n}," for n in range(20))
    texts = [
        poem,
        "one, two\nthree, four",
        'she said: "no"\n\nand left',
        "a\nb\nc\nd\ne\nf",
        "x, y",
    ]
    out = io.StringIO()
    csv.writer(out).writerows([("id", "text"), *((n, text) for n, text in enumerate(texts))])
    found = rows(put(tmp_path, "a.csv", out.getvalue()))
    assert [row["text"] for row in found] == texts
    out = io.StringIO()
    csv.writer(out).writerows([("text", "label"), *((text, "sad") for text in texts)])
    found = rows(put(tmp_path, "b.csv", out.getvalue()))
    assert [row["text"] for row in found] == texts


def test_quotes_after_a_backslash_are_part_of_the_field(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", 'id,text\n1,"he said \\"no, never\\""\n2,x\n3,"a\\"\n4,y\n')
    assert [row["text"] for row in rows(path)] == ['he said "no, never"', "x", "a\\", "y"]


@pytest.mark.parametrize("table", ["quotes", "spoken"])
def test_a_tsv_has_no_quoting(table: str, tmp_path: Path) -> None:
    texts = [text for _, text in ROWS[:120]]
    if table == "quotes":
        texts[20], texts[30] = '"' + texts[20], texts[30] + ' 12"'
    else:
        texts = [f'"Yes," {text}' if n % 10 == 0 else text for n, text in enumerate(texts)]
    path = put(tmp_path, "a.tsv", "\n".join(["text\tlabel", *(f"{t}\tgood" for t in texts)]))
    assert [row["text"] for row in rows(path)] == texts


def test_a_quoted_header_or_the_setting_says_that_a_tsv_has_quotes(tmp_path: Path) -> None:
    body = '"a ""b""\nc"\tgood\n'
    assert rows(put(tmp_path, "a.tsv", '"text"\t"label"\n' + body))[0]["text"] == 'a "b"\nc'
    plain = put(tmp_path, "b.tsv", "text\tlabel\n" + body)
    assert rows(plain, quoting="double")[0]["text"] == 'a "b"\nc'
    with pytest.raises(InputError, match=r"--data\.quoting=double"):
        rows(put(tmp_path, "c.tsv", 'text\tlabel\n"a\tb"\tgood\n'))


def test_single_quotes_are_read_when_asked_for(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "id,text\n1,'It was, indeed'\n")
    with pytest.raises(InputError, match=r"--data\.quoting=single"):
        rows(path)
    assert rows(path, quoting="single") == [{"id": "1", "text": "It was, indeed"}]
    assert rows(put(tmp_path, "b.csv", "'id','text'\n'1','a, b'\n")) == [
        {"id": "1", "text": "a, b"}
    ]
    assert rows(put(tmp_path, "c.csv", 'id,text\n1,"a\n'), quoting="none")[0]["text"] == '"a'


COMPRESS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def compressed(kind: str, content: bytes) -> bytes:
    if kind != "zst":
        return COMPRESS[kind](content)
    pyarrow = pytest.importorskip("pyarrow", reason="the extra `data` is not installed")
    return pyarrow.compress(content, codec="zstd", asbytes=True)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_a_compressed_table_is_what_its_inner_name_says(kind: str, tmp_path: Path) -> None:
    wanted = [{"source,x": str(n), "source": f"{t}, indeed", "target": t} for n, t in ROWS[:50]]
    lines = ["source,x\tsource\ttarget"] + ["\t".join(row.values()) for row in wanted]
    tsv = put(tmp_path, f"a.tsv.{kind}", compressed(kind, "\n".join(lines).encode()))
    assert rows(tsv) == wanted
    assert are_pairs([str(tsv)], DataSettings())
    assert documents(tsv, text_column="target") == [row["target"] for row in wanted]
    jsonl = "".join(json.dumps(row) + "\n" for row in wanted).encode()
    assert rows(put(tmp_path, f"a.JSONL.{kind}", compressed(kind, jsonl))) == wanted
    text = put(tmp_path, f"a.txt.{kind}", compressed(kind, SENTENCE.encode() * 20))
    assert text_of(loaded(text)) == SENTENCE * 20
    damaged = text.read_bytes()
    put(tmp_path, text.name, damaged[: len(damaged) // 2])
    with pytest.raises(InputError, match=r"is damaged at about byte|cannot be read"):
        loaded(text)


def test_a_table_without_a_header_takes_its_columns_from_the_setting(tmp_path: Path) -> None:
    path = put(tmp_path, "a.tsv", "a fine film\t1\na dull one\t0\n")
    assert rows(path, columns="text, label") == [
        {"text": "a fine film", "label": "1"},
        {"text": "a dull one", "label": "0"},
    ]
    with pytest.raises(InputError, match=r"without a header line needs --data\.columns"):
        loaded(path)


def test_a_tsv_without_tabs_names_the_remedy(tmp_path: Path) -> None:
    path = put(tmp_path, "a.tsv", "text;label\na fine film;1\na dull one;0\n")
    with pytest.raises(InputError, match=r"a \.tsv has tabs .* name it \.csv"):
        loaded(path)
    with pytest.raises(InputError, match=r"a \.tsv has tabs .* name it \.csv"):
        infer_task(None, list(rows(path)[0]), "")
    path.rename(path.with_suffix(".csv"))
    assert rows(path.with_suffix(".csv"))[1] == {"text": "a dull one", "label": "0"}


def test_a_text_of_tabs_is_a_table_where_one_is_asked_for(tmp_path: Path) -> None:
    path = put(tmp_path, "SICK.txt", 'a\tb\n"one\ttwo\nthree\tfour\n')
    assert rows(path) == [{"a": '"one', "b": "two"}, {"a": "three", "b": "four"}]
    with pytest.raises(InputError, match=r"is no table: .*--data.format=csv"):
        rows(put(tmp_path, "a.txt", "a text\nof lines\n"))


def test_the_line_that_names_the_separator_is_read(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "sep=;\r\ntitle;text\r\np1;a 1,5\r\n")
    assert rows(path) == [{"title": "p1", "text": "a 1,5"}]


def test_two_parallel_texts_are_pairs(tmp_path: Path) -> None:
    german = put(tmp_path, "train.de", "".join(f"eins {n}\n" for n in range(40)))
    english = put(tmp_path, "train.en", "".join(f"one {n}\n" for n in range(40)))
    names = [str(german), str(english)]
    assert are_pairs(names, DataSettings())
    corpus = load_dataset(names, DataSettings(), TokenizerSettings(kind="byte"), seed=0, pairs=True)
    assert corpus.documents == 80 and "eins 0one 0eins 1" in text_of(corpus)
    assert any("are read as pairs, line by line" in note for note in corpus.notes)
    put(tmp_path, "train.en", "one line\n")
    assert not are_pairs(names, DataSettings())
