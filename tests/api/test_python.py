"""The Python front door: train, load, and the compile-and-fit style."""

import math
from pathlib import Path

import pytest
import torch

import scriven
from scriven.errors import InputError, SettingError

SHAPE = {"layers": 1, "heads": 2, "d_model": 32, "context_length": 16}
SMALL = {f"model.{name}": value for name, value in SHAPE.items()} | {"runtime.dtype": "float32"}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text("It was a dark and stormy night; the rain fell in torrents. " * 80)
    return path


def train(text: Path, **changes) -> scriven.Model:
    arguments = {"budget": "30steps", "out": text.parent / "run", "quiet": True, **changes}
    return scriven.train(text, settings=SMALL, **arguments)


def test_train_generate_evaluate_load(text: Path) -> None:
    model = train(text)
    written = model.generate("It was", max_new_tokens=20, seed=3)
    assert written.startswith("It was")
    assert len(written) > len("It was")
    again = scriven.load(model.folder)
    assert again.generate("It was", max_new_tokens=20, seed=3) == written
    assert again.generate("It was", max_new_tokens=20, seed=4) != written
    assert again.evaluate()["loss"] == pytest.approx(model.results["val_loss"], abs=1e-6)
    assert again.results["val_loss"] == model.results["val_loss"]
    assert "<html" in again.report().read_text()


def test_results_hold_what_scripts_rely_on(text: Path) -> None:
    results = train(text).results
    wanted = {"run", "val_loss", "val_bits_per_byte", "val_accuracy", "best_step", "steps",
              "tokens", "seconds", "tokens_per_second", "parameters", "ngram_loss"}  # fmt: skip
    assert wanted <= results.keys()
    assert results["steps"] == 30
    assert results["val_bits_per_byte"] == pytest.approx(results["val_loss"] / math.log(2))


def test_the_same_call_again_gives_the_same_result_without_training(text: Path) -> None:
    first = train(text)
    before = (first.folder / "model.safetensors").stat().st_mtime_ns
    assert train(text).results["val_loss"] == first.results["val_loss"]
    assert (first.folder / "model.safetensors").stat().st_mtime_ns == before


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(text: Path) -> None:
    def weights(seed: int, name: str) -> bytes:
        made = train(text, seed=seed, out=text.parent / name)
        return (made.folder / "model.safetensors").read_bytes()

    assert weights(5, "a") == weights(5, "b")
    assert weights(5, "a") != weights(6, "c")


def test_evaluating_a_text_equals_the_mean_by_hand(text: Path, tmp_path: Path) -> None:
    model = train(text)
    other = tmp_path / "other.txt"
    other.write_text("a dark night; and the rain fell on and on and on")
    ids = model.tokenizer.encode(other.read_text())
    total = 0.0
    context = model.task.backbone.config.context_length
    for start in range(0, len(ids), context):
        window = ids[start : start + context]
        before = [model.tokenizer.eos] if start == 0 else [ids[start - 1]]
        logits = model.task.logits(model.task.backbone(torch.tensor([before + window[:-1]])))[0]
        chances = logits.log_softmax(-1)
        total -= sum(chances[i, token].item() for i, token in enumerate(window))
    figures = model.evaluate(str(other))
    assert figures["tokens"] == len(ids)
    assert figures["loss"] == pytest.approx(total / len(ids), rel=1e-3)
    assert figures["perplexity"] == pytest.approx(math.exp(figures["loss"]))


def test_compile_and_fit(text: Path) -> None:
    gpt = scriven.GPT(**SHAPE)
    gpt.compile(optimizer="adamw", loss="cross_entropy", metrics=["accuracy"])
    history = gpt.fit(text, epochs=2)
    assert history.history["val_loss"][-1] < history.history["val_loss"][0]
    assert gpt.evaluate()["accuracy"] > 0.1
    assert gpt.generate("It was", max_new_tokens=5).startswith("It was")
    saved = gpt.save(text.parent / "saved")
    assert scriven.load(saved).evaluate()["loss"] == pytest.approx(gpt.evaluate()["loss"])


