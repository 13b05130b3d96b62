"""Runs side by side: figures as they were written, ranks only where losses may be compared."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scriven import models
from scriven.errors import DamagedError, InputError
from scriven.report.compare import compare, find_runs
from scriven.runs.metadata import write_metadata

Make = Callable[..., Path]


@pytest.fixture
def make(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    a_record: Callable[..., dict[str, Any]],
    some_metrics: list[dict[str, Any]],
) -> Make:
    """make("name", **{"results.val_loss": 1.4}) -> runs/name, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(folder_name: str, place: str = "runs", **changes: Any) -> Path:
        record = json.loads(json.dumps(a_record(name=folder_name)))
        for path, value in changes.items():
            *above, last = path.split(".")
            inside = record
            for key in above:
                inside = inside.setdefault(key, {})
            inside[last] = value
        folder = Path(place) / folder_name
        folder.mkdir(parents=True)
        write_metadata(folder, record)
        lines = "".join(json.dumps(line) + "\n" for line in some_metrics)
        (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
        return folder

    return run


def seeds(make: Make, name: str, losses: list[float], **changes: Any) -> None:
    for seed, loss in enumerate(losses):
        figures = {"results.val_loss": loss, "settings.seed": seed}
        make(f"{name}-{seed}", **figures, **changes)


def test_a_row_has_the_values_of_scriven_json_and_the_log(make: Make) -> None:
    shape = {"model.heads": 4, "model.vocab_size": 65, "model.context_length": 256}
    optim = {"settings.optim.optimizer": "muon", "settings.optim.muon_lr": 0.02}
    make("one", **shape, **optim, **{"settings.train": {"batch_size": 8}})
    row = compare(["one"]).rows[0].values
    assert row["architecture"] == "llama"
    assert (row["heads"], row["vocab_size"], row["context_length"]) == (4, 65, 256)
    assert (row["layers"], row["d_model"], row["dropout"], row["batch_size"]) == (4, 128, 0.0, 8)
    assert (row["lr"], row["muon_lr"], row["positions"]) == (0.004, 0.02, "rotary")
    assert (row["val_loss"], row["val_accuracy"], row["bits_per_byte"]) == (1.5, 0.55, 2.16)
    assert (row["ngram_loss"], row["seconds"], row["steps"]) == (1.67, 180.0, 600)


def test_train_loss_is_the_mean_of_the_last_5_percent_before_the_best(
    make: Make, some_metrics: list[dict[str, Any]]
) -> None:
    make("one", **{"results.best_step": 300})
    losses = [e["loss"] for e in some_metrics if e["event"] == "step" and e["step"] <= 300]
    late = losses[-(len(losses) // 20) :]
    found = compare(["one"]).rows[0].values["train_loss"]
    assert found == pytest.approx(sum(late) / len(late), abs=1e-12)
    assert found != pytest.approx(losses[-1], abs=1e-6)


def test_the_muon_learning_rate_is_only_of_muon(make: Make) -> None:
    optim = {"settings.optim.optimizer": "adamw", "settings.optim.muon_lr": 0.02}
    make("one", **optim)
    assert compare(["one"]).rows[0].values["muon_lr"] is None


def test_the_lowest_loss_is_marked(make: Make) -> None:
    for name, loss in (("a", 1.5), ("b", 1.4), ("c", 1.6)):
        make(name, **{"results.val_loss": loss})
    found = compare(["a", "b", "c"])
    assert [row.best for row in found.rows] == [False, True, False]
    assert "1.4000 *" in found.text(100)
    assert "| **1.4000** |" in found.markdown()
    assert "\x1b[1m1.4000 *\x1b[0m" in found.text(100, bold=True)
    assert [row.name for row in found.rows] == ["a", "b", "c"], "as they were asked for"


def test_one_run_is_not_the_best_of_itself(make: Make) -> None:
    make("a")
    assert "*" not in compare(["a"]).text(100)


def test_another_text_is_never_ranked_with_the_others(make: Make) -> None:
    make("a", **{"results.val_loss": 1.5})
    make("b", **{"results.val_loss": 1.6})
    make("c", **{"results.val_loss": 0.3, "data.fingerprint": "other"})
    found = compare(["a", "b", "c"])
    assert [row.best for row in found.rows] == [True, False, False]
    assert found.rows[2].notes == [1]
    assert "another text" in found.notes[0]
    assert "c [1]" in found.text(100)
    assert "c <sup>1</sup>" in found.markdown()


def test_masked_tokens_are_never_ranked_with_next_tokens(make: Make) -> None:
    make("a", **{"results.val_loss": 1.5})
    make("b", **{"results.val_loss": 1.6})
    make("c", **{"results.val_loss": 0.3, "task": "masked", "architecture": "roberta"})
    found = compare(["a", "b", "c"])
    assert [row.best for row in found.rows] == [True, False, False]
    assert "pseudo-likelihood" in found.notes[found.rows[2].notes[0] - 1]


def test_the_check_above_notices_one_kind_of_loss_for_all_tasks(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted bug: LOSS_KINDS is empty."""
    make("a", **{"results.val_loss": 1.5})
    make("c", **{"results.val_loss": 0.3, "task": "masked"})
    monkeypatch.setattr("scriven.report.compare.LOSS_KINDS", {})
    assert [row.best for row in compare(["a", "c"]).rows] == [False, True]


def test_an_unfinished_run_is_shown_and_not_ranked(make: Make) -> None:
    make("a", **{"results.val_loss": 1.9})
    make("b", results=None, baseline={"loss": 1.7, "order": 5})
    found = compare(["a", "b"])
    row = found.rows[1]
    assert not row.finished
    assert not row.best
    assert found.rows[0].best
    assert row.values["val_loss"] == pytest.approx(1.5014, abs=1e-3)
    assert row.values["ngram_loss"] == 1.7
    assert "unfinished; the best so far, of step 600" in found.notes


def test_a_run_without_a_log_is_still_a_row(make: Make) -> None:
    folder = make("a", results=None)
    (folder / "metrics.jsonl").unlink()
    found = compare(["a"])
    assert found.rows[0].values["val_loss"] is None
    assert found.notes == ["unfinished"]
    json.dumps(found.data(), allow_nan=False)


def test_settings_of_another_type_are_left_out(make: Make) -> None:
    make("a", settings=3)
    assert compare(["a"]).rows[0].values["lr"] is None


def test_seeds_fold_into_mean_and_half_range(make: Make) -> None:
    seeds(make, "gpt2", [1.50, 1.53, 1.51], architecture="gpt2")
    seeds(make, "llama", [1.45, 1.46])
    found = compare(["gpt2-*", "llama-*"], fold_seeds=True)
    assert [row.name for row in found.rows] == ["gpt2", "llama"]
    first = found.rows[0]
    assert first.values["val_loss"] == pytest.approx((1.50 + 1.53 + 1.51) / 3)
    assert first.spread["val_loss"] == pytest.approx(0.015)
    assert len(first.runs) == 3
    assert found.rows[1].best
    assert "1.5133 ± 0.0150" in found.text(100)
    assert any("3 seeds: mean ± half the distance" in note for note in found.notes)


def test_runs_that_differ_in_more_than_the_seed_stay_apart(make: Make) -> None:
    seeds(make, "a", [1.5, 1.6])
    make("b", **{"settings.optim.lr": 0.1, "settings.seed": 5})
    make("c", **{"results": None, "settings.seed": 6})
    found = compare(["a-0", "a-1", "b", "c"], fold_seeds=True)
    assert [len(row.runs) for row in found.rows] == [2, 1, 1]


def test_seeds_of_many_documents_fold_though_each_holds_out_others(make: Make) -> None:
    for seed in (0, 1):
        drawn = {"data.documents": 50, "data.fingerprint": f"of {seed}", "settings.seed": seed}
        make(f"a-{seed}", **drawn)
    assert len(compare(["a-*"], fold_seeds=True).rows) == 1
    assert len(compare(["a-*"]).notes) == 0


def test_no_line_is_wider_than_the_terminal(make: Make) -> None:
    for number in range(7):
        make(f"a-run-with-quite-a-long-name-{number}", **{"results.val_loss": 1.5 + number})
    found = compare(["a-*"])
    for width in (60, 80, 120, 200):
        assert max(len(line) for line in found.text(width).splitlines()) <= width
        for number in range(7):
            assert f"long-name-{number}" in found.text(width)
            assert f"{1.5 + number:.4f}" in found.text(width)


def test_many_runs_are_lines_where_there_is_room_and_say_once_what_is_equal(make: Make) -> None:
    for number in range(6):
        make(f"r{number}", **{"results.val_loss": 1.5 + number})
    lines = compare(["r*"]).text(200).splitlines()
    assert lines[0].startswith("all: architecture llama")
    assert sum(line.startswith("r3") for line in lines) == 1


def test_names_cannot_break_a_table(make: Make) -> None:
    make("a", name="x|y\n\x1b[31m*z*")
    make("b", name="`<b>|")
    found = compare(["a", "b"])
    head, line, *rows = found.markdown().splitlines()
    assert rows[0].replace("\\|", "").count("|") == head.count("|") == line.count("|")
    assert "\x1b" not in found.markdown() + found.text(80)
    assert "<b>" not in found.markdown().replace("\\<b\\>", "")


def test_runs_are_found_by_path_name_pattern_and_folder(make: Make) -> None:
    one, two = make("one"), make("two")
    inside = make("gpt2-0", place="runs/bench-book")
    assert find_runs(["one", str(two)]) == [one, two]
    assert find_runs(["o*", "one", "runs/one"]) == [one], "each once"
    assert find_runs(["bench-book"]) == find_runs(["bench-book/*"]) == [inside]
    assert find_runs(["runs/bench-book"]) == [inside]
    assert find_runs(["latest"]) == [two]


@pytest.mark.parametrize("name", ["nothing", "q*", "", "one/metrics.jsonl"])
def test_a_name_that_is_not_a_run_is_refused(name: str, make: Make) -> None:
    make("one")
    with pytest.raises(InputError, match="run"):
        find_runs([name])


def test_a_damaged_record_is_named(make: Make) -> None:
    folder = make("one")
    path = folder / "scriven.json"
    path.write_text(path.read_text(encoding="utf-8").replace("1.67", "1.07"), encoding="utf-8")
    with pytest.raises(DamagedError, match=r"one/scriven\.json"):
        compare(["one"])


def test_runs_of_one_name_are_called_by_their_folders(make: Make) -> None:
    make("gpt2-0", place="runs/bench-a")
    make("gpt2-0", place="runs/bench-b")
    names = [row.name for row in compare(["bench-a", "bench-b"]).rows]
    assert names == ["runs/bench-a/gpt2-0", "runs/bench-b/gpt2-0"]


def test_positions_are_read_from_the_architecture_without_importing_it(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text('raise ImportError\nclass Model: position_kind = "alibi"\n')
    (tmp_path / "plain.py").write_text("raise ImportError\nclass Model: pass\n")
    folders = [*models.__path__, str(tmp_path)]
    monkeypatch.setattr(models, "__path__", folders)
    monkeypatch.setattr(models.__spec__, "submodule_search_locations", folders)
    for name in ("gpt2", "mine", "plain", "unknown"):
        make(name, architecture=name)
    rows = compare(["gpt2", "mine", "plain", "unknown"]).rows
    assert [row.values["positions"] for row in rows] == ["learned", "alibi", "learned", None]


def test_comparing_loads_no_torch(make: Make) -> None:
    make("one")
    code = (
        "import sys; from scriven.cli import run; code = run(['compare', 'one', '--json'])\n"
        "heavy = {'torch', 'numpy', 'tokenizers'} & set(sys.modules)\n"
        "print(code, heavy, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "0 set()"
    assert json.loads(done.stdout)["runs"][0]["val_loss"] == 1.5
