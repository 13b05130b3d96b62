"""`scriven prepare`: nothing is lost or doubled, and the outcome is the same however made."""

import json
import multiprocessing
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from bulky import digests, document, prepared, texts, write_texts

from scriven.data.pipeline import load_dataset
from scriven.data.prepare import _Progress, run_prepare, sample_jobs
from scriven.data.prepare_plan import PrepareArgs, make_plan
from scriven.errors import BusyError, DamagedError, InputError, ResourceError, SettingError
from scriven.settings import DataSettings, TokenizerSettings

BPE = TokenizerSettings("bpe", 400)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_texts(tmp_path / "texts")


def everything() -> list[str]:
    whole = ["\n".join(document(10_000 + 50 * n + i) for i in range(50)) + "\n" for n in range(3)]
    return sorted([*(document(number) for number in range(600)), *whole])


@pytest.mark.parametrize("kind", ["char", "byte", "bpe", "word"])
def test_every_document_is_there_once(kind: str, source: Path, tmp_path: Path) -> None:
    settings = TokenizerSettings(kind, 400 if kind in ("bpe", "word") else None)  # type: ignore[arg-type]
    corpus = prepared(source, tmp_path / "out", tokenizer=settings)
    train, validation = texts(corpus)
    assert sorted([*train, *validation]) == everything()
    assert corpus.documents == 603
    assert 0.05 < len(validation) / 603 < 0.16
    size = sum(len(text.encode()) for text in validation)
    assert corpus.validation_bytes == size


def test_a_lost_document_is_noticed(source: Path, tmp_path: Path) -> None:
    corpus = prepared(source, tmp_path / "out", tokenizer=BPE)
    segments = corpus.train._segments  # type: ignore[attr-defined]
    del segments[1]
    corpus.train._ends = np.cumsum([each[2] for each in segments])  # type: ignore[attr-defined]
    corpus.train._tokens = int(corpus.train._ends[-1])  # type: ignore[attr-defined]
    train, validation = texts(corpus)
    assert sorted([*train, *validation]) != everything()


def test_processes_do_not_change_a_byte(source: Path, tmp_path: Path) -> None:
    prepared(source, tmp_path / "one", tokenizer=BPE)
    prepared(source, tmp_path / "three", tokenizer=BPE, processes=3)
    one, three = digests(tmp_path / "one"), digests(tmp_path / "three")
    assert len(one) > 20
    assert one == three


