"""Preparing: the ids are right, the folder is whole, and nothing is done twice."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scriven.config import cache_folder
from scriven.data import shards
from scriven.data.formats.base import TextChunk
from scriven.data.pipeline import chunk_batches, load_dataset
from scriven.data.shards import TokenDataset
from scriven.data.split import (
    TRAIN,
    VALIDATION,
    Split,
    SplitChunk,
    choose_split,
    min_characters,
    scan,
    split_chunks,
)
from scriven.errors import DamagedError, InputError, ResourceError, SettingError
from scriven.settings import DataSettings, TokenizerSettings
from scriven.tokenizers import patterns, train_tokenizer

TEXT = "The quick brown fox, it's said, jumps over 12345 lazy dogs.\n" * 400


def run(path: Path | str, kind: Any = None, *, seed: int = 1, share: float = 0.1) -> TokenDataset:
    tokenizer = TokenizerSettings(kind=kind, vocab_size=300 if kind in ("bpe", "word") else None)
    return load_dataset([str(path)], DataSettings(val_fraction=share), tokenizer, seed=seed)


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_bytes(TEXT.encode())
    return path


def everything(corpus: TokenDataset) -> tuple[list[int], list[int]]:
    return tuple(part.read(0, len(part)).tolist() for part in (corpus.train, corpus.validation))  # type: ignore[return-value]


@pytest.mark.parametrize("kind", ["char", "byte", "word", "bpe"])
def test_the_shards_hold_the_ids_of_the_whole_parts(kind: str, book: Path) -> None:
    corpus = run(book, kind)
    train, validation = everything(corpus)
    place = int(0.9 * len(TEXT))
    assert train == corpus.tokenizer.encode(TEXT[:place])
    assert validation == corpus.tokenizer.encode(TEXT[place:])
    assert corpus.validation_bytes == len(TEXT[place:].encode())
    assert (corpus.name, corpus.documents, corpus.characters) == ("book", 1, len(TEXT))


def test_tiny_shakespeare_is_split_as_everybody_does(shared_data: Path) -> None:
    corpus = run(shared_data / "tinyshakespeare.txt")
    assert corpus.tokenizer.kind == "char"
    assert (len(corpus.train), len(corpus.validation)) == (1_003_854, 111_540)
    assert not any("stand in the" in note for note in corpus.notes)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_chunks_do_not_depend_on_how_the_text_arrived(data: st.DataObject) -> None:
    kept, patterns.CHUNK = patterns.CHUNK, 16
    try:
        words = data.draw(
            st.lists(st.sampled_from(["a", " ", "\n", "bcd", " .", "é "]), max_size=60)
        )
        text = "".join(words)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
        ends = [*cuts, len(text)]
        pieces = [text[a:b] for a, b in zip([0, *cuts], ends, strict=True)]
        parts = [SplitChunk(TRAIN, piece, False) for piece in pieces] + [
            SplitChunk(TRAIN, "", True)
        ]
        from scriven.data import pipeline

        held, pipeline.CHUNK = pipeline.CHUNK, 16
        try:
            found = [part.text for batch in chunk_batches(parts) for part in batch]
        finally:
            pipeline.CHUNK = held
        assert found == list(patterns.chunks(text))
    finally:
        patterns.CHUNK = kept


def test_the_second_time_nothing_is_done(book: Path) -> None:
    first = run(book, "bpe")
    stamp = (first.folder / "train.bin").stat().st_mtime_ns
    second = run(book, "bpe")
    assert (second.folder, second.fingerprint) == (first.folder, first.fingerprint)
    assert (second.folder / "train.bin").stat().st_mtime_ns == stamp
    book.write_bytes(TEXT.encode() + b"!")
    assert run(book, "bpe").fingerprint != first.fingerprint
    assert run(book, "char").fingerprint != first.fingerprint
    assert run(book, "bpe", share=0.2).fingerprint != first.fingerprint


def test_documents_are_held_out_whole_and_by_seed(tmp_path: Path) -> None:
    rows = [f"document {number} " + "x" * (number % 7) for number in range(200)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": row}) for row in rows), encoding="utf-8")
    corpus = run(path)
    train, validation = (
        corpus.tokenizer.decode(part).replace("document", "|document").split("|")[1:]
        for part in everything(corpus)
    )
    assert sorted([*train, *validation]) == sorted(rows)
    assert train == [row for row in rows if row in set(train)]
    held = sum(map(len, validation)) / sum(map(len, rows))
    assert 0.09 < held < 0.11
    assert everything(corpus)[0].count(corpus.tokenizer.eos) == len(train)
    assert everything(corpus)[1][-1] == corpus.tokenizer.eos
    assert run(path).fingerprint == corpus.fingerprint
    assert run(path, seed=2).fingerprint != corpus.fingerprint


@settings(max_examples=200, deadline=None)
@given(
    documents=st.lists(st.text("ab", max_size=9), min_size=1, max_size=14),
    share=st.sampled_from([0.1, 0.3, 0.5]),
)
def test_no_character_is_lost_or_doubled_by_the_split(documents: list[str], share: float) -> None:
    pieces = [
        each
        for text in documents
        for each in (TextChunk(text[:3], False), TextChunk(text[3:], True))
    ]
    survey = scan(iter(pieces), lambda _: None)
    if survey.characters < min_characters(share):
        return
    split = choose_split(np.array(survey.lengths, dtype=np.int64), share, 1)
    parts = list(split_chunks(pieces, split))
    assert sum(part.ends for part in parts) == len(survey.lengths) == sum(map(bool, documents))
    if split.place is not None:
        assert "".join(part.text for part in parts) == "".join(documents)
        train = "".join(part.text for part in parts if part.part == TRAIN)
        assert len(train) == int((1 - share) * survey.characters)
    assert all(sum(len(p.text) for p in parts if p.part == part) >= 2 for part in (0, VALIDATION))


def test_a_document_that_ends_at_the_border_ends_in_training() -> None:
    pieces = [TextChunk("abcd", False), TextChunk("", True), TextChunk("ef", True)]
    parts = list(split_chunks(pieces, Split(4, None)))
    assert [(part.part, part.text, part.ends) for part in parts] == [
        (TRAIN, "abcd", False), (TRAIN, "", True), (VALIDATION, "ef", True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"), [("", "holds no text"), ("x", "1 character: .* 11")]
)
def test_too_little_text_is_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        run(path)
    path.write_text("x" * 11, encoding="utf-8")
    corpus = run(path)
    assert (len(corpus.train), len(corpus.validation)) == (9, 2)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, 2.0, float("nan")])
def test_an_impossible_share_is_refused(share: float, book: Path) -> None:
    with pytest.raises(SettingError, match=r"--data\.val_fraction"):
        run(book, share=share)


def test_a_part_without_tokens_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x" * 100, encoding="utf-8")
    with pytest.raises(InputError, match="train part has fewer than 2 tokens"):
        run(path, "word")
    assert not list((cache_folder() / "prepared").glob("*.work"))


def test_text_that_repeats_in_validation_is_told(book: Path, tmp_path: Path) -> None:
    assert any("stand in the training text" in note for note in run(book).notes)
    other = tmp_path / "other.txt"
    other.write_text("".join(f"{number:060d}\n" for number in range(900)), encoding="utf-8")
    assert not any("stand in the training text" in note for note in run(other).notes)


@pytest.mark.parametrize(
    ("vocab_size", "kind"), [(65_535, "<u2"), (65_536, "<u2"), (65_537, "<u4")]
)
def test_storage_is_as_wide_as_the_ids(vocab_size: int, kind: str, tmp_path: Path) -> None:
    assert shards.id_type(vocab_size) == kind
    ids = np.array([0, 5, vocab_size - 1], dtype=np.int32)
    shards.write_token_file(tmp_path / "a.bin", kind, ids)
    assert shards.TokenFile(tmp_path / "a.bin", kind, 3).read(0, 3).tolist() == ids.tolist()


def test_windows_are_slices(book: Path) -> None:
    corpus = run(book)
    whole = corpus.train.read(0, len(corpus.train))
    starts = np.array([0, 17, len(whole) - 8])
    found = corpus.train.read_windows(starts, 8)
    assert found.dtype == np.int64
    assert found.tolist() == [whole[start : start + 8].tolist() for start in starts]


@pytest.mark.parametrize("damage", ["cut", "overwrite"])
def test_a_shard_changed_in_use_is_noticed(damage: str, book: Path) -> None:
    corpus = run(book)
    path = corpus.folder / "train.bin"
    if damage == "cut":
        os.truncate(path, 100)
    else:
        time.sleep(0.02)
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(DamagedError, match=r"train\.bin"):
        corpus.train.read(1000, 50)


@pytest.mark.parametrize(
    "name",
    ["train.bin", "validation.bin", "tokenizer.json", "manifest.json", "tokenizer_config.json"],
)
def test_a_damaged_folder_is_prepared_anew(name: str, book: Path) -> None:
    first = run(book)
    before = everything(first)
    path = first.folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert everything(run(book)) == before


def test_a_full_disk_is_said_and_leaves_nothing(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, *ids: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shards.TokenFileWriter, "append", full)
        with pytest.raises(
            ResourceError, match=r"disk full: .*prepared needs .* has .*SCRIVEN_CACHE"
        ):
            run(book)
    assert {path.suffix for path in (cache_folder() / "prepared").iterdir()} <= {".lock"}
    assert len(run(book).train)


LIMITED = """
import resource, sys
from scriven.data.pipeline import load_dataset
from scriven.settings import DataSettings, TokenizerSettings
from scriven.errors import ResourceError
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    load_dataset([sys.argv[1]], DataSettings(), TokenizerSettings(kind="char"), seed=1)
except ResourceError as error:
    print(error)
