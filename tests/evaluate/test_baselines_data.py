"""What the baselines reach on public test sets, each fitted to the training part alone."""

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest

from scriven.evaluate.baselines import base
from scriven.evaluate.bootstrap import ScoreWithCI
from scriven.evaluate.metrics.base import compute_metrics

Rows = list[dict[str, Any]]


def sst2(folder: Path, part: str) -> Rows:
    lines = (folder / "sst2" / f"{part}.tsv").read_text(encoding="utf-8").splitlines()
    return [dict(zip(("text", "label"), line.rsplit("\t", 1), strict=True)) for line in lines]


def agnews(folder: Path, part: str) -> Rows:
    lines = (folder / "agnews" / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def headlines(folder: Path, part: str) -> Rows:
    return [{"source": row["text"], "target": row["title"]} for row in agnews(folder, part)]


def sick(folder: Path, part: str) -> Rows:
    lines = (folder / "sick" / "SICK.txt").read_text(encoding="utf-8").splitlines()
    rows = [dict(zip(lines[0].split("\t"), line.split("\t"), strict=True)) for line in lines[1:]]
    return [
        {
            "premise": row["sentence_A"], "hypothesis": row["sentence_B"],
            "label": row["entailment_label"], "first": row["sentence_A"],
            "second": row["sentence_B"], "score": float(row["relatedness_score"]),
        }
        for row in rows
        if row["SemEval_set"].strip().lower() == part
    ]  # fmt: skip


def multi30k(folder: Path, part: str) -> Rows:
    def lines(language: str) -> list[str]:
        name = "test_2016_flickr" if part == "test" else part
        path = folder / "multi30k" / f"{name}.{language}.gz"
        return gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()

    return [{"source": a, "target": b} for a, b in zip(lines("de"), lines("en"), strict=True)]


def measured(name: str, train: Rows, test: Rows) -> dict[str, ScoreWithCI]:
    """The scores of a baseline on the test rows, by metric."""
    found: list[Any] = base.fit(name, train)(test)
    if name == "overlap":
        scores = compute_metrics("numbers", [row["score"] for row in test], found)
    elif name in ("copy", "lead"):
        scores = compute_metrics("texts", [row["target"] for row in test], found)
    else:
        labels = sorted({row["label"] for row in train})
        truth = [labels.index(row["label"]) for row in test]
        scores = compute_metrics("labels", truth, [labels.index(each) for each in found])
    return {score.name: score for score in scores}


@pytest.mark.slow
@pytest.mark.parametrize(("read", "least"), [(sst2, 0.81), (agnews, 0.86), (sick, 0.78)])
def test_a_bag_of_words_reaches_what_it_is_known_to_reach(
    shared_data: Path, read: Any, least: float
) -> None:
    train, test = read(shared_data, "train"), read(shared_data, "test")
    if read is sick:
        keys = ("premise", "hypothesis", "label")
        train, test = ([{key: row[key] for key in keys} for row in rows] for rows in (train, test))
    start = time.process_time()
    figures = measured("bag_of_words", train, test)
    assert time.process_time() - start < 15
    assert figures["accuracy"].value >= least
    most = measured("majority", train, test)["accuracy"]
    assert figures["accuracy"].low > most.high


def test_shared_words_tell_how_alike_sentences_are(shared_data: Path) -> None:
    figures = measured("overlap", sick(shared_data, "train"), sick(shared_data, "test"))
    assert figures["pearson"].value == pytest.approx(0.616, abs=0.01)


def test_a_source_is_no_translation(shared_data: Path) -> None:
    bleu = measured("copy", [], multi30k(shared_data, "test"))["bleu"]
    assert bleu.high < 1


def test_first_words_are_half_a_headline(shared_data: Path) -> None:
    figures = measured("lead", headlines(shared_data, "train"), headlines(shared_data, "test"))
    assert figures["rouge_l"].value == pytest.approx(17.4, abs=0.5)
