"""`compile`, `fit` and what belongs to them mean what they mean in Keras."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import scriven
from scriven.errors import InputError, SettingError
from scriven.keras.callbacks import Callback
from scriven.keras.optimizers import REFUSED, torch_optimizers

SHAPE = {"layers": 1, "heads": 2, "d_model": 32, "context_length": 16}
PLAIN = {"runtime.dtype": "float32", "optim.grad_clip": 0, "optim.lr_schedule": "constant",
         "optim.warmup_fraction": 0, "train.initial_context_length": 16}  # fmt: skip
"""Settings under which a step is that of the optimizer alone."""


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "book.txt"
    path.write_text("It was a dark and stormy night; the rain fell in torrents. " * 80)
    return str(path)


def gpt(**changes: Any) -> scriven.GPT:
    return scriven.GPT(**{**SHAPE, "tokenizer": "byte", **changes})


class Recorder(torch.optim.SGD):
    """SGD that keeps the gradients it gets and the weights it leaves."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.gradients: list[list[torch.Tensor]] = []
        self.after: list[list[torch.Tensor]] = []

    def step(self, closure: Any = None) -> None:
        weights = self.param_groups[0]["params"]
        self.gradients.append([weight.grad.clone() for weight in weights])
        super().step(closure)
        self.after.append([weight.detach().clone() for weight in weights])


def test_the_line_of_keras_with_an_optimizer_object(text: str) -> None:
    model = gpt()
    weights = model.parameters()
    before = [weight.detach().clone() for weight in weights]
    optimizer = Recorder(weights, lr=0.05)
    model.compile(optimizer=optimizer, loss=torch.nn.CrossEntropyLoss(), metrics=["accuracy"])
    history = model.fit(text, epochs=2, settings=PLAIN, verbose=0).history
    # the object steps the weights of this model: w <- w - 0.05 g, step by step
    for gradients, after in zip(optimizer.gradients, optimizer.after, strict=True):
        for old, gradient, new in zip(before, gradients, after, strict=True):
            torch.testing.assert_close(new, old - 0.05 * gradient, rtol=0, atol=1e-6)
        before = after
    assert len(optimizer.after) > 4
    assert history["val_loss"][-1] < history["val_loss"][0]
    # the same tensors hold the result, which is what the model is used with
    assert all(new is old for new, old in zip(model.parameters(), weights, strict=True))
    assert model.evaluate()["loss"] == pytest.approx(min(history["val_loss"]), abs=1e-5)
    # the learning rate is the user's again, and the next fit goes on with it
    assert optimizer.param_groups[0]["lr"] == 0.05
    again = model.fit(text, epochs=1, settings=PLAIN, verbose=0).history
    assert again["loss"][0] < history["loss"][0]


def test_weights_that_no_optimizer_holds_stay(text: str) -> None:
    model = gpt()
    first, *others = model.parameters()
    kept = [weight.detach().clone() for weight in others]
    moved = first.detach().clone()
    model.compile(optimizer=torch.optim.Adam([first], lr=1e-2))
    model.fit(text, epochs=1, verbose=0)
    assert not torch.equal(first, moved)
    assert all(torch.equal(new, old) for new, old in zip(model.parameters()[1:], kept, strict=True))


def test_weights_exist_from_build_and_an_optimizer_of_others_is_refused(text: str) -> None:
    model = scriven.GPT(**SHAPE, tokenizer="char")
    with pytest.raises(InputError, match=r"call build\(TEXT\) first"):
        model.parameters()
    foreign = torch.optim.SGD(gpt().parameters(), lr=0.1)
    with pytest.raises(SettingError, match="weights of another model"):
        model.compile(optimizer=foreign)
    assert model.build(text) is model
    with pytest.raises(SettingError, match="weights of another model"):
        model.compile(optimizer=foreign)
    vocabulary = model.tokenizer.vocab_size
    assert model.parameters()[0].shape == (vocabulary, 32)
    model.compile(optimizer=torch.optim.AdamW(model.parameters(), lr=3e-3))
    history = model.fit(text, epochs=2, verbose=0).history
    assert history["val_loss"][-1] < np.log(vocabulary)


