"""The inputs of all contestants: a run folder with weights, the same batches, the same prompts.

The weights are those of a short training run. Such a model, and one with small random weights too,
repeats the same few letters; for contests in generation the matrices of its blocks are therefore
replaced by large random ones, so that every letter depends on all previous ones, and equal texts
mean equal models.
"""

import json
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import gates
import numpy as np
import torch

from scriven import registry
from scriven.generate.engine import Engine
from scriven.generate.sampling import SamplingParams
from scriven.runs.huggingface import WEIGHTS
from scriven.runs.load import load_run
from scriven.runs.weights import save_tensors, to_hf_weights
from scriven.tokenizers import Tokenizer, load_tokenizer

GATE_TOKENS = 16
"""Length of the texts by which programs are compared."""
SEEDS = 20
"""Random weights to try until their texts differ."""
VALIDATION = 0.1
"""Fraction of the text at its end, which no program trains on."""


@dataclass(frozen=True)
class Shape:
    """A model, and how long it is trained first."""

    name: str
    layers: int
    heads: int
    d_model: int
    context_length: int
    steps: int
    batch: int
    vocab_size: int | None = None
    """Vocabulary size of a BPE tokenizer on made-up words; None: the characters of the text."""


TINY = Shape("tiny", 2, 2, 64, 64, 20, 8)
BABY = Shape("10.6M", 6, 6, 384, 256, 12, 8)
SMALL = Shape("124M", 12, 12, 768, 1024, 4, 1, vocab_size=50257)
SHAPES = {shape.name: shape for shape in (TINY, BABY, SMALL)}


def find_text(named: str) -> Path:
    """Path of a text, or of tiny Shakespeare, which is downloaded once."""
    if Path(named).is_file():
        return Path(named).resolve()
    if named == "tinyshakespeare":
        from scriven.data.corpora.tinyshakespeare import path

        return path()
    raise SystemExit(f"{named}: no such file; give a text, or tinyshakespeare")


def make_run(shape: Shape, arch: str, text: Path, work: Path) -> Path:
    """A run folder of this shape; reused if it was trained with the same command."""
    folder = work / f"{arch}-{shape.name}"
    tokenizer = ["--tokenizer.kind", "char"]
    if shape.vocab_size is not None:
        text = make_words(shape.vocab_size, work)
        tokenizer = ["--tokenizer.kind", "bpe", "--tokenizer.vocab_size", str(shape.vocab_size)]
    command = [
        sys.executable, "-m", "scriven", "train", str(text), "--arch", arch, *tokenizer,
        "--model.layers", str(shape.layers), "--model.heads", str(shape.heads),
        "--model.d_model", str(shape.d_model), "--model.context_length", str(shape.context_length),
        "--model.dropout", "0", "--optim.optimizer", "adamw", "--data.val_fraction", "0.02",
        "--train.batch_size", str(shape.batch), "--seed", "1",
        "--budget", f"{shape.steps}steps", "--runtime.compile=false", "--train.sample_seconds", "0",
        "--out", str(folder), "--quiet", "--json",
    ]  # fmt: skip
    stamp = work / f"{folder.name}.command"
    if not stamp.exists() or stamp.read_text() != " ".join(command):
        for old in (folder, folder.with_name(f"{folder.name}-random")):
            shutil.rmtree(old, ignore_errors=True)
        call(command)
        stamp.write_text(" ".join(command))
    return folder


def randomize_blocks(run: Path, text: Path) -> Path:
    """A copy of the run with large random matrices in its blocks, such that the texts of the gate
    differ from each other; reused if it exists.

    Args:
        text: the text of its tokenizer, for prompts.
    """
    folder = run.with_name(f"{run.name}-random")
    if folder.exists():
        return folder
    starts = gate_prompts(encode(run, text))
    loaded = load_run(run)
    weights = loaded.task.state_dict()
    engine = Engine(loaded.task, loaded.tokenizer)
    for seed in range(SEEDS):
        _randomize(weights, loaded.tokenizer, seed)
        made = engine.generate(starts, SamplingParams(temperature=0), GATE_TOKENS, ignore_eos=True)
        if gates.is_distinctive([each.text for each in made]):
            break
    architecture = registry.module("scriven.models", loaded.architecture)
    model, task = loaded.task.backbone.config, loaded.metadata["task"]
    work = run.with_name(f"{run.name}-unfinished")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(run, work, ignore=shutil.ignore_patterns("exports", "checkpoints"))
    save_tensors(work / WEIGHTS, to_hf_weights(architecture, model, weights, task))
    return work.rename(folder)


