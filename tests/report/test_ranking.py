"""The table of `scriven bench TEXT --from BASE`: bits per byte on one held-out text."""

import json
from pathlib import Path
from typing import Any

import pytest

from scriven.report import ranking
from scriven.report.compare import Comparison


def run(folder: Path, bits: float, measure: str = "next token", **more: Any) -> Path:
    """A folder with what a finished run says of itself."""
    results = {"val_bits_per_byte": bits, "parameters": 1234, "seconds": 60.0, **more}
    metadata = {
        "scriven": "0.1.0", "name": folder.name, "measure": measure, "results": results,
        "baseline": {"order": 5, "loss": 1.9, "bits_per_byte": 2.5},
    }  # fmt: skip
    folder.mkdir()
    (folder / "scriven.json").write_text(json.dumps(metadata))
    return folder


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    monkeypatch.setattr(
        ranking, "read_run_metadata", lambda path: json.loads((path / "scriven.json").read_text())
    )
    own = {
        "llama": [run(tmp_path / "a", 2.0), run(tmp_path / "b", 2.2)],
        "roberta": [run(tmp_path / "c", 0.1, measure="hidden token")],
    }
    adapted = [
        run(tmp_path / "d", 1.4, base_val_bits_per_byte=1.8),
        run(tmp_path / "e", 1.5, base_val_bits_per_byte=1.8),
    ]
    return ranking.rank(own, "big", adapted)


def test_the_best_comes_first_with_means_over_seeds(rows: list[dict[str, Any]]) -> None:
    assert [row["name"] for row in rows] == [
        "big, adapted", "big, as it came", "llama, from nothing", "5-grams"]  # fmt: skip
    assert rows[0]["bits_per_byte"] == pytest.approx(1.45)
    assert rows[0]["spread"] == pytest.approx(0.05)
    assert rows[1]["bits_per_byte"] == 1.8 and rows[3]["bits_per_byte"] == 2.5
    assert rows[2]["spread"] == pytest.approx(0.1)


def test_a_guess_from_both_sides_is_not_ranked(rows: list[dict[str, Any]]) -> None:
    assert not any("roberta" in row["name"] for row in rows)


def test_the_answer_is_a_sentence(rows: list[dict[str, Any]]) -> None:
    said = ranking.ranking_verdict(rows)
    assert said == "big, adapted needs 31% fewer bits per byte than llama, from nothing"
    near = [{**row, "spread": 1.0} for row in rows]
    assert "no difference beyond the seeds" in ranking.ranking_verdict(near)
    grams = [{**rows[3], "bits_per_byte": 1.0}, *rows[:3]]
    assert "5-grams need fewer still" in ranking.ranking_verdict(grams)


def test_it_stands_in_every_form_of_the_comparison(rows: list[dict[str, Any]]) -> None:
    comparison = Comparison([], [], rows)
    assert comparison.data()["ranking"] == rows
    assert "| big, adapted | 1.450 ± 0.050 | 1,234 |" in ranking.as_markdown(rows)
    assert "1.450 ± 0.050" in ranking.as_text(rows)
