"""A run folder that was damaged, mixed up or tampered with."""

import shutil
from pathlib import Path

import pytest

import scriven
from scriven.errors import DamagedError, InputError, ScrivenError


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage")
    (folder / "a.txt").write_text("It was a dark and stormy night. " * 60)
    (folder / "b.txt").write_text("Zwölf Boxkämpfer jagen Viktor quer über den Deich. " * 60)
    shape = {"model.layers": 1, "model.heads": 2, "model.d_model": 32, "model.context_length": 16}
    for name in "ab":
        scriven.train(
            folder / f"{name}.txt", out=folder / name, budget="12steps", settings=shape, quiet=True
        )
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole / "a", tmp_path / "run"))


def flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0.0, 0.001, 0.3, 0.7, 1.0])
def test_damaged_best_weights_are_named_and_a_whole_checkpoint_is_used(
    run: Path, place: float
) -> None:
    flip(run / "model.safetensors", place)
    model = scriven.load(run)
    assert any("model.safetensors" in warning for warning in model.warnings)
    assert model.generate("It", max_new_tokens=3)


def test_without_any_whole_weights_loading_is_refused(run: Path) -> None:
    flip(run / "model.safetensors", 0.5)
    for path in (run / "checkpoints").rglob("model.safetensors"):
        flip(path, 0.5)
    with pytest.raises(DamagedError):
        scriven.load(run)


@pytest.mark.parametrize("name", ["scriven.json", "tokenizer.json"])
@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_flipped_bit_in_a_description_is_noticed(run: Path, name: str, place: float) -> None:
    flip(run / name, place)
    with pytest.raises(ScrivenError):
        scriven.load(run)


def test_the_tokenizer_of_another_run_is_refused(run: Path, whole: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(whole / "b" / name, run / name)
    with pytest.raises(InputError, match="not the tokenizer"):
        scriven.load(run)


def test_the_weights_of_another_run_are_refused(run: Path, whole: Path) -> None:
    shutil.copy(whole / "b" / "model.safetensors", run / "model.safetensors")
    with pytest.raises(ScrivenError):
        scriven.load(run)


def test_a_missing_description_is_one_clear_line(run: Path) -> None:
    (run / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json is missing"):
        scriven.load(run)


def test_unfinished_runs_say_so(run: Path) -> None:
    from scriven.runs.metadata import read_metadata, write_metadata

    write_metadata(run, {**read_metadata(run), "results": None})
    assert any("not finished" in warning for warning in scriven.load(run).warnings)