def test_the_first_weights_are_those_of_a_run_with_this_seed(text: str) -> None:
    first, built = gpt(tokenizer="char", seed=3), gpt(tokenizer="char", seed=3).build(text)
    first.compile(optimizer="sgd", lr=0.0)
    first.fit(text, budget="1steps", verbose=0)
    for one, other in zip(first.get_weights(), built.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "name", sorted(set(torch_optimizers()) - set(REFUSED) - {"adamw", "muon", "sgd"})
)
def test_every_name_of_torch_optim_is_that_optimizer(name: str) -> None:
    model = gpt()
    weights = model.parameters()
    model.compile(optimizer=name)
    optimizer = model._components.optimizer(weights)
    assert type(optimizer) is torch_optimizers()[name]
    before = [weight.detach().clone() for weight in weights]
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    for _ in range(6):  # RAdam and others begin with tiny steps
        optimizer.step()
    assert not any(torch.equal(*pair) for pair in zip(weights, before, strict=True))


def test_a_name_of_torch_optim_trains(text: str) -> None:
    model = gpt()
    model.compile(optimizer="RMSprop", lr=3e-3)
    losses = model.fit(text, epochs=3, verbose=0).history["val_loss"]
    assert losses[-1] < losses[0] < np.log(model.tokenizer.vocab_size)


def test_a_shape_of_default_values_is_kept_although_another_suits_the_text(text: str) -> None:
    config = type(gpt()._task.backbone.config)()
    shape = {"layers": 1, "heads": config.heads, "d_model": config.d_model, "context_length": 32}
    model = scriven.GPT(**shape, tokenizer="char")
    model.fit(text, budget="1steps", verbose=0)
    fitted = model.model.metadata["model"]
    assert {name: fitted[name] for name in shape} == shape


def test_names_classes_and_learning_rates(text: str) -> None:
    model = gpt()
    kinds = {"Adam": torch.optim.Adam, torch.optim.RMSprop: torch.optim.RMSprop}
    for given, kind in kinds.items():
        model.compile(optimizer=given, lr=0.004)
        made = model._components.optimizer(model.parameters())
        assert type(made) is kind
        assert made.param_groups[0]["lr"] == 0.004
    for name in ("muon", "adamw", "sgd"):  # ours, which are settings of the run
        model.compile(optimizer=name)
        assert model._settings == {"optim.optimizer": name}
    with pytest.raises(SettingError, match=r"adagrad, adam, adamax, adamw.*rmsprop"):
        model.compile(optimizer="adamm")
    for refused in ("LBFGS", torch.optim.SparseAdam):
        with pytest.raises(SettingError, match="cannot train"):
            model.compile(optimizer=refused)
    with pytest.raises(SettingError, match="has its own"):
        model.compile(optimizer=torch.optim.Adam(model.parameters()), lr=0.1)
    model.compile(optimizer=torch.optim.Muon)  # takes matrices only
    with pytest.raises(SettingError, match="use a function"):
        model.fit(text, epochs=1, verbose=0)


def test_a_fit_that_lowers_the_learning_rate_leaves_the_optimizers_own(text: str) -> None:
    model = gpt()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.compile(optimizer=optimizer)
    model.fit(text, epochs=1, verbose=0)
    assert optimizer.param_groups[0]["lr"] == 3e-3


