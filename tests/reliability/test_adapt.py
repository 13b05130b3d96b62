"""Going on from a model with another text: what is kept, what is refused, and what resumes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

import scriven
from scriven.data.batch import Batch
from scriven.errors import SettingError
from scriven.evaluate.loss import Score
from scriven.train import datasets
from scriven.train.adapt_trainer import AdaptTrainer
from scriven.train.replay import ReplayDataset
from scriven.train.request import TrainRequest
from scriven.train.run import TrainResult, start_or_resume
from scriven.train.stopping import Interrupted
from scriven.train.train_step import TrainStep

from .runs import command, refused, request, stopping_at, whole, write_text

STEPS = 24
LORA: dict[str, object] = {"finetune.weights": "lora", "finetune.lora_rank": 2}
FULL: dict[str, object] = {"finetune.weights": "full"}


def write_other(folder: Path) -> Path:
    """A text unlike the one the base model was trained on."""
    path = folder / "other.txt"
    numbers = " ".join(str(number * number % 997) for number in range(900))
    path.write_text(f"{numbers} – no dash was in the first text.\n" * 2, encoding="utf-8")
    return path


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return write_other(tmp_path)


def asked(base: Path, text: Path, out: Path, settings: dict[str, object]) -> TrainRequest:
    made = request(text, out, f"{STEPS}steps", train__eval_interval=5, train__save_seconds=1000)
    kept = {name: each for name, each in made.settings.items() if not name.startswith("model.")}
    return replace(made, start=str(base), settings={**kept, **settings})


def adapt(base: Path, text: Path, out: Path, settings: dict[str, object]) -> TrainResult:
    return start_or_resume(asked(base, text, out, settings))


@pytest.mark.parametrize("settings", [FULL, LORA], ids=["full", "lora"])
def test_an_adapted_model_is_better_on_the_new_text_than_its_base(
    base: Path, other: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    results = adapt(base, other, tmp_path / "run", settings).results
    assert results["val_bits_per_byte"] < results["base_val_bits_per_byte"] - 0.1
    measured = scriven.load(base).evaluate(str(other))["bits_per_byte"]
    # the base as it came, on the held-out end of the text instead of all of it
    assert results["base_val_bits_per_byte"] == pytest.approx(measured, rel=0.1)
    # what is saved is what was measured
    saved = scriven.load(tmp_path / "run").evaluate()["bits_per_byte"]
    assert saved == pytest.approx(results["val_bits_per_byte"], rel=1e-5)
    # what it wrote at the end goes on from the held-out text, the end of the new one
    beginning = results["sample"][:8]
    assert beginning in other.read_text(encoding="utf-8")[-len(other.read_text()) // 4 :]


@pytest.fixture(scope="module")
def undisturbed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the adaptations that nobody stopped: `full` and `lora`."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for name, settings in (("full", FULL), ("lora", LORA)):
        adapt(base, write_other(folder), folder / name / "run", settings)
    return folder


@pytest.mark.parametrize("name", ["full", "lora"])
@pytest.mark.parametrize("stop", [0, 4, 17])
def test_an_interrupted_adaptation_resumes_bit_for_bit(
    base: Path, other: Path, undisturbed: Path, tmp_path: Path, name: str, stop: int
) -> None:
    out, settings = tmp_path / "run", {"full": FULL, "lora": LORA}[name]
    with stopping_at(stop), pytest.raises(Interrupted):
        adapt(base, other, out, settings)
    code, _, err = command("train", "--resume", str(out), "--quiet")
    assert code == 0, err
    assert whole(out) == whole(undisturbed / name / "run")


def test_models_are_compared_in_windows_of_one_length(base: Path, other: Path) -> None:
    model = scriven.load(base)
    usual = model.evaluate(str(other))
    assert usual["sequence_length"] == model.task.backbone.config.context_length
    result = model.evaluate(str(other), sequence_length=5)
    ids = model.tokenizer.encode(other.read_text(encoding="utf-8"))
    before, nats = [model.tokenizer.eos, *ids[:-1]], 0.0
    for start in range(0, len(ids), 5):
        window = slice(start, start + 5)
        batch = Batch(torch.tensor([before[window]]), torch.tensor([ids[window]]))
        with torch.inference_mode():
            logits = model.task.logits(model.task.hidden(batch))[0]
        nats += float(cross_entropy(logits, batch.targets[0], reduction="sum"))
    assert result["loss"] == pytest.approx(nats / len(ids), rel=1e-5) != usual["loss"]
    assert result["sequence_length"] == 5
    assert model.evaluate(str(other)) == usual
    for length in (0, 10_000):
        with pytest.raises(SettingError, match=f"sequence_length={length}: this model reads 1 to"):
            model.evaluate(str(other), sequence_length=length)


def test_the_sample_of_a_slow_model_ends_early(
    base: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_text = adapt(base, other, tmp_path / "whole", LORA).results["sample"]
    monkeypatch.setattr(datasets, "SAMPLE_SECONDS", 0.0)
    cut = adapt(base, other, tmp_path / "cut", LORA).results["sample"]
    assert len(cut) < len(whole_text) and whole_text.startswith(cut)


def test_the_first_step_does_not_wait_for_a_score(
    base: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    evaluate, step = AdaptTrainer.evaluate, TrainStep.__call__

    def noted(name: str, function: Any) -> Any:
        return lambda *given, **named: (calls.append(name), function(*given, **named))[1]

    monkeypatch.setattr(AdaptTrainer, "evaluate", noted("score", evaluate))
    monkeypatch.setattr(TrainStep, "__call__", noted("step", step))
    results = adapt(base, other, tmp_path / "lora", LORA).results
    # base and adapted model at the first evaluation, and at the end on all of the text
    assert calls[:8] == ["step"] * 5 + ["score", "score", "step"]
    assert calls[-2:] == ["score", "score"]
    assert results["base_val_loss"] > results["val_loss"]
    calls.clear()
    adapt(base, other, tmp_path / "full", FULL)
    assert calls[0] == "score", "its own weights change with the first step"


def test_a_training_that_only_makes_it_worse_leaves_the_base(base: Path, tmp_path: Path) -> None:
    text = write_text(tmp_path)  # its own
    results = adapt(base, text, tmp_path / "run", {**LORA, "optim.lr": 30.0}).results
    assert results["best_step"] == 0
    assert results["val_loss"] == results["base_val_loss"]
    weights, same = (scriven.load(each).task.state_dict() for each in (base, tmp_path / "run"))
    assert all(torch.equal(weights[name], each) for name, each in same.items())


@pytest.mark.parametrize("seconds", [20, 60])
def test_a_short_budget_is_not_spent_on_scores(
    base: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """Where evaluating the whole held-out text once takes 15 seconds, by a clock of our own."""
    clock, whole_text, step = [0.0], 15.0, TrainStep.__call__

    def evaluate(self: AdaptTrainer, **given: Any) -> Score:
        tokens = self.dataset.eval_tokens or self.total_tokens
        clock[0] += whole_text * tokens / self.total_tokens
        return Score(2.0, 0.5, tokens, 3.0)

    def slow_step(self: TrainStep, batch: Any, *given: Any) -> Any:
        total = sum(1 for _ in other.open(encoding="utf-8").read()) / 10  # about so many tokens
        clock[0] += 2 * whole_text * batch.num_tokens / total
        return step(self, batch, *given)

    def read_clock(self: AdaptTrainer) -> float:
        self.now = clock[0]
        return self.now

    monkeypatch.setattr(AdaptTrainer, "evaluate", evaluate)
    monkeypatch.setattr(AdaptTrainer, "read_clock", read_clock)
    monkeypatch.setattr(TrainStep, "__call__", slow_step)
    made = replace(asked(base, other, tmp_path / "run", LORA), budget=f"{seconds}s")
    settings = {name: each for name, each in made.settings.items() if "eval" not in name}
    results = start_or_resume(replace(made, settings=settings, replay="0")).results
    metadata = json.loads((tmp_path / "run" / "scriven.json").read_text())
    before, total = metadata["base"]["before"], metadata["data"]["validation_tokens"]
    assert results["steps"] > 1
    one_step = clock[0] / (results["steps"] + 2)  # about as long as an evaluation here
    assert clock[0] < seconds + 2 * one_step
    assert results["val_tokens"] == before["last_tokens"] < total
    assert 2 * whole_text * before["last_tokens"] / total < 0.3 * seconds


def test_tokenizer_and_shape_stay(base: Path, other: Path, tmp_path: Path) -> None:
    adapt(base, other, tmp_path / "run", FULL)
    before, after = scriven.load(base), scriven.load(tmp_path / "run")
    assert after.tokenizer.fingerprint == before.tokenizer.fingerprint
    assert after.metadata["model"] == before.metadata["model"]
    # a character that the base never saw is spelled in bytes, not taken for another one
    assert "–" not in Path(base.parent / "book.txt").read_text(encoding="utf-8")
    assert after.tokenizer.decode(after.tokenizer.encode("a – b")) == "a – b"


def test_a_lora_run_holds_adapters_and_the_digest_of_its_base(
    base: Path, other: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    adapt(base, other, out, LORA)
    assert not (out / "model.safetensors").exists()
    names = {path.name for path in (out / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    for path in out.glob("checkpoints/*/model.safetensors"):
        assert path.stat().st_size < (base / "model.safetensors").stat().st_size / 2
    # merged by hand, with the formula of the paper: W + (alpha / r) B A
    task, merged = scriven.load(base).task, scriven.load(out).task
    weights = task.state_dict()
    assert any(
        not torch.equal(weight, weights[name]) for name, weight in merged.state_dict().items()
    )
    assert torch.equal(
        merged.state_dict()["backbone.embed.token.weight"], weights["backbone.embed.token.weight"]
    )


def test_a_merged_run_is_whole_and_computes_the_same(
    base: Path, other: Path, tmp_path: Path
) -> None:
    adapt(base, other, tmp_path / "small", LORA)
    start_or_resume(replace(asked(base, other, tmp_path / "whole", LORA), merge=True))
    assert (tmp_path / "whole" / "model.safetensors").exists()
    small, large = (scriven.load(tmp_path / name).task.state_dict() for name in ("small", "whole"))
    for name, weight in small.items():
        torch.testing.assert_close(large[name], weight, rtol=0, atol=1e-6)


def test_adapters_whose_base_has_changed_are_refused(
    base: Path, other: Path, tmp_path: Path
) -> None:
    adapt(base, other, tmp_path / "run", LORA)
    path = tmp_path / "run" / "scriven.json"
    moved = tmp_path / "elsewhere"
    (tmp_path / "run").rename(moved)  # the base is not where it was, seen from here
    assert scriven.load(moved).generate("a", max_new_tokens=3, seed=0)
    adapt(base, other, tmp_path / "again", FULL)
    from scriven.runs.metadata import read_metadata, write_metadata

    metadata = read_metadata(moved)
    metadata["base"] |= {"folder": "../again", "run": str(tmp_path / "again")}
    write_metadata(moved, metadata)
    assert "other weights" in refused("generate", str(moved), "a")
    assert not path.exists()


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--model.layers=2", "--model.layers"),
        ("--tokenizer.kind=byte", "--tokenizer.kind"),
        ("--size=tiny", "--size"),
        ("--arch=gpt2", "--arch"),
        ("--train.sequence_length=4096", "4096"),
        ("--replay=nowhere.txt:0.2", "nowhere.txt"),
        ("--replay=nowhere.txt:7", "0 to 0.9"),
    ],
)
def test_what_would_make_it_another_model_is_refused_by_name(
    base: Path, other: Path, tmp_path: Path, flag: str, says: str
) -> None:
    out = tmp_path / "run"
    line = refused("train", str(other), f"--from={base}", f"--out={out}", "--budget=3steps", flag)
    assert says in line
    assert not out.exists()


@pytest.mark.parametrize("flag", ["--lora=4", "--replay=a.txt", "--merge", "--control"])
def test_flags_of_a_base_need_one(other: Path, tmp_path: Path, flag: str) -> None:
    assert "--from" in refused("train", str(other), f"--out={tmp_path / 'run'}", flag)


def test_another_base_or_none_does_not_resume_a_run(
    base: Path, writer: Path, other: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with stopping_at(4), pytest.raises(Interrupted):
        adapt(base, other, out, FULL)
    assert "--from" in refused("train", str(other), f"--out={out}")
    other_base = tmp_path / "base2"
    adapt(base, other, other_base, FULL)
    assert "another model" in refused("train", str(other), f"--out={out}", f"--from={other_base}")


def test_replay_mixes_in_the_base_models_own_text(base: Path, other: Path, tmp_path: Path) -> None:
    text = write_text(tmp_path)
    settings = {"train.batch_size": 5, **FULL}
    made = replace(asked(base, other, tmp_path / "run", settings), replay=f"{text}:0.4")
    results = start_or_resume(made).results
    assert results["old_bits_per_byte"] < results["old_bits_per_byte_before"] + 0.2
    without = start_or_resume(replace(made, replay="0", out=str(tmp_path / "none"))).results
    assert "old_bits_per_byte" not in without


def test_every_window_of_both_texts_is_read_once_per_epoch() -> None:
    """Whatever the batches are: a sample is a function of its number."""

    class Windows:
        def __init__(self, first: int) -> None:
            self.first = first

        def __len__(self) -> int:
            return 4 * 12 + 1

        def read_windows(self, starts: Any, length: int) -> Any:
            return (self.first + starts[:, None]).repeat(length, 1)

    class Corpus:
        tokenizer = None

        def __init__(self, first: int) -> None:
            self.train = Windows(first)

    class Task:
        window = 5

        def training_batch(self, windows: torch.Tensor, first: int, seed: int) -> torch.Tensor:
            return windows[:, 0]

    def read(size: int, count: int) -> list[int]:
        dataset: Any = ReplayDataset(Corpus(0), Corpus(1000), 0.25)  # type: ignore[arg-type]
        dataset.setup(Task(), 3, size, slice(0, size), torch.device("cpu"))
        return [int(each) for n in range(0, count, size) for each in dataset.batch(n)]

    samples = read(1, 44)
    assert read(4, 44) == samples
    assert read(11, 44) == samples
    new, old = [n for n in samples if n < 1000], [n for n in samples if n >= 1000]
    assert len(old) == 11
    assert len(set(old)) == 11  # an epoch of the older text
    assert len(set(new[:11])) == 11


def test_the_control_is_trained_on_the_same_split(base: Path, other: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    line = ["train", str(other), f"--from={base}", f"--out={out}", "--budget=4steps", "--json"]
    code, text, err = command(*line, "--control", "--replay=0", "--quiet")
    assert code == 0, err
    results = json.loads(text)
    control = scriven.load(out / "control")
    assert results["control"]["val_bits_per_byte"] == control.results["val_bits_per_byte"]
    own = scriven.load(out).metadata["data"]
    assert control.metadata["data"]["validation_bytes"] == own["validation_bytes"]


@pytest.mark.slow
def test_peft_loads_the_adapters_and_computes_the_same(
    base: Path, other: Path, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapt(base, other, tmp_path / "run", LORA)
    theirs = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(theirs, str(tmp_path / "run" / "adapter")).eval()
    ours = scriven.load(tmp_path / "run")
    ids = torch.tensor([ours.tokenizer.encode("16 25 36 49")])
    with torch.no_grad():
        expected, found = theirs(input_ids=ids).logits, ours.task.logits(ours.task.backbone(ids))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)(input_ids=ids).logits
    assert (plain - expected).abs().max() > 1e-2
