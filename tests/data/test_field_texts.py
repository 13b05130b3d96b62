"""Texts as people have them: any encoding and line end, and several documents in a file."""

import json
from pathlib import Path

import pytest
from bulky import prepared
from field import SENTENCE, documents, loaded, put, rows, text_of

from scriven.data.decoding import check_encoding, decode, guess_encoding
from scriven.errors import InputError, SettingError
from scriven.settings import TokenizerSettings

TEXTS = {
    "english": ["It was “late” — the café’s door", "he said: “no”", "a naïve idea cost £5"],
    "french": ["l’été où la forêt brûle", "déjà la fenêtre s’ouvre", "ça va, garçon"],
    "german": ["die Straße ist schön grün", "ein Mädchen hört zu", "über den Fluß"],
    "polish": ["zażółć gęślą jaźń", "chłopiec i dziewczyna", "źródło było blisko, ścieżka też"],
    "czech": ["příliš žluťoučký kůň", "úpěl ďábelské ódy", "večer byl dům tichý"],
    "hungarian": ["árvíztűrő tükörfúrógép", "őszi fűzfa a könyv mellett", "város és ház"],
    "turkish": ["ağaç çiçek açtı", "şehir güzel, ırmak soğuk", "öğretmen ışığı gördü"],
    "russian": ["старик писал письмо вечером", "дорога шла к реке", "зима и хлеб, голос в доме"],
    "greek": ["ο γέρος έγραψε γράμμα", "το βράδυ στον δρόμο", "χειμώνας στο παράθυρο"],
    "japanese": ["山と川と空と海", "これは日本語の文章です", "いろはにほへとちりぬるを"],
    "diary": ["老人は川に沿って歩き、みんなに6回こんにちはと言った。それから家に帰った。"],
    "chinese": ["春眠不觉晓处处闻啼鸟", "夜来风雨声花落知多少", "白日依山尽黄河入海流"],
    "taiwan": ["春眠不覺曉處處聞啼鳥", "夜來風雨聲花落知多少", "白日依山盡黃河入海流"],
    "korean": ["나는 어제 학교에 갔다", "우리 집 강아지는 바다를 좋아한다", "하늘이 맑다"],
}
ENCODED = [
    ("english", "cp1252"), ("french", "cp1252"), ("french", "mac-roman"), ("german", "cp1252"),
    ("german", "cp850"), ("polish", "cp1250"), ("polish", "iso8859-2"), ("czech", "cp1250"),
    ("czech", "iso8859-2"), ("hungarian", "cp1250"), ("turkish", "cp1254"), ("russian", "cp1251"),
    ("russian", "koi8-r"), ("russian", "cp866"), ("russian", "iso8859-5"), ("greek", "cp1253"),
    ("japanese", "cp932"), ("japanese", "euc-jp"), ("diary", "cp932"), ("diary", "euc-jp"),
    ("chinese", "gbk"), ("taiwan", "big5"),
    ("korean", "euc-kr"),
]  # fmt: skip
WIDE = ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]


def sample(language: str) -> str:
    return "".join(f"{line}\n" for line in TEXTS[language]) * 20


@pytest.mark.parametrize(("language", "encoding"), ENCODED)
def test_the_encoding_is_detected_named_and_shown(
    language: str, encoding: str, tmp_path: Path
) -> None:
    text = sample(language)
    raw = text.encode(encoding)
    guess = guess_encoding(raw)
    assert guess is not None and guess.encoding != "latin-1"
    assert raw.decode(guess.encoding) == text
    assert guess.sample in " ".join(text.split())
    path = put(tmp_path, "a.txt", raw)
    with pytest.raises(InputError, match=f"--data.encoding={guess.encoding}") as caught:
        loaded(path)
    assert guess.sample in str(caught.value) and f"{guess.certainty:.0%}" in str(caught.value)
    assert text_of(loaded(path, encoding=guess.encoding)) == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("“I” and “a”", "cp1252"), ("idę do szkoły", "cp1250"), ("ő a ház", "cp852"),
        # à, è and é are words
        ("Mon père est allé à la gare.", "cp1252"), ("Il caffè è buono.", "cp1252"),
        ("O café é bom à tarde.", "cp1252"),
        # mac-roman has capitals after small letters, as in rÜd
        ("Vi åker till Åland på måndag.", "cp850"),
    ],
)  # fmt: skip
def test_neighbours_of_few_letters_and_marks_tell_the_encoding(text: str, encoding: str) -> None:
    guess = guess_encoding(f"{text}\n".encode(encoding))
    assert guess is not None
    assert guess.encoding == encoding


