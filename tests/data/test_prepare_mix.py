"""Sources by weight: the shares are kept, whatever is repeated is told, the order is a function."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from bulky import digests, prepared

from scriven.data.mixture import document_end, parse_weights, repeats
from scriven.data.shards import TokenDataset
from scriven.errors import InputError, SettingError
from scriven.settings import DataSettings, TokenizerSettings

BYTES = TokenizerSettings("byte")


def write(folder: Path, name: str, letter: str, documents: int) -> str:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.jsonl"
    rows = [json.dumps({"text": letter * (30 + n % 40)}) for n in range(documents)]
    path.write_text("\n".join(rows) + "\n")
    return str(path)


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    return [write(tmp_path, "wiki", "w", 400), write(tmp_path, "books", "b", 90)]


def shares(corpus: TokenDataset) -> tuple[float, float]:
    ids = corpus.train.read(0, len(corpus.train))
    counts = [int((ids == ord(letter)).sum()) for letter in "wb"]
    return counts[0] / sum(counts), counts[1] / sum(counts)


@pytest.mark.parametrize("weights", ["wiki=0.5,books=0.5", "wiki=1,books=9", "wiki=9,books=0.5"])
def test_the_shares_are_those_asked_for(weights: str, sources: list[str], tmp_path: Path) -> None:
    corpus = prepared(sources, tmp_path / "out", tokenizer=BYTES, weights=weights, shard_bytes=3000)
    wanted = [float(each.split("=")[1]) for each in weights.split(",")]
    assert shares(corpus)[0] == pytest.approx(wanted[0] / sum(wanted), abs=0.01)


def test_without_weights_the_shares_are_those_of_the_texts(
    sources: list[str], tmp_path: Path
) -> None:
    corpus = prepared(sources, tmp_path / "out", tokenizer=BYTES)
    assert shares(corpus)[0] == pytest.approx(400 / 490, abs=0.03)


def test_repeats_cost_no_disk_and_are_told(sources: list[str], tmp_path: Path) -> None:
    corpus = prepared(sources, tmp_path / "out", tokenizer=BYTES, weights="wiki=1,books=1")
    plain = prepared(sources, tmp_path / "plain", tokenizer=BYTES)
    files = [
        sum(path.stat().st_size for path in (tmp_path / name).rglob("*.bin"))
        for name in ("out", "plain")
    ]
    assert files[0] == files[1]
    assert len(corpus.train) > 1.5 * len(plain.train)
    assert len(corpus.validation) == len(plain.validation)
    (note,) = corpus.notes
    assert note.startswith("books is read 4.")


def test_every_document_of_a_repeated_source_is_whole(sources: list[str], tmp_path: Path) -> None:
    corpus = prepared(
        sources, tmp_path / "out", tokenizer=BYTES, weights="wiki=1,books=0.4", shard_bytes=3000
    )
    ids = corpus.train.read(0, len(corpus.train))
    ends = np.flatnonzero(ids == corpus.tokenizer.eos)
    assert ends[-1] == len(ids) - 1
    for start, end in itertools.pairwise([-1, *ends.tolist()]):
        assert len(set(ids[start + 1 : end].tolist())) == 1


def test_the_order_is_a_function_of_the_seed(sources: list[str], tmp_path: Path) -> None:
    made = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        named = {"tokenizer": BYTES, "weights": "wiki=1,books=1", "shard_bytes": 3000, "seed": seed}
        corpus = prepared(sources, tmp_path / name, **named)
        made[name] = corpus.train.read(0, len(corpus.train)).tolist()
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert made["a"] == made["b"] != made["c"]


def test_rounds_are_the_least_that_keep_the_weights() -> None:
    assert repeats([100, 100], [0.5, 0.5]) == [1, 1]
    assert repeats([100, 10], [0.5, 0.5]) == [1, 10]
    for often, count in zip(repeats([100, 10, 7], [0.2, 0.3, 0.5]), [100, 10, 7], strict=True):
        assert often >= 1
        assert count * often > 0
    found = [
        c * o for c, o in zip([100, 10, 7], repeats([100, 10, 7], [0.2, 0.3, 0.5]), strict=True)
    ]
    assert np.allclose(np.array(found) / sum(found), [0.2, 0.3, 0.5])


def test_a_cut_goes_to_the_end_of_a_document(tmp_path: Path) -> None:
    np.array([5, 5, 0, 6, 6, 6, 0, 7], dtype="<u2").tofile(tmp_path / "a.bin")
    found = [document_end(tmp_path / "a.bin", place, "<u2", 0) for place in (1, 3, 5, 7, 8)]
    assert found == [1, 3, 3, 7, 7]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("wiki=0.5,poems=0.5", "names no source: .* wiki, books"),
        ("wiki=0.5", "leaves out books"),
        ("wiki", "names no source"),
        ("wiki=much,books=1", "is not a number"),
        ("wiki=0,books=1", "above 0"),
        ("wiki=nan,books=1", "above 0"),
        ("wiki=0.000001,books=1", "would be read"),
    ],
)
def test_bad_weights_are_refused(
    weights: str, message: str, sources: list[str], tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match=message):
        prepared(sources, tmp_path / "out", tokenizer=BYTES, weights=weights)


def test_sources_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    names = [write(tmp_path, "a", "w", 50), write(tmp_path / "x", "a", "b", 50)]
    with pytest.raises(SettingError, match="names two"):
        parse_weights("a=1", ["a", "a"], names)
    assert parse_weights(f"{names[0]}=1,{names[1]}=3", ["a", "a"], names) == [0.25, 0.75]
    data = DataSettings(val_fraction=0.2)
    weights = f"{names[0]}=1,{names[1]}=3"
    corpus = prepared(names, tmp_path / "out", tokenizer=BYTES, weights=weights, data=data)
    assert shares(corpus)[1] == pytest.approx(0.75, abs=0.02)


def test_other_weights_need_no_new_encoding_until_the_folder_is_finished(
    sources: list[str], tmp_path: Path
) -> None:
    out, named = tmp_path / "out", {"tokenizer": BYTES, "shard_bytes": 3000}
    with pytest.raises(SettingError, match="would be read"):
        prepared(sources, out, weights="wiki=0.000001,books=1", **named)
    first = {path: path.stat().st_mtime_ns for path in out.rglob("*.bin")}
    assert len(first) > 4
    prepared(sources, out, weights="wiki=1,books=1", **named)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.bin")} == first
    prepared(sources, tmp_path / "straight", weights="wiki=1,books=1", **named)
    assert digests(out) == digests(tmp_path / "straight")
    with pytest.raises(InputError, match="begun with other weights"):
        prepared(sources, out, weights="wiki=1,books=2", **named)


def test_a_name_of_two_sources_is_refused(tmp_path: Path) -> None:
    paths = [write(tmp_path / each, "wiki", "w", 1) for each in ("a", "b")]
    with pytest.raises(SettingError, match="two sources"):
        parse_weights("wiki=1,wiki=2", ["wiki", "wiki"], paths)
    given = f"{paths[0]}=1,{paths[1]}=3"
    assert parse_weights(given, ["wiki", "wiki"], paths) == [0.25, 0.75]