def test_history_has_one_entry_per_epoch(text: str) -> None:
    def bits(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits, targets) / np.log(2)

    losses: list[float] = []

    class Watch(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            losses.append(logs["loss"])

    model = gpt()
    model.compile(optimizer="adamw", metrics=["accuracy", bits])
    history = model.fit(text, epochs=4, callbacks=[Watch()], verbose=0)
    assert history.history.keys() == {"loss", "accuracy", "val_loss", "val_accuracy", "val_bits"}
    assert {len(values) for values in history.history.values()} == {4}
    assert history.epoch == [0, 1, 2, 3]
    steps = history.params["steps"]
    assert history.params["epochs"] == 4
    assert len(losses) == 4 * steps
    # loss and accuracy are means over the steps of the epoch
    means = [np.mean(losses[first : first + steps]) for first in range(0, 4 * steps, steps)]
    np.testing.assert_allclose(history.history["loss"], means, rtol=1e-6)
    bits_ = [each * np.log(2) for each in history.history["val_bits"]]
    np.testing.assert_allclose(bits_, history.history["val_loss"], rtol=1e-2)


def test_initial_epoch_numbers_the_epochs_that_are_left(text: str) -> None:
    model = gpt()
    model.fit(text, epochs=2, verbose=0)
    history = model.fit(text, epochs=5, initial_epoch=2, verbose=0)
    assert history.epoch == [2, 3, 4]
    with pytest.raises(SettingError, match="above initial_epoch=5"):
        model.fit(text, epochs=5, initial_epoch=5)


def test_callbacks_are_called_in_the_order_of_keras_and_can_stop(text: str) -> None:
    class Watch(Callback):
        def __init__(self) -> None:
            self.calls: list[str] = []

        def on_train_begin(self, logs: Any = None) -> None:
            self.calls.append("train begin")

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.calls.append(f"begin {epoch}")

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.calls.append(f"end {epoch}")
            self.weights = self.model.get_weights()
            self.model.stop_training = epoch == 1

        def on_train_end(self, logs: Any = None) -> None:
            self.calls.append("train end")

    watch, model = Watch(), gpt()
    history = model.fit(text, epochs=9, callbacks=[watch], verbose=0)
    ends = ["begin 0", "end 0", "begin 1", "end 1"]
    assert watch.calls == ["train begin", *ends, "train end"]
    assert history.epoch == [0, 1]
    assert model.stop_training
    with pytest.raises(SettingError, match="callbacks: 'x' has no method"):
        model.fit(text, epochs=1, callbacks=["x"])


def test_verbose_prints_a_line_per_epoch_or_nothing(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gpt().fit(text, epochs=2, verbose=2)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" - ")[0] for line in lines] == ["Epoch 1/2", "Epoch 2/2"]
    assert all("val_loss: " in line and "accuracy: " in line for line in lines)
    gpt().fit(text, epochs=1, verbose=0)
    captured = capsys.readouterr()
    assert captured.err + captured.out == ""


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_validation_data_is_measured_and_the_text_is_trained_whole(
    kind: str, text: str, tmp_path: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("It was a night of rain; torrents fell in the dark. " * 20)
    model = scriven.GPT(**SHAPE, tokenizer=kind)
    settings = {"tokenizer.vocab_size": 280} if kind == "bpe" else {}
    history = model.fit(text, epochs=2, validation_data=str(other), verbose=0, settings=settings)
    ids = model.tokenizer.encode(Path(text).read_text())
    assert model.model.metadata["data"]["train_tokens"] == len(ids)
    assert model.evaluate()["loss"] == pytest.approx(min(history.history["val_loss"]), rel=1e-5)
    assert model.evaluate(str(other))["loss"] == pytest.approx(model.evaluate()["loss"], rel=1e-5)
    with pytest.raises(SettingError, match="not both"):
        model.fit(text, validation_data=str(other), validation_split=0.1)


def test_validation_split_is_the_fraction_held_out(text: str) -> None:
    model = gpt()
    model.fit(text, epochs=1, validation_split=0.25, verbose=0)
    data = model.model.metadata["data"]
    characters = len(Path(text).read_text())
    assert data["train_tokens"] == int(0.75 * characters)
    assert data["validation_tokens"] == characters - int(0.75 * characters)


def test_weights_are_read_and_written_as_arrays(text: str) -> None:
    model = gpt()
    model.fit(text, epochs=1, verbose=0)
    trained, written = model.get_weights(), model.generate("It", max_new_tokens=8, seed=1)
    assert sum(each.size for each in trained) == model.count_params()
    model.set_weights([np.zeros_like(each) for each in trained])
    assert model.evaluate()["loss"] == pytest.approx(np.log(model.tokenizer.vocab_size), rel=1e-4)
    model.set_weights(trained)
    assert model.generate("It", max_new_tokens=8, seed=1) == written
    with pytest.raises(InputError, match="2 arrays for"):
        model.set_weights(trained[:2])
    with pytest.raises(InputError, match=r"array 0 has the shape \(3, 3\)"):
        model.set_weights([np.zeros((3, 3)), *trained[1:]])


def test_predict_gives_the_probabilities_of_the_next_token(text: str) -> None:
    model = gpt()
    model.fit(text, epochs=2, verbose=0)
    beginnings = ["It was a dar", "", "the rain fell in torrents. It"]
    chances = model.predict(beginnings)
    assert chances.shape == (3, model.tokenizer.vocab_size)
    np.testing.assert_allclose(chances.sum(1), 1, atol=1e-5)
    # greedy generation takes the likeliest of them
    likeliest = model.tokenizer.decode([int(chances[0].argmax())])
    assert (
        model.generate(beginnings[0], max_new_tokens=1, temperature=0) == "It was a dar" + likeliest
    )
    np.testing.assert_allclose(model.predict("It was a dar"), chances[:1], atol=1e-5)


def test_a_saved_model_is_loaded_and_fitted_further(text: str, tmp_path: Path) -> None:
    model = gpt()
    model.fit(text, epochs=2, verbose=0)
    again = scriven.GPT.load(model.save(tmp_path / "saved"))
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    before = model.evaluate()["loss"]
    again.compile(optimizer=torch.optim.Adam(again.parameters(), lr=1e-3))
    assert again.fit(text, epochs=1, verbose=0).history["val_loss"][0] < before


def test_an_interrupted_fit_keeps_the_weights_and_goes_on(text: str, tmp_path: Path) -> None:
    class Stop(Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                signal.raise_signal(signal.SIGINT)

    model, out = gpt(), tmp_path / "run"
    model.compile(optimizer=torch.optim.Adam(model.parameters(), lr=1e-3))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of a shell ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            model.fit(text, epochs=4, callbacks=[Stop()], out=out, verbose=0)
    finally:
        signal.signal(signal.SIGINT, before)
    assert model.generate("It", max_new_tokens=3).startswith("It")
    history = model.fit(text, epochs=4, out=out, verbose=0)
    assert history.epoch == [0, 1, 2, 3]


def test_summary_is_that_of_keras(text: str) -> None:
    model, lines = gpt(layers=2), list[str]()
    model.summary(print_fn=lines.append)
    table = lines[0].splitlines()
    assert table[0] == 'Model: "llama"'
    assert "Layer (type)" in table[2]
    assert "Output Shape" in table[2]
    assert "Param #" in table[2]
    rows = [line.split("│")[1:4] for line in table if line.startswith("│")]
    names = [row[0].split()[0] for row in rows]
    assert names == ["embed", "blocks.0", "blocks.1", "norm"]
    assert {row[1].strip() for row in rows} == {"(None, 16, 32)"}
    counts = sum(int(row[2].replace(",", "")) for row in rows)
    assert f" Total params: {counts:,} " in lines[0]
    assert counts == model.count_params() == sum(each.numel() for each in model.parameters())
    assert " Non-trainable params: 0" in lines[0]


def test_errors_name_arguments_of_python(text: str, tmp_path: Path) -> None:
    model, out = gpt(), tmp_path / "run"
    model.fit(text, epochs=1, out=out, verbose=0)
    with pytest.raises(InputError, match=r"or out=NEW for a new run") as caught:
        gpt(layers=2).fit(text, epochs=1, out=out, verbose=0)
    assert "--" not in str(caught.value)
