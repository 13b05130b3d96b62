"""The machine's report: rates against a clock that is known, and a page that a person can read."""

import itertools
import json

import pytest

from scriven.cli import run
from scriven.machine import benchmark
from scriven.models import llama
from scriven.models.shared.cost import flops_per_token
from scriven.tasks.language import Language
from scriven.train.scaling_laws import SIZES
from scriven.train.throughput import CONTEXT_LENGTH


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One tiny shape, and no time for repetitions."""
    monkeypatch.setattr(benchmark, "MODEL_SIZES", ("tiny",))
    monkeypatch.setattr(benchmark, "SECONDS_PER_FIGURE", 0.0)
    monkeypatch.setattr(benchmark, "GENERATED_TOKENS", 3)
    monkeypatch.setattr(benchmark, "GENERATION_BATCH_SIZE", 2)
    monkeypatch.setattr(benchmark, "bandwidth", lambda megabytes: {"read": 20.0})


def test_bandwidth_counts_bytes_and_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(0, 2.0)
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(ticks))
    found = benchmark.bandwidth(1, repeats=1)
    read = 64 * (1 << 20) / 1e9 / 2.0  # a MiB of float32, 64 times in two seconds
    assert found == {"read": round(read, 1), "copy": round(2 * read, 1)}


def test_shares_follow_from_the_rates(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "matmul_rate", lambda dtype, device: 100.0)
    (found,) = benchmark.benchmark()["sizes"]
    model = llama.Config(vocab_size=258, context_length=CONTEXT_LENGTH, **vars(SIZES["tiny"]))
    task = Language(llama.Model(model))
    flops = flops_per_token(task)["training"]
    assert found["parameters"] == sum(weight.numel() for weight in task.parameters())
    assert found["training_mfu"] == pytest.approx(
        found["training_tokens_per_second"] * flops / 1e11, abs=1e-3
    )
    expected = found["generation_tokens_per_second"] * found["parameters"] * 4 / 20e9
    assert found["generation_bandwidth_utilisation"] == pytest.approx(expected, abs=1e-3)


def test_a_person_and_a_program_can_read_it(
    quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench"]) == 0
    page = capsys.readouterr().out
    assert "GFLOP/s" in page and "tiny, 0.1M" in page and "a batch of 2" in page
    assert run(["bench", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sizes"][0]["size"] == "tiny" and told["sizes"][0]["training_tokens_per_second"] > 0


def test_a_bench_of_architectures_still_needs_a_text(
    quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "--arch", "llama"]) == 2
    assert "no text" in capsys.readouterr().err