"""


def test_a_real_limit_is_met_while_writing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("abcdefgh" * 100_000, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=True
    )
    assert "disk full" in done.stdout
    left = list((cache_folder() / "prepared").iterdir())
    assert {each.suffix for each in left} <= {".lock"}


KILLED = """
import os, signal, sys
from scriven.data import shards
from scriven.data.pipeline import load_dataset
from scriven.settings import DataSettings, TokenizerSettings
from scriven.data.shards import TokenFileWriter
TokenFileWriter.finish = lambda self: os.kill(os.getpid(), signal.SIGKILL)
load_dataset([sys.argv[1]], DataSettings(), TokenizerSettings("bpe", 300), seed=1)
"""


def test_a_killed_preparation_is_continued(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(book)], check=False)
    assert killed.returncode == -signal.SIGKILL
    left = [each for each in (cache_folder() / "prepared").iterdir() if each.is_dir()]
    assert [each.suffix for each in left] == [".work"]
    trained: list[str] = []

    def train(kind: str, *rest: Any) -> Any:
        trained.append(kind)
        return train_tokenizer(kind, *rest)

    monkeypatch.setitem(load_dataset.__globals__, "train_tokenizer", train)
    corpus = run(book, "bpe")
    assert trained == []  # the vocabulary was finished before the kill
    assert corpus.tokenizer.decode(everything(corpus)[0]) == TEXT[: int(0.9 * len(TEXT))]
    assert not left[0].exists()


def test_what_a_killed_preparation_left_is_cleaned_later(book: Path) -> None:
    corpus = run(book)
    old, new = (corpus.folder.with_name(f"{name}.work") for name in ("old", "new"))
    for each in (old, new):
        each.mkdir()
        (each / "train.bin").write_bytes(b"half")
    os.utime(old, (1, 1))
    run(book)
    assert not old.exists()
    assert new.exists()


def _prepare_in_child(path: str, queue: Any) -> None:
    corpus = load_dataset([path], DataSettings(), TokenizerSettings("bpe", 300), seed=1)
    queue.put((str(corpus.folder), len(corpus.train)))


def test_two_processes_prepare_the_same_text_once(book: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    children = [
        context.Process(target=_prepare_in_child, args=(str(book), queue)) for _ in range(2)
    ]
    for child in children:
        child.start()
    found = {queue.get(timeout=60) for _ in children}
    for child in children:
        child.join()
    assert len(found) == 1


def test_rows_that_were_skipped_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one two three"}\n' * 20 + "oops\n{}\n", encoding="utf-8")
    settings_ = DataSettings(skip_bad=True)
    corpus = load_dataset([str(path)], settings_, TokenizerSettings(), seed=1)
    assert any(note.startswith("2 rows were skipped") for note in corpus.notes)
    assert corpus.documents == 20


def test_a_cache_that_cannot_be_written_is_refused(book: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    child = os.fork()
    if child == 0:  # where we are root, as somebody who may not write everywhere
        outcome = 1
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            load_dataset(
                [str(book)], DataSettings(), TokenizerSettings(), seed=1, cache=tmp_path / "c"
            )
        except InputError as error:
            outcome = 0 if "SCRIVEN_CACHE" in str(error) else 2
        finally:
            os._exit(outcome)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_cache_below_a_file_is_refused(book: Path) -> None:
    with pytest.raises(InputError, match="SCRIVEN_CACHE"):
        load_dataset([str(book)], DataSettings(), TokenizerSettings(), seed=1, cache=book)


def test_a_source_that_changes_while_it_is_read_is_refused(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(self: Any, work: Path) -> Any:
        book.write_bytes(TEXT.replace("quick", "sweet").encode())
        return train_tokenizer("char", iter([TEXT]), TokenizerSettings())

    monkeypatch.setattr(load_dataset.__globals__["_EncodeJob"], "_tokenizer", change)
    with pytest.raises(InputError, match="changed while"):
        run(book)


def test_an_empty_file_among_others_is_no_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.txt").write_text("hello " * 9)
    (tmp_path / "c.txt").write_text("there " * 9)
    corpus = run(tmp_path)
    train, validation = everything(corpus)
    assert corpus.documents == 2
    assert train.count(corpus.tokenizer.eos) == 1
    assert validation[-1] == corpus.tokenizer.eos