def _randomize(weights: dict[str, torch.Tensor], tokenizer: Tokenizer, seed: int) -> None:
    """Replaces the trained weights by random ones; only printable tokens are ever chosen."""
    chance = torch.Generator().manual_seed(seed)
    for name, weight in weights.items():
        if ".blocks." in name and weight.dim() == 2:
            weight.normal_(0, weight.size(1) ** -0.5, generator=chance)
        if name.endswith("embed.token.weight"):  # the output matrix as well
            weight.normal_(0, 0.05, generator=chance)
            for number in range(tokenizer.vocab_size):
                if not _is_printable(tokenizer.spell(number)):
                    weight[number] = 0


def _is_printable(spelling: bytes) -> bool:
    """Whether a token is printable text; partial UTF-8 characters are displayed differently when
    joined."""
    try:
        return spelling.decode().isprintable() and bool(spelling)
    except UnicodeDecodeError:
        return False


class CallFailed(SystemExit):
    """A command failed; the message is the last line of its standard error."""


def call(command: list[str]) -> str:
    """The standard output of a command.

    Raises:
        CallFailed: the command failed; uncaught it ends the program with the reason.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines() or ["no message"]
        raise CallFailed(f"{' '.join(command[1:4])} failed: {last[-1]}")
    return done.stdout


def make_words(vocab_size: int, work: Path) -> Path:
    """A text of made-up words with enough pairs for a BPE vocabulary of this size."""
    path = work / f"words-{vocab_size}.txt"
    if not path.exists():
        chance = random.Random(0)
        letters = "abcdefghijklmnopqrstuvwxyz"
        words = ["".join(chance.choices(letters, k=7)) for _ in range(vocab_size // 2)]
        twice = words * 2
        chance.shuffle(twice)
        path.write_text(" ".join(twice) + "\n", encoding="utf-8")
    return path


def export(run: Path, target: str, dtype: str) -> Path:
    """Exports the run; `scriven export` compares it in the target program."""
    place = run / "exports" / f"{target}-{dtype}"
    if not place.exists():
        command = [sys.executable, "-m", "scriven", "export", str(run), "--to", target]
        call([*command, "--dtype", dtype])
    return place


@dataclass(frozen=True)
class EncodedText:
    """A text, encoded by a run's tokenizer."""

    tokenizer: Tokenizer
    ids: np.ndarray
    split: int
    """Index of the first validation token."""


def encode(run: Path, text: Path) -> EncodedText:
    """Encodes the whole text."""
    tokenizer = load_tokenizer(run)
    ids = np.array(tokenizer.encode(text.read_text(encoding="utf-8")), dtype=np.uint16)
    return EncodedText(tokenizer, ids, int(len(ids) * (1 - VALIDATION)))


def write_batches(
    encoded: EncodedText, context: int, rows: int, steps: int, windows: int, seed: int, folder: Path
) -> Path:
    """Batches for training and windows for the gates, as peers/shared/batches.py reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(seed)
    starts = chance.integers(0, encoded.split - context - 1, (steps, rows))
    val_windows = np.linspace(encoded.split, len(encoded.ids) - context - 1, windows).astype(
        np.int64
    )
    np.save(folder / "tokens.npy", encoded.ids)
    np.save(folder / "starts.npy", starts)
    np.save(folder / "val_windows.npy", val_windows)
    (folder / "context.json").write_text(json.dumps(context))
    return folder


def gate_prompts(encoded: EncodedText) -> list[list[int]]:
    """The fixed prompts of the gate, of at most GATE_TOKENS tokens."""
    return prompts(encoded, 8, 8, GATE_TOKENS, seed=0)


def prompts(encoded: EncodedText, count: int, least: int, most: int, seed: int) -> list[list[int]]:
    """Pieces of the validation part, of mixed lengths."""
    chance = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        length = int(chance.integers(least, most + 1))
        start = int(chance.integers(encoded.split, len(encoded.ids) - length))
        found.append([int(number) for number in encoded.ids[start : start + length]])
    return found
