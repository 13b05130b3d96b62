"""The real contestants: transformers computes the same as ours; with other weights it is out."""

import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import generation_race
import pytest
import racing
import training_race
from entries import PROGRAMS, Setup, single_stream, training
from inputs import TINY, encode, make_run, randomize_blocks, write_batches

SETUP = Setup(Path(sys.executable), None, compile=False)
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
    ours, _, peer = training(SETUP, "gpt2", 0.0, [2])
    assert peer.command[1] == str(PROGRAMS / "transformers_.py")
    plain = [{"micro": 2, "dtype": "float32"}]
    right = replace(peer, choices=plain)
    wrong = replace(peer, name="wrong", choices=plain, folder=others(run))
    contest = racing.enter(stack, [ours, right, wrong], tmp_path, 1)
    training_race._choose_settings(contest, run, {"data": str(data), "dropout": 0.0, "seed": 1})
    training_race._gate(contest, TERMS)
    assert [one.entry.name for one in contest.field] == ["scriven", "transformers"]
    assert "wrong has other weights or another model" in contest.failures[0]


@pytest.mark.slow
def test_generating_the_same_passes_and_other_weights_are_out(
    text: Path, tmp_path: Path, stack: ExitStack
) -> None:
    run = randomize_blocks(make_run(SHAPE, "llama", text, tmp_path), text)
    ours, peer = single_stream(SETUP, "gpt2", "float32", {})  # LitGPT is not in our environment
    wrong = replace(peer, name="wrong", folder=others(run))
    contest = racing.enter(stack, [ours, peer, wrong], tmp_path, 1)
    terms = generation_race.Terms(tokens=8, repeats=1, threads=1, seed=1)
    encoded = encode(run, text)
    generation_race._choose_settings(contest, run, terms, [[5, 6, 7]])
    generation_race._gate(contest, encoded, strict=True)
    assert [one.entry.name for one in contest.field] == ["scriven", "transformers"]
    assert contest.field[1].facts["same_text"] == 1
    assert "wrong generates other texts" in contest.failures[0]
