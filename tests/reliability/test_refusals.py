"""What cannot be done is refused in one line, at once, with nothing written."""

import json
import math
import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scriven.manifest import signed_json
from scriven.train import run as train_run

from .runs import SMALL, arguments, command, refused, train, write_text

IMPOSSIBLE = """
model.layers=0 model.layers=-1 model.layers=1e6 model.heads=0 model.heads=3 model.d_model=0
model.d_model=7 model.d_model=1e12 model.context_length=0 model.context_length=1e12
model.context_length=1000000
model.dropout=nan model.dropout=1 model.dropout=-0.1 model.kv_heads=0 model.head_dim=0
model.d_ff=0 model.d_ff=1e10 model.rope_theta=0 model.norm_eps=nan
model.norm_eps=-1 model.rope=1 model.vocab_size=5 train.batch_size=0 train.batch_size=1e15
train.batch_size=x
train.micro_batch_size=0 train.keep_checkpoints=0 train.save_seconds=0 train.log_seconds=nan
train.patience=-1
train.eval_interval=0 train.max_nonfinite_steps=0 optim.lr=nan optim.lr=inf optim.lr=-1
optim.grad_clip=nan
optim.warmup_fraction=2 optim.decay_fraction=-1 optim.beta1=1 optim.optimizer=lion
optim.lr_schedule=flat
runtime.threads=0 runtime.threads=-1 runtime.threads=1e9 runtime.device=cuda runtime.device=gpu
runtime.dtype=float16 runtime.dtype=int8 runtime.compile=perhaps data.val_fraction=0
data.val_fraction=1 data.val_fraction=nan data.encoding=none-such tokenizer.kind=morse
tokenizer.vocab_size=0 tokenizer.vocab_size=1e12 nothing.at_all=1 model.=1
""".split()  # noqa: SIM905
FLAGS = """
--seed=-1 --seed=1e30 --seed=100000000000000000000000 --budget=0m --budget=1e999steps --budget=soon
--size=1 --size=huge --arch=none --arch=./none.py --arch=/etc/passwd --preset=none
--preset=../none.toml --out= --resume=none --none
""".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that nobody writes into."""
    folder = tmp_path_factory.mktemp("trained")
    train(write_text(folder), folder / "run", "1step")
    return folder / "run"


def line(text: Path, out: Path, *changes: str) -> list[str]:
    names = [change.split("=")[0] for change in changes]
    kept = [part for part in arguments(text, out, "--json") if part.split("=")[0] not in names]
    return [*[part for part in kept if "--resume" not in names or "--out" not in part], *changes]


@pytest.mark.parametrize("change", [*(f"--{each}" for each in IMPOSSIBLE), *FLAGS])
def test_the_impossible_is_refused_quickly_with_nothing_written(
    text: Path, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    refused(*line(text, tmp_path / "run", change))
    assert time.monotonic() - began < 5
    assert os.listdir(tmp_path) == ["book.txt"]


@pytest.mark.parametrize(
    "change",
    [
        "--model.head_dim=100000000",
        "--model.d_model=1000000",
        "--train.batch_size=1e7",
        "--size=10000B",
        "--model.d_ff=400000000",
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_allocated(
    text: Path, tmp_path: Path, change: str
) -> None:
    if change.startswith("--size"):
        parts = ["train", str(text), f"--out={tmp_path / 'run'}", "--json", change]
    else:
        parts = line(text, tmp_path / "run", change)
    said = refused(*parts, code=3)
    assert "lower" in said
    assert "B to train" in said, "the size that is needed is named"
    assert not (tmp_path / "run").exists()


sizes = st.one_of(st.integers(-3, 70), st.integers(-(10**12), 10**12), st.floats())


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(["model.layers", "model.heads", "model.d_model", "model.context_length",
                          "train.batch_size", "train.micro_batch_size"]),
    value=sizes,
)  # fmt: skip
def test_any_number_is_planned_or_refused(
    text: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: float
) -> None:
    class PlannedError(Exception):
        pass

    def planned(*_: object) -> None:
        raise PlannedError

    monkeypatch.setattr(train_run, "create_run_dir", planned)
    try:
        code, out, err = command(*line(text, text.parent / "run", f"--{name}={value}"))
    except PlannedError:
        return
    assert code in (2, 3)
    assert out == ""
    assert err.startswith("scriven: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("content", ["", "   \n\n", "x", "xy"])
def test_too_little_text_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "t.txt").write_text(content)
    said = refused("train", str(tmp_path / "t.txt"), f"--out={tmp_path / 'run'}", "--json")
    assert "text" in said
    assert not (tmp_path / "run").exists()


def test_one_symbol_repeated_trains(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a" * 3000)
    code, out, err = command(*arguments(tmp_path / "t.txt", tmp_path / "run", "--json"))
    assert code == 0, err
    assert math.isfinite(json.loads(out)["val_loss"])


def test_a_validation_part_of_two_tokens_is_measured(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("ab" * 500)
    parts = [str(tmp_path / "t.txt"), f"--out={tmp_path / 'run'}"]
    given = [f"--{name}={value}" for name, value in SMALL.items()]
    code, out, err = command(
        "train", *parts, *given, "--data.val_fraction=0.002", "--budget=1step", "--json"
    )
    assert code == 0, err
    assert math.isfinite(json.loads(out)["val_loss"])
    (tmp_path / "two.txt").write_text("ab")
    code, out, err = command("evaluate", str(tmp_path / "run"), str(tmp_path / "two.txt"), "--json")
    assert code == 0, err
    assert json.loads(out)["tokens"] == 2


def test_evaluating_an_empty_text_is_refused(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    refused("evaluate", str(trained), str(tmp_path / "empty.txt"), "--json")


@pytest.mark.parametrize("prompt", ["", " ", "a" * 16, "a" * 17, "the rain " * 100_000, "é中🎉\0"])
def test_any_prompt_is_gone_on_with(trained: Path, prompt: str) -> None:
    parts = ["generate", str(trained), prompt, "--max-new-tokens=5", "--json"]
    code, out, err = command(*parts)
    assert code == 0, err
    made = json.loads(out)
    assert made["tokens"] <= 5
    assert bool(made["prompt_truncated"]) == (len(prompt) > 16)


@pytest.mark.parametrize(
    "knob",
    ["--max-new-tokens=-1", "--temperature=-1", "--temperature=nan", "--top-k=-1", "--top-p=2",
     "--min-p=-1", "--repetition-penalty=0", "--seed=-1", "--samples=0", "--seed=1e99"],
)  # fmt: skip
@pytest.mark.parametrize("json_too", [True, False])
def test_impossible_knobs_are_refused(trained: Path, knob: str, json_too: bool) -> None:
    refused("generate", str(trained), "It", knob, *(["--json"] if json_too else []))


@pytest.mark.parametrize(
    "shape", [{"layers": 10**6}, {"d_model": 10**6, "layers": 4000}, {"vocab_size": 10**12},
              {"context_length": 10**12}, {"heads": 0}, {"layers": -1}, {"d_model": "wide"}],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["generate", "evaluate", "inspect"])
def test_a_record_that_asks_for_everything_is_refused(
    trained: Path, tmp_path: Path, verb: str, shape: dict[str, object]
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    path = tmp_path / "run" / "scriven.json"
    record = json.loads(path.read_text())
    record.pop("digest")
    record["model"] |= shape
    path.write_bytes(signed_json(record))
    began = time.monotonic()
    refused(verb, str(tmp_path / "run"), "--json")
    assert time.monotonic() - began < 5
