"""lm-evaluation-harness on local tasks: without a network, and with the answers that lm_eval's own
class gives for the same weights in transformers."""

import json
import os
import subprocess
import sys
from typing import Any

import harness_child
import pytest

from scriven.errors import SettingError
from scriven.evaluate.harness import generation_settings

pytest.importorskip("lm_eval", reason="the harness extra is not installed")

TASKS = harness_child.TASKS


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the child says, in a home of its own."""
    folder, home = tmp_path_factory.mktemp("harness"), tmp_path_factory.mktemp("home")
    done = subprocess.run(
        [sys.executable, harness_child.__file__, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(home), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    theirs = [path for path in home.rglob("*") if "huggingface" in path.parts]
    said["left"] = [str(path) for path in theirs if path.is_file()]
    return said


def numbers(answers: Any) -> list[float]:
    """Every number in nested lists, in order; a text is no number."""
    if isinstance(answers, list):
        return [number for each in answers for number in numbers(each)]
    return [] if isinstance(answers, str) else [float(answers)]


def test_it_runs_offline_on_local_tasks(found: dict[str, Any]) -> None:
    """The child could not have reached anything."""
    assert found["command"]["code"] == 0, found["command"]["error"]
    said = json.loads(found["command"]["out"])
    assert {name: task["rows"] for name, task in said["tasks"].items()} == {
        "continuation": 6,
        "prose": 4,
        "spelling": 36,
    }
    spelling = said["tasks"]["spelling"]
    assert spelling["chance"] == 0.5
    assert 0 < spelling["metrics"]["acc"]["value"] < 1
    assert 0.02 < spelling["metrics"]["acc"]["stderr"] < 0.1
    assert said["tasks"]["prose"]["metrics"]["bits_per_byte"]["value"] > 1
    assert said["requests"] == 6 + 4 + 2 * 36
    assert found["left"] == []


@pytest.mark.parametrize("task", ["spelling", "prose"])
def test_probabilities_equal_those_of_transformers(found: dict[str, Any], task: str) -> None:
    ours, theirs = (numbers(found[side]["answers"][task]) for side in ("ours", "theirs"))
    assert len(ours) >= 4
    assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-4)
    assert max(ours) - min(ours) > 1


def test_scores_and_texts_equal_those_of_transformers(found: dict[str, Any]) -> None:
    ours, theirs = found["ours"], found["theirs"]
    assert ours["answers"]["continuation"] == theirs["answers"]["continuation"]
    assert any(text[0][0] for text in ours["answers"]["continuation"])
    for task in ("spelling", "continuation"):
        assert ours["scores"][task] == theirs["scores"][task]


def test_a_group_is_the_mean_of_its_tasks(found: dict[str, Any]) -> None:
    assert found["group"]["code"] == 0, found["group"]["error"]
    said = json.loads(found["group"]["out"])
    parts = [said["tasks"][name]["metrics"]["acc"]["value"] for name in ("one", "two")]
    assert sorted(parts) == [0, 1]
    assert said["groups"]["both"]["metrics"]["acc"]["value"] == 0.5


def test_the_table_shows_score_error_and_chance(found: dict[str, Any]) -> None:
    head, row = found["table"]["out"].splitlines()
    assert head.split() == ["task", "metric", "score", "chance", "rows"]
    name, metric, score, sign, error, chance, rows = row.split()
    assert (name, metric, sign, chance, rows) == ("spelling", "acc", "±", "0.5000", "2")
    assert 0 <= float(score) <= 1
    assert float(error) >= 0


REASONS = {
    "code": "names Python code (!function helper.answer)",
    "class": "`class` of task mine",
    "escape": "access to attribute '__class__'",
    "hub": "'allenai/openbookqa', which is not on this machine",
    "pickle": "'pandas', which is not on this machine",
    "address": "there is no file",
    "metric": "'rouge_from_hub' is not lm_eval's own",
    "field": "'question' is undefined",
    "broken": "is no task file",
    "itself": "includes itself",
    "no data": "names no data",
    "no task": "holds no task",
    "knob": "num_beams does not exist here",
    "unknown": "did you mean spelling?",
    "absent": "does not exist",
    "limit": "--limit=0",
}


@pytest.mark.parametrize("name", [*harness_child.UNUSABLE, "unknown", "absent", "limit"])
def test_what_cannot_be_used_is_refused_in_one_line(found: dict[str, Any], name: str) -> None:
    said = found["refused"][name]
    assert said["code"] == 2
    assert said["out"] == ""
    assert REASONS[name] in said["error"]
    assert said["error"].splitlines()[-1].startswith("scriven: ")
    assert "Traceback" not in said["error"]


def test_without_lm_eval_the_line_that_installs_it_is_shown(found: dict[str, Any]) -> None:
    assert found["missing"]["code"] == 2
    assert "pip install 'scriven[harness]'" in found["missing"]["error"]


def test_writing_is_greedy_unless_a_task_draws() -> None:
    sampling, longest, stops = generation_settings({"until": "\n", "max_gen_toks": 7})
    assert (sampling.greedy, longest, stops) == (True, 7, ["\n"])
    assert generation_settings({"temperature": 0.7, "do_sample": False})[0].greedy
    assert generation_settings({"do_sample": True, "top_k": 5})[0].settings["temperature"] == 1
    assert generation_settings({"temperature": 0.7})[0].settings["temperature"] == 0.7
    assert generation_settings({"until": ["", "."]})[1:] == (256, ["."])
    with pytest.raises(SettingError, match="num_beams"):
        generation_settings({"num_beams": 2})


def test_the_wrong_word_is_the_right_one_with_two_letters_swapped() -> None:
    """The sample task asks what it says it asks."""
    rows = [json.loads(line) for line in (TASKS / "spelling.jsonl").read_text().splitlines()]
    assert len(rows) == 36
    assert 12 <= sum(row["answer"] for row in rows) <= 24
    for row in rows:
        right, wrong = row["choices"][row["answer"]], row["choices"][1 - row["answer"]]
        assert sorted(right) == sorted(wrong)
        different = [place for place in range(len(right)) if right[place] != wrong[place]]
        assert len(different) == 2, (right, wrong)
