"""`scriven plan`: what it says, that it agrees with itself and with `inspect`, what it refuses."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

import scriven
from scriven import config
from scriven.cli import build_app, run
from scriven.inspect import inspect
from scriven.models import llama
from scriven.plan.planner import plan
from scriven.runs.peft import add_adapters


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert run(["plan", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_size_on_a_gpu_is_planned_whole(capsys: pytest.CaptureFixture[str]) -> None:
    data = planned(capsys, "--size", "1B", "--gpus", "8", "--device", "h100")
    assert data["model"]["layers"] == 26
    assert data["model"]["d_model"] == 1792
    assert data["batch_tokens"] == data["batch_size"] * data["model"]["context_length"] == 524_288
    assert data["tokens_per_parameter"] == pytest.approx(20, rel=0.01)
    assert data["flops"] == pytest.approx(6 * data["parameters"] * data["tokens"], rel=0.06)
    assert set(data["memory"]) == {
        "ddp", "fsdp", "ddp with checkpointing", "fsdp with checkpointing",
    }  # fmt: skip
    assert set(data["bytes_sent_per_token"]) == {"ddp", "fsdp"}
    assert data["bottleneck"] == "compute"
    assert data["seconds"] == pytest.approx(data["tokens"] / data["tokens_per_second"], rel=0.001)
    assert 0.3 < data["mfu"] < 0.4


def test_the_output_names_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--size", "1B", "--gpus", "8", "--device", "h100"]) == 0
    said = capsys.readouterr().out
    for word in (
        "1,063,714,816", "524,288", "matrices 0.02", "20 per parameter", "H100", "gradients",
        "optimizer", "activations", "fsdp with checkpointing", "bottleneck", "compute",
        "torchrun --standalone --nproc-per-node 8 -m scriven train TEXT --size 1B",
    ):  # fmt: skip
        assert word in said, word
    assert max(len(line) for line in said.splitlines()[:-1]) <= 120


def test_parameters_and_flops_are_those_of_inspect() -> None:
    fields = {
        "model.layers": 12,
        "model.heads": 12,
        "model.d_model": 768,
        "model.context_length": 1024,
        "model.vocab_size": 50257,
    }
    ours = plan("124M", arch="gpt2", device="a100", settings=fields)
    counted = inspect("gpt2-small")
    assert ours["parameters"] == counted["parameters"] == 124_439_808
    assert ours["parts"] == counted["parts"]
    assert ours["flops_per_token"] == counted["flops_training"]


@pytest.mark.parametrize("arch", ["llama", "gpt1", "gpt3", "roberta", "transformer", "rnn"])
def test_every_kind_of_architecture_is_planned(arch: str) -> None:
    data = plan("12M", arch=arch, device="h200")
    assert data["seconds"] > 0
    assert data["architecture"] == arch
    assert arch == "llama" or f"--arch {arch}" in data["command"]


@pytest.mark.parametrize("budget", ["6h", "24h", "30d"])
def test_a_budget_in_hours_finds_size_and_tokens_that_fill_it(budget: str) -> None:
    hours = {"6h": 6, "24h": 24, "30d": 720}[budget]
    data = plan(budget=budget, gpus=8, device="a100")
    assert data["seconds"] == pytest.approx(hours * 3600, rel=0.02)
    assert data["tokens_per_parameter"] == pytest.approx(20, rel=0.12)


def test_a_size_and_a_budget_in_hours_find_the_tokens() -> None:
    data = plan("124M", budget="24h", gpus=8, device="a100")
    assert data["seconds"] == pytest.approx(86400, rel=0.02)
    assert data["tokens_per_parameter"] > 100


def test_budgets_in_tokens_epochs_and_steps() -> None:
    asked: dict[str, Any] = {"device": "h100", "gpus": 8}
    assert plan("350M", budget="1Gtokens", **asked)["tokens"] == 1e9
    twice = plan("350M", budget="2epochs", tokens="44GB", **asked)
    assert twice["tokens"] == pytest.approx(2e10)
    assert twice["epochs"] == pytest.approx(2)
    steps = plan("350M", budget="1000steps", **asked)
    assert steps["steps"] == 1000
    assert steps["batch_tokens"] == 32768, "as `train` has it, where tokens are not said"
    assert plan(tokens="20G", **asked)["size"] == "1B"


def test_a_short_budget_on_a_processor_needs_nothing_else() -> None:
    data = plan(device="cpu", peak=0.2)
    assert data["seconds"] == pytest.approx(600, rel=0.05)
    assert data["batch_tokens"] == 2048
    assert data["device"]["source"] == "as given"


def test_more_devices_take_no_longer_and_cost_no_less() -> None:
    found = [plan("1B", device="h100", gpus=count) for count in (1, 8, 64, 512)]
    times = [data["seconds"] for data in found]
    assert times == sorted(times, reverse=True)
    hours = [time * data["gpus"] for time, data in zip(times, found, strict=True)]
    assert hours == sorted(hours)


def test_more_devices_than_sequences_stand_idle(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--size", "1B", "--gpus", "1024", "--device", "h100"]) == 0
    assert "512 devices: a step has 512 sequences" in capsys.readouterr().out


def test_a_slow_network_becomes_the_bottleneck() -> None:
    data = plan("1B", device="h100", gpus=64, network=0.1)
    assert data["bottleneck"] == "communication"
    assert plan("1B", device="h100", gpus=64)["bottleneck"] == "compute"


def test_what_does_not_fit_says_what_would(capsys: pytest.CaptureFixture[str]) -> None:
    data = planned(capsys, "--size", "70B", "--gpus", "2", "--device", "h100")
    assert data["bottleneck"] == "memory"
    assert data["seconds"] is None
    assert data["min_gpus"] > 2
    assert run(["plan", "--size", "70B", "--gpus", "2", "--device", "h100"]) == 0
    assert f"{data['min_gpus']} of them would hold it" in capsys.readouterr().out
    enough = plan("70B", gpus=data["min_gpus"], device="h100")
    assert enough["seconds"] is not None


@pytest.mark.parametrize(
    "asked",
    [
        {"size": "12M"},
        {"size": "7B", "gpus": 32},
        {"size": "1B", "gpus": 2, "settings": {"optim.optimizer": "adamw", "train.batch_size": 64}},
        {"size": "12M", "arch": "gpt2", "budget": "500steps"},
        {"size": "12M", "settings": {"model.vocab_size": 5000, "model.context_length": 512}},
    ],
)
def test_the_command_it_ends_with_is_understood(asked: dict[str, Any]) -> None:
    words = shlex.split(plan(device="h100", **asked)["command"])
    words = words[words.index("train") :]
    rest, settings = config.split_arguments(words)
    _, bound, ignored = build_app().parse_args(rest, exit_on_error=False, print_error=False)
    assert bound.arguments["size"] == asked["size"]
    assert "settings" in ignored
    known = {
        f"{name}.{key}"
        for name, key in (
            ("train", "micro_batch_size"),
            ("train", "batch_size"),
            ("optim", "optimizer"),
            ("model", "context_length"),
            ("tokenizer", "vocab_size"),
            ("runtime", "parallel"),
            ("runtime", "activation_checkpointing"),
        )
    }
    assert set(settings) <= known


@pytest.mark.parametrize(
    "words",
    [
        "--size huge",
        "--size 1",
        "--gpus 0",
        "--gpus 10000000",
        "--device tpu",
        "--utilisation 0",
        "--utilisation 2",
        "--peak -1",
        "--network 0",
        "--tokens many",
        "--budget soon",
        "--budget 100steps",
        "--budget 2epochs",
        "--arch none",
        "--optim.lr=-1",
        "--nothing.at_all=1",
        "--model.d_model=7 --size 1M",
        "--train.batch_size=0 --size 1M",
    ],
)
def test_the_impossible_is_refused_in_one_line(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    device = [] if "--device" in words else ["--device", "h100"]
    assert run(["plan", *device, *words.split()]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1


def test_going_on_from_a_model_is_planned_from_its_small_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "book.txt"
    text.write_text("It was a dark night. She said nothing. " * 60)
    shape = {"model.context_length": 32, "model.d_model": 32, "model.heads": 2}
    base = scriven.train(
        text, budget="1steps", out=tmp_path / "base", settings=shape, quiet=True, size="tiny"
    )
    (base.folder / "model.safetensors").unlink()  # weights are not read
    capsys.readouterr()
    line = ["--from", str(base.folder), "--device", "h200", "--budget", "100steps"]
    whole, adapters = planned(capsys, *line, "--lora", "0"), planned(capsys, *line, "--lora", "2")
    parameters = sum(weight.numel() for weight in base.task.parameters())
    assert whole["parameters"] == whole["trained_parameters"] == parameters
    task = base.task
    add_adapters(task, llama, task.backbone.config, 2)
    trained = sum(weight.numel() for weight in task.parameters() if weight.requires_grad)
    assert adapters["trained_parameters"] == trained
    # forward and backward without the gradients of weights
    assert adapters["flops_per_token"] == whole["flops_per_token"] * 2 // 3
    assert sum(adapters["memory"].values()) < sum(whole["memory"].values())
    assert whole["tokens"] == 100 * whole["batch_tokens"]
    assert run(["plan", *line]) == 0
    assert "scriven train TEXT --from" in capsys.readouterr().out