def test_one_text_gives_what_train_makes_of_it(tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text("".join(f"{document(number)}\n" for number in range(400)).replace("漢", "x"))
    book.write_text(book.read_text().replace("é", "e"))
    for kind in ("char", "bpe"):
        settings = TokenizerSettings(kind, 400 if kind == "bpe" else None)  # type: ignore[arg-type]
        straight = load_dataset([str(book)], DataSettings(), settings, seed=0)
        bulk = prepared(book, tmp_path / kind, tokenizer=settings, tokenizer_from=straight.folder)
        for left, right in ((straight.train, bulk.train), (straight.validation, bulk.validation)):
            assert left.read(0, len(left)).tolist() == right.read(0, len(right)).tolist()
        assert (bulk.documents, bulk.characters) == (1, straight.characters)


def test_windows_reach_over_pieces(source: Path, tmp_path: Path) -> None:
    corpus = prepared(source, tmp_path / "out", tokenizer=BPE)
    whole = corpus.train.read(0, len(corpus.train))
    starts = np.arange(0, len(whole) - 9000, 997)
    found = corpus.train.read_windows(starts, 9000)
    assert found.tolist() == [whole[start : start + 9000].tolist() for start in starts]
    assert corpus.train.read_windows(starts[:0], 5).shape == (0, 5)


def test_a_finished_folder_is_not_done_again(source: Path, tmp_path: Path) -> None:
    prepared(source, tmp_path / "out", tokenizer=BPE)
    before = digests(tmp_path / "out")
    stamp = (tmp_path / "out" / "manifest.json").stat().st_mtime_ns
    prepared(source, tmp_path / "out", tokenizer=BPE)
    assert digests(tmp_path / "out") == before
    assert (tmp_path / "out" / "manifest.json").stat().st_mtime_ns == stamp


def test_what_is_missing_is_made_again(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepared(source, out, tokenizer=BPE)
    before = digests(out)
    (out / "manifest.json").unlink()
    names = sorted((out / "shards").iterdir())
    for name in (names[0], names[-1]):
        for file in name.iterdir():
            file.unlink()
        name.rmdir()
    half = out / "shards" / ".000000-000000.99"
    half.mkdir()
    (half / "train.bin").write_bytes(b"half")
    prepared(source, out, tokenizer=BPE)
    assert digests(out) == before


def test_a_job_of_several_shards_goes_on_after_the_last_one(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepared(source, out, tokenizer=BPE, shard_bytes=5000)
    before = digests(out)
    (out / "manifest.json").unlink()
    names = sorted(path.name for path in (out / "shards").iterdir())
    job = next(name for name in names if name.endswith("-000003"))[:6]
    kept = {name: (out / "shards" / name).stat().st_mtime_ns for name in names}
    gone = [name for name in names if name.startswith(job) and name > f"{job}-000001"]
    for name in gone:
        shutil.rmtree(out / "shards" / name)
    prepared(source, out, tokenizer=BPE, shard_bytes=5000)
    assert digests(out) == before
    for name in set(names) - set(gone):
        assert (out / "shards" / name).stat().st_mtime_ns == kept[name], "made anew"


def test_what_a_killed_process_half_wrote_is_gone(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepared(source, out, tokenizer=BPE)
    dead = subprocess.Popen(["true"])
    dead.wait()
    (out / "manifest.json").rename(out / f".tmp-manifest.json-{dead.pid}")
    (out / "mine.tmp").write_text("not ours")
    prepared(source, out, tokenizer=BPE)
    assert list(out.glob(".tmp-*")) == []
    assert (out / "mine.tmp").exists()


def test_another_tokenizer_than_the_folder_was_begun_with_is_refused(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    prepared(source, out, tokenizer=BPE)
    for change in ("tokenizer", "seed", "data"):
        named = {
            "tokenizer": TokenizerSettings("bpe", 500),
            "seed": 5,
            "data": DataSettings(val_fraction=0.3),
        }
        with pytest.raises(InputError, match=r"was begun with (another|other)"):
            prepared(source, out, **{"tokenizer": BPE, change: named[change]})


def test_a_source_that_changed_is_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepared(source, out, tokenizer=BPE)
    (out / "manifest.json").unlink()
    with (source / "a.jsonl").open("a") as file:
        file.write('{"text": "more"}\n')
    with pytest.raises(InputError, match=r"a\.jsonl has changed"):
        prepared(source, out, tokenizer=BPE)


def test_a_folder_of_something_else_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds something else"):
        prepared(source, source)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        prepared(source, tmp_path / "file")


def test_two_at_once_are_refused(source: Path, tmp_path: Path) -> None:
    from filelock import FileLock

    out = tmp_path / "out"
    out.mkdir()
    with FileLock(out / ".lock"), pytest.raises(BusyError, match="another process"):
        prepared(source, out)


def test_a_prepared_folder_is_trained_on_at_once(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    (out / "shards").mkdir(parents=True)
    (out / "plan.json").write_text("{}")
    with pytest.raises(InputError, match="not finished"):
        load_dataset([str(out)], DataSettings(), TokenizerSettings(), seed=0)
    (out / "plan.json").unlink()
    prepared(source, out, tokenizer=BPE)
    corpus = load_dataset([str(out)], DataSettings(), TokenizerSettings(), seed=0)
    assert (corpus.folder, corpus.name, corpus.sources) == (out, "data", [str(out)])
    again = load_dataset([str(out)], DataSettings(), TokenizerSettings("bpe", 400), seed=7)
    assert again.fingerprint == corpus.fingerprint
    with pytest.raises(InputError, match="leave --tokenizer settings away"):
        load_dataset([str(out)], DataSettings(), TokenizerSettings("char"), seed=0)
    with pytest.raises(InputError, match="give it alone"):
        load_dataset([str(out), str(source)], DataSettings(), TokenizerSettings(), seed=0)


@pytest.mark.parametrize("name", ["tokenizer.json", "shards/000000-000000/train.bin", "cut"])
def test_a_damaged_folder_is_refused(name: str, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    prepared(source, out, tokenizer=BPE)
    path = out / ("manifest.json" if name == "cut" else name)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DamagedError):
        load_dataset([str(out)], DataSettings(), TokenizerSettings(), seed=0)


def test_the_sample_is_bounded_and_has_no_held_out_text(source: Path) -> None:
    args = PrepareArgs([str(source)], source.parent, bounded=False, shard_bytes=20_000)
    plan = make_plan(args, {})
    all_of_it = "".join(sample_jobs(plan))
    some = "".join(sample_jobs(plan, 30_000))
    assert 1000 < len(some) <= 30_000 < len(all_of_it)
    assert some == "".join(sample_jobs(plan, 30_000))
    corpus = prepared(source, source.parent / "out", tokenizer=BPE, bounded=False)
    train, validation = texts(corpus)
    assert not any(text in all_of_it for text in validation)
    assert all(text in all_of_it for text in train)


def test_bad_wishes_are_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for named, message in [
        ({"format": "arrow"}, "--format arrow"),
        ({"format": "datatrove"}, "--tokenizer"),
        ({"processes": 0}, "--processes"),
        ({"tokenizer_from": tmp_path / "none.json"}, "does not exist"),
        ({"data": DataSettings(val_fraction=2.0)}, "--data.val_fraction"),
        ({"data": DataSettings(text_column="body")}, "no column 'body'"),
    ]:
        with pytest.raises((InputError, SettingError), match=message):
            run_prepare(PrepareArgs([str(source)], out, **named))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="only once"):
        run_prepare(PrepareArgs(["-"], out))
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(InputError, match="holds no text"):
        run_prepare(PrepareArgs([str(tmp_path / "empty.txt")], out))


def test_a_bad_row_is_named_also_in_the_middle_of_a_file(tmp_path: Path) -> None:
    rows = [json.dumps({"text": document(number)}) for number in range(300)]
    rows[250] = "oops"
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.jsonl after byte [\d,]+ row \d+ is not JSON"):
        prepared(path, tmp_path / "out", tokenizer=TokenizerSettings("byte"), processes=2)
    corpus = prepared(
        path,
        tmp_path / "skipping",
        tokenizer=TokenizerSettings("byte"),
        data=DataSettings(skip_bad=True),
    )
    assert corpus.documents == 299
    assert any(note.startswith("1 row was skipped") for note in corpus.notes)


def test_progress_says_how_much_how_fast_and_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now, said = [100.0], list[str]()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = _Progress(10_000_000, said.append)
    record = {"bytes": 1_000_000, "documents": 700}
    progress.add(record, resumed=True)
    for _ in range(3):
        now[0] += 2
        progress.add(record)
    assert said == ["4 MB of about 10 MB, 2,800 documents, 0.5 MB/s, left 0:00:12"]


def test_prints_of_a_library_are_no_records(source: Path, tmp_path: Path) -> None:
    noisy = tmp_path / "noisy"
    noisy.mkdir()
    (noisy / "sitecustomize.py").write_text("print('hello from a library')\n")
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", str(noisy))
    try:
        prepared(source, tmp_path / "out", tokenizer=BPE, processes=2)
    finally:
        patch.undo()


def test_a_killed_worker_is_reported_and_nothing_finished_is_lost(
    source: Path, tmp_path: Path
) -> None:
    def kill_a_worker() -> None:
        until = time.monotonic() + 30
        while not (workers := multiprocessing.active_children()):
            assert time.monotonic() < until
            time.sleep(0.001)
        workers[0].kill()

    killer = threading.Thread(target=kill_a_worker, daemon=True)
    killer.start()
    with pytest.raises(ResourceError, match=r"was killed: .* fewer --processes"):
        prepared(source, tmp_path / "out", tokenizer=BPE, processes=2)
    killer.join()
    assert not multiprocessing.active_children()
    prepared(source, tmp_path / "out", tokenizer=BPE, processes=2)
    prepared(source, tmp_path / "straight", tokenizer=BPE)
    assert digests(tmp_path / "out") == digests(tmp_path / "straight")


@pytest.mark.parametrize("error", [OSError("handle is closed"), ValueError("bad fds_to_keep")])
def test_a_worker_killed_while_the_next_one_starts_is_reported_as_killed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def submit(*_: object) -> None:
        raise error  # what starting a process raises where the pool has closed its pipes

    monkeypatch.setattr(ProcessPoolExecutor, "submit", submit)
    with pytest.raises(ResourceError, match=r"was killed: .* fewer --processes"):
        prepared(source, tmp_path / "out", tokenizer=BPE, processes=2)


SCRIPT = """
import sys
from pathlib import Path
from scriven.data.prepare import _Progress, run_prepare
from scriven.data.prepare_plan import PrepareArgs
from scriven.settings import TokenizerSettings

print("runs")
out = Path(sys.argv[2])
run_prepare(PrepareArgs([sys.argv[1]], out, tokenizer=TokenizerSettings("byte"), processes=2,
                    shard_bytes=20_000))
"""


def test_a_script_without_a_main_guard_runs_once(source: Path, tmp_path: Path) -> None:
    """Processes that are spawned import the main module, unless they are kept from it."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(source), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "runs\n"