@pytest.mark.parametrize(
    ("language", "encoding"),
    [each for each in ENCODED if each[0] in ("japanese", "chinese", "taiwan", "korean")],
)
def test_an_encoding_of_two_bytes_is_found_where_a_block_ends_inside_a_character(
    language: str, encoding: str
) -> None:
    raw = sample(language).encode(encoding)
    found = {guess.encoding for end in range(4) if (guess := guess_encoding(raw[: -end or None]))}
    assert found
    assert all(raw.decode(each) == sample(language) for each in found)
    cut = guess_encoding(raw[1:-2])
    assert cut is not None
    assert cut.encoding in found


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("language", ["english", "russian", "japanese", "korean"])
def test_utf_16_and_32_without_a_mark_are_found(
    language: str, encoding: str, tmp_path: Path
) -> None:
    text = sample(language)
    path = put(tmp_path, "a.txt", text.encode(encoding))
    with pytest.raises(InputError, match=f"--data.encoding={encoding}"):
        loaded(path)
    assert text_of(loaded(path, encoding=encoding)) == text


def test_utf_8_is_named_where_another_encoding_was_asked_for(tmp_path: Path) -> None:
    path = put(tmp_path, "a.txt", sample("polish"))
    with pytest.raises(InputError, match=r"use --data\.encoding=utf-8"):
        loaded(path, encoding="ascii")


def test_an_encoding_of_seven_bits_is_found(tmp_path: Path) -> None:
    text = sample("japanese")
    path = put(tmp_path, "a.txt", text.encode("iso2022_jp"))
    with pytest.raises(InputError, match=r"--data\.encoding=iso2022-jp"):
        loaded(path)
    assert text_of(loaded(path, encoding="iso2022-jp")) == text


def test_one_wrong_byte_in_utf_8_is_called_damage(tmp_path: Path) -> None:
    text = sample("russian").encode()
    path = put(tmp_path, "a.txt", text[:600] + b"\xff" + text[600:])
    with pytest.raises(InputError, match=r"byte 0xff at offset 600; the text around is utf-8"):
        loaded(path)


@pytest.mark.parametrize("end", ["€".encode()[:-1], "für und wider, schön\n".encode("cp1252")])
def test_text_of_utf_8_with_another_end_is_called_damaged(end: bytes, tmp_path: Path) -> None:
    path = put(tmp_path, "a.txt", sample("german").encode() + end)
    with pytest.raises(InputError, match="the text around is utf-8"):
        loaded(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_the_sample_of_a_text_of_ascii_is_its_beginning(encoding: str) -> None:
    guess = guess_encoding(("It was late. " * 99).encode(encoding)[:-1])
    assert guess is not None
    assert guess.sample.startswith("It was late.")


def test_a_few_nuls_are_text_and_many_are_not(tmp_path: Path) -> None:
    text = SENTENCE * 9 + "\0" + SENTENCE
    assert text_of(loaded(put(tmp_path, "a.txt", text))) == text
    with pytest.raises(InputError, match="binary data"):
        loaded(put(tmp_path, "b.txt", bytes(range(32)) * 100))


@pytest.mark.parametrize("name", ["hex", "rot13", "zip", "base64", "klingon", "a\0b", ""])
def test_what_is_no_encoding_of_text_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match="no such encoding"):
        check_encoding(name)


def test_an_encoding_that_needs_a_mark_is_one_line(tmp_path: Path) -> None:
    path = put(tmp_path, "a.txt", "abc".encode("utf-16-be"))
    for name in ("utf-32", "undefined", "ascii"):
        with pytest.raises(InputError):
            list(decode(put(tmp_path, "b.txt", path.read_bytes() + b"\xff"), name))


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_line_ends_are_normalised_and_said(end: str, tmp_path: Path) -> None:
    lines = [f"{SENTENCE} {number}" for number in range(40)]
    path = put(tmp_path, "a.txt", end.join(lines))
    corpus = loaded(path)
    assert text_of(corpus) == "\n".join(lines)
    assert sum("--data.newlines=keep" in note for note in corpus.notes) == (end != "\n")
    assert text_of(loaded(path, newlines="keep")) == end.join(lines)


def test_a_line_end_on_the_border_of_two_blocks_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scriven.data.decoding.BLOCK", 100)
    text = "".join("x" * (number % 7) + "\r\n" for number in range(400))
    assert documents(put(tmp_path, "a.txt", text)) == [text.replace("\r\n", "\n")]


