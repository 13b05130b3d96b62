"""The real contestants: transformers does the same work as ours; with other weights it is out."""

import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import racing
import training_race
import writing_race
from entries import PROGRAMS, House, training, writing
from material import TINY, encode, enliven, make_run, write_batches

HOUSE = House(Path(sys.executable), None, compile=False)
"""transformers is in our own environment too."""
SHAPE = replace(TINY, layers=1, d_model=32, context_length=32, steps=3)
TERMS = training_race.Terms(
    rows=4, micro=[2], gate_steps=2, steps=1, repeats=1, windows=4, threads=1, seed=1
)
SENTENCES = "The king rode out, and 9 queens asked: why so late? Nobody knew; it was dark!\n"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "book.txt"
    path.write_text(SENTENCES * 80, encoding="utf-8")
    return path


def others(run: Path) -> Path:
    """The same shape with other weights: half of each."""
    import shutil

    from safetensors.torch import load_file, save_file

    other = run.with_name(f"{run.name}-other")
    shutil.copytree(run, other)
    halved = {name: weight / 2 for name, weight in load_file(other / "model.safetensors").items()}
    save_file(halved, other / "model.safetensors")
    return other


@pytest.mark.slow
def test_training_the_same_passes_and_other_weights_are_out(
    text: Path, tmp_path: Path, stack: ExitStack
) -> None:
    run = make_run(SHAPE, "gpt2", text, tmp_path)
    data = write_batches(encode(run, text), 32, 4, 9, 4, 1, tmp_path / "batches")
    ours, _, theirs = training(HOUSE, "gpt2", 0.0, [2])
    assert theirs.command[1] == str(PROGRAMS / "transformers_.py")
    plain = [{"micro": 2, "dtype": "float32"}]
    right = replace(theirs, choices=plain)
    wrong = replace(theirs, name="wrong", choices=plain, folder=others(run))
    contest = racing.enter(stack, [ours, right, wrong], tmp_path, 1)
    training_race._settle(contest, run, {"data": str(data), "dropout": 0.0, "seed": 1})
    training_race._gate(contest, TERMS)
    assert [one.entry.name for one in contest.field] == ["scriven", "transformers"]
    assert "wrong has other weights or another model" in contest.failures[0]


@pytest.mark.slow
def test_writing_the_same_passes_and_other_weights_are_out(
    text: Path, tmp_path: Path, stack: ExitStack
) -> None:
    run = enliven(make_run(SHAPE, "llama", text, tmp_path), text)
    ours, theirs = writing(HOUSE, "gpt2", "float32", {})  # LitGPT is not in our environment
    wrong = replace(theirs, name="wrong", folder=others(run))
    contest = racing.enter(stack, [ours, theirs, wrong], tmp_path, 1)
    terms = writing_race.Terms(tokens=8, repeats=1, threads=1, seed=1)
    written = encode(run, text)
    writing_race._settle(contest, run, terms, [[5, 6, 7]])
    writing_race._gate(contest, written, strict=True)
    assert [one.entry.name for one in contest.field] == ["scriven", "transformers"]
    assert contest.field[1].facts["same_text"] == 1
    assert "wrong writes other texts" in contest.failures[0]