def test_own_optimizer_loss_and_metric_are_used(text: Path) -> None:
    made: list[torch.optim.Optimizer] = []

    def optimizer(weights):
        made.append(torch.optim.Adagrad(weights, lr=0.05))
        return made[0]

    def top3(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (logits.topk(3).indices == targets[:, None]).any(-1).float().mean()

    gpt = scriven.GPT(**SHAPE, tokenizer="byte")
    smooth = torch.nn.CrossEntropyLoss(label_smoothing=0.3)
    gpt.compile(optimizer=optimizer, loss=smooth, metrics=["accuracy", top3])
    history = gpt.fit(text, budget="25steps")
    assert made
    figures = gpt.evaluate()
    assert figures["top3"] > figures["accuracy"]
    assert len(history.history["val_top3"]) == len(history.history["val_loss"])
    assert min(history.history["val_loss"]) > 1.5  # the smoothed loss cannot fall further


def test_a_second_fit_goes_on_from_the_first(text: Path) -> None:
    gpt = scriven.GPT(**SHAPE)
    gpt.compile(optimizer="adamw")
    first = gpt.fit(text, budget="60steps").history["loss"]
    second = gpt.fit(text, budget="20steps").history["loss"]
    assert second[0] < first[0] - 1


@pytest.mark.parametrize(
    "arguments",
    [{"optimizer": "adamm"}, {"loss": "mse"}, {"metrics": ["f1"]}],
)
def test_unknown_names_are_refused_with_the_known_ones(arguments: dict) -> None:
    with pytest.raises(SettingError, match="use"):
        scriven.GPT(**SHAPE).compile(**arguments)


def test_using_a_model_before_fit_is_one_clear_line() -> None:
    with pytest.raises(InputError, match="call fit first"):
        scriven.GPT(**SHAPE).generate("x")


def test_unknown_knobs_and_shapes_are_refused(text: Path) -> None:
    with pytest.raises(InputError, match="known are max_new_tokens"):
        train(text).generate("x", temprature=1)
    with pytest.raises(SettingError, match=r"did you mean --model\.d_model"):
        scriven.GPT(d_modle=3)


def test_own_architecture_file_trains_and_must_be_given_again_to_load(text: Path) -> None:
    source = Path(scriven.__file__).parent / "models" / "gpt2.py"
    own = text.parent / "mine.py"
    own.write_text(
        source.read_text()
        .replace("from ..", "from scriven.")
        .replace("from .", "from scriven.models.")
    )
    model = train(text, arch=str(own))
    assert model.metadata["architecture"] == "mine"
    with pytest.raises(InputError, match="name its file, arch"):
        scriven.load(model.folder)
    again = scriven.load(model.folder, arch=str(own))
    assert again.generate("It", max_new_tokens=5, seed=1) == model.generate(
        "It", max_new_tokens=5, seed=1
    )


def test_own_architecture_goes_on_and_measures_with_its_file(text: Path) -> None:
    own = text.parent / "mine.py"
    source = (Path(scriven.__file__).parent / "models" / "gpt2.py").read_text()
    source = source.replace("from ..", "from scriven.").replace("from .", "from scriven.models.")
    own.write_text(source)
    first = train(text, arch=str(own))
    again = train(text, arch=str(own))
    assert again.results["val_loss"] == first.results["val_loss"]
    assert again.evaluate()["loss"] == pytest.approx(first.results["val_loss"], abs=1e-6)
    with pytest.raises(InputError, match=r"arch mine\.py"):
        train(text)
    with pytest.raises(InputError, match="begun with arch mine"):
        train(text, arch="gpt2")


def test_a_run_with_own_parts_goes_on_only_with_them(text: Path) -> None:
    from scriven.runs.metadata import read_metadata, write_metadata

    gpt = scriven.GPT(**SHAPE)
    gpt.compile(optimizer=lambda weights: torch.optim.SGD(weights, lr=0.1))
    gpt.fit(text, budget="5steps", out=text.parent / "own")
    folder = text.parent / "own"
    write_metadata(folder, {**read_metadata(folder), "results": None})
    with pytest.raises(InputError, match="optimizer of your own"):
        scriven.train(resume=folder, quiet=True)
