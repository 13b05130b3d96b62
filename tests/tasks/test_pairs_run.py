"""A whole run on pairs: trained, gone on with, measured, and asked."""

import random
from pathlib import Path

import pytest

import scriven
from scriven.errors import InputError

SETTINGS = {
    "model.layers": "1", "model.heads": "2", "model.d_model": "16", "train.batch_size": "8",
    "tokenizer.kind": "byte", "runtime.device": "cpu",
}  # fmt: skip


def table(folder: Path, rows: int = 60) -> str:
    words = [f"{n * 7919 % 1000:03d}" for n in range(rows)]
    path = folder / "pairs.tsv"
    lines = ["source\ttarget", *(f"{word}\t{word[::-1]}" for word in words)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, scriven.Model]:
    folder = tmp_path_factory.mktemp("pairs")
    patch = pytest.MonkeyPatch()
    patch.setenv("SCRIVEN_CACHE", str(folder / "cache"))
    source = table(folder)
    model = scriven.train(
        source, arch="transformer", budget="6steps", out=str(folder / "run"), quiet=True,
        settings=SETTINGS,
    )  # fmt: skip
    patch.undo()
    return source, model


def test_a_run_on_pairs_says_what_it_learnt(run: tuple[str, scriven.Model]) -> None:
    _, model = run
    assert model.metadata["task"] == "pairs"
    assert (
        model.metadata["model"]["context_length"] == 8
    )  # the smallest that holds 3 bytes and the end
    assert model.results["measure"] == "target token"
    assert "-> " in model.results["sample"]


def test_it_is_measured_on_the_targets_of_the_last_rows(run: tuple[str, scriven.Model]) -> None:
    source, model = run
    found = model.evaluate()
    assert found["loss"] == pytest.approx(model.results["val_loss"], abs=1e-6)
    assert found["tokens"] == 6 * 4
    assert model.evaluate(source)["tokens"] == 60 * 4
    assert found["bits_per_byte"] == pytest.approx(found["loss"] * 4 / 3 / 0.6931471805599453)


def test_the_same_command_on_the_finished_run_gives_its_results(
    run: tuple[str, scriven.Model],
) -> None:
    source, model = run
    again = scriven.train(
        source, arch="transformer", budget="6steps", out=str(model.folder), quiet=True,
        settings=SETTINGS,
    )  # fmt: skip
    assert again.results["val_loss"] == model.results["val_loss"]


def test_it_answers_with_a_target_alone(run: tuple[str, scriven.Model]) -> None:
    _, model = run
    one = model.generate("123", max_new_tokens=5)
    assert not one.startswith("123")
    assert one == model.generate("123", max_new_tokens=5, temperature=0)  # the likeliest
    made = model.generate_many(["123", "4567890123"], max_new_tokens=50)
    assert all(each.tokens <= 8 for each in made)
    assert [each.prompt_truncated for each in made] == [0, 2]


def test_other_architectures_ask_for_a_column_of_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column 'text'"):
        scriven.train(table(tmp_path), budget="1steps", out=str(tmp_path / "run"), quiet=True)


def test_pairs_are_learnt(tmp_path: Path) -> None:
    """Enough to tell the source from noise: the baseline of targets alone is beaten."""
    path = tmp_path / "copies.csv"
    draw = random.Random(0)
    letters = [draw.choice("abcdefghijklmnop") * 2 for _ in range(400)]
    path.write_text("source,target\n" + "\n".join(f"{each},{each}" for each in letters) + "\n")
    model = scriven.train(
        str(path), arch="transformer", budget="100steps", out=str(tmp_path / "run"), quiet=True,
        settings={**SETTINGS, "train.batch_size": "32", "model.d_model": "32"},
    )  # fmt: skip
    print(model.results["val_loss"], model.results["ngram_loss"])
    assert model.results["val_loss"] < 0.8 * model.results["ngram_loss"]


def test_a_budget_in_passes_reads_every_pair_so_often(tmp_path: Path) -> None:
    model = scriven.train(
        table(tmp_path), arch="transformer", budget="4epochs", out=str(tmp_path / "run"),
        quiet=True, settings=SETTINGS,
    )  # fmt: skip
    pairs = model.metadata["data"]["rows"]
    assert pairs == 54
    assert abs(model.results["steps"] * 8 - 4 * pairs) <= 8
    read = model.results["tokens"] / model.metadata["data"]["train_tokens"]
    assert read == pytest.approx(model.results["steps"] * 8 / pairs, rel=0.02)


def test_its_folder_is_written_for_transformers_and_read_again(
    run: tuple[str, scriven.Model], tmp_path: Path
) -> None:
    pytest.importorskip("transformers", reason="the hf extra is not installed")
    _, model = run
    made = scriven.export(model.folder, "hf", out=tmp_path / "out")
    assert made["check"]["passed"]
    back = scriven.import_run(tmp_path / "out", out=tmp_path / "back")
    assert back.metadata["task"] == "pairs"
    assert back.generate("123", max_new_tokens=5) == model.generate("123", max_new_tokens=5)