def test_line_ends_inside_of_rows_are_normalised_too(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", json.dumps({"text": "a\r\nb\rc", "more": ["d\r\n"]}) + "\r\n")
    assert rows(path) == [{"text": "a\nb\nc", "more": ["d\n"]}]
    assert rows(path, newlines="keep") == [{"text": "a\r\nb\rc", "more": ["d\r\n"]}]
    for end in ("\r\n", "\r"):
        table = put(tmp_path, "a.csv", f'text,n{end}"one{end}two",1{end}three,2{end}')
        assert rows(table) == [{"text": "one\ntwo", "n": "1"}, {"text": "three", "n": "2"}]


def test_other_separators_of_lines_are_characters(tmp_path: Path) -> None:
    text = "a\u2028b\x85c\x0bd\x0ce\x1cf"
    assert documents(put(tmp_path, "a.txt", text)) == [text]
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for _ in range(3))
    assert rows(put(tmp_path, "a.jsonl", lines)) == [{"text": text}] * 3
    assert rows(put(tmp_path, "a.csv", f"n,text\n1,{text}\n")) == [{"n": "1", "text": text}]
    assert rows(put(tmp_path, "a.tsv", f"n\ttext\n1\t{text}\n")) == [{"n": "1", "text": text}]


def test_a_mark_in_the_middle_is_a_character(tmp_path: Path) -> None:
    assert documents(put(tmp_path, "a.txt", "\ufeffa\ufeffb")) == ["a\ufeffb"]


def test_lone_surrogates_become_a_character_where_they_enter(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", '{"te\\ud83d": 1, "text": "rain \\ud83d", "l": ["\\udc00x"]}\n')
    assert rows(path) == [{"te\ufffd": 1, "text": "rain \ufffd", "l": ["\ufffdx"]}]
    assert documents(path) == ["rain \ufffd"]
    json.dumps(rows(path), ensure_ascii=False).encode()


@pytest.mark.parametrize("block", [1 << 20, 50, 7])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_marks_between_documents_are_borders_and_said(
    end: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scriven.data.decoding.BLOCK", block)
    texts = [f"{SENTENCE}{end}number {number}" for number in range(12)]
    between = f"{end}<|endoftext|>{end}".join(texts)
    wanted = [text.replace("\r\n", "\n") + "\n" for text in texts]
    wanted[-1] = wanted[-1][:-1]
    assert documents(put(tmp_path, "a.txt", between)) == wanted
    around = "".join(f"<|startoftext|>{text}<|endoftext|>{end}" for text in texts)
    found = [text for text in documents(put(tmp_path, "b.txt", around)) if text]
    assert found == [text.replace("\r\n", "\n") for text in texts]
    touching = "<|endoftext|>".join(texts)
    assert len(documents(put(tmp_path, "d.txt", touching))) == 12
    inline = f"The mark <|endoftext|> ends a text, and so on.{end}" * 3
    assert documents(put(tmp_path, "c.txt", inline)) == [inline.replace("\r\n", "\n")]


def test_documents_between_marks_end_with_eos(tmp_path: Path) -> None:
    path = put(tmp_path, "a.txt", "\n<|endoftext|>\n".join([SENTENCE * 3] * 30))
    corpus = loaded(path)
    assert corpus.documents == 30
    assert "endoftext" not in text_of(corpus)
    assert any("borders of documents" in note for note in corpus.notes)
    ids = [
        *corpus.train.read(0, len(corpus.train)),
        *corpus.validation.read(0, len(corpus.validation)),
    ]
    assert ids.count(corpus.tokenizer.eos) == 30


@pytest.mark.parametrize("extra", range(0, 26, 5))
def test_no_mark_is_cut_in_two_where_a_corpus_is_split(extra: int, tmp_path: Path) -> None:
    texts = [f"{SENTENCE} {number}" for number in range(60)]
    path = put(tmp_path, "a.txt", "x" * extra + "\r\n<|endoftext|>\r\n".join(texts))
    corpus = prepared(path, tmp_path / "out", tokenizer=TokenizerSettings(kind="byte"))
    assert corpus.documents == 60
    whole = text_of(corpus)
    assert "oftext" not in whole and "\n\n" not in whole
    ids = [
        *corpus.train.read(0, len(corpus.train)),
        *corpus.validation.read(0, len(corpus.validation)),
    ]
    assert ids.count(corpus.tokenizer.eos) == 60
