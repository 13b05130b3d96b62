"""`scriven explain` against the NumPy model of examples/by_hand.py, and against formulas."""

import json
import math
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import scriven
from scriven.cli import run
from scriven.errors import InputError, SettingError
from scriven.model import Model
from scriven.report.explanation import as_html, as_text

HAND = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "by_hand.py"))
TEXT = "the rain"
SHAPE = {"model.layers": 2, "model.d_model": 16, "model.heads": 2, "model.context_length": 16}
Found = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where runs/book and runs/gaps are."""
    place = tmp_path_factory.mktemp("explained")
    (place / "book.txt").write_text("She said nothing, and the rain fell on the town.\n" * 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for arch, name in (("gpt2", "book"), ("rnn", "state"), ("roberta", "gaps")):
            shape = {key: SHAPE[key] for key in SHAPE if arch != "rnn" or key != "model.heads"}
            scriven.train(
                "book.txt", arch=arch, budget="4steps", quiet=True, out=f"runs/{name}",
                settings={**shape, "model.dropout": 0.1},
            )  # fmt: skip
        yield place


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return scriven.load("book")


@pytest.fixture(scope="module")
def found(model: Model) -> Found:
    return model.explain(TEXT, layer=1, head=1, lr=0.02)


@pytest.fixture(scope="module")
def hand(model: Model) -> Any:
    """The same weights in NumPy, in float64."""
    weights = {
        name: weight.detach().double().numpy().copy()
        for name, weight in model.task.backbone.named_parameters()
    }
    config = HAND["Config"](
        "gpt2", vocab_size=len(weights["embed.token.weight"]), context_length=16, layers=2,
        d_model=16, heads=2, d_ff=64,
    )  # fmt: skip
    return HAND["GPT"](config, weights)


def windows(model: Model) -> tuple[np.ndarray, np.ndarray]:
    ids = np.array([[model.tokenizer.eos, *model.tokenizer.encode(TEXT)]])
    return ids[:, :-1], ids[:, 1:]


def test_loss_and_next_token_are_those_of_another_implementation(
    model: Model, found: Found, hand: Any
) -> None:
    read, targets = windows(model)
    assert found["loss"]["nats"] == pytest.approx(hand.loss(read, targets), rel=1e-5)
    assert found["loss"]["bits"] == pytest.approx(found["loss"]["nats"] / math.log(2))
    assert found["loss"]["perplexity"] == pytest.approx(2 ** found["loss"]["bits"])
    whole = np.concatenate((read, targets[:, -1:]), 1)
    p = HAND["softmax"](hand.forward(whole)[0][0])
    order = np.argsort(-p[-1])[:8]
    assert [each["id"] for each in found["next"]] == order.tolist()
    assert [each["probability"] for each in found["next"]] == pytest.approx(
        p[-1][order].tolist(), rel=1e-4
    )
    expected = p[np.arange(len(TEXT)), targets[0]]
    shown = [each["probability"] for each in found["predictions"]]
    assert shown == pytest.approx(expected.tolist(), rel=1e-4)
    assert np.mean(-np.log(shown)) == pytest.approx(found["loss"]["nats"])


def test_gradient_norms_are_those_of_another_implementation(
    model: Model, found: Found, hand: Any
) -> None:
    hand.loss(*windows(model))
    squares: dict[str, float] = {}
    for name, gradient in hand.gradients.items():
        part = "norm" if name.startswith("norm") else name.split(".")[0]
        for block in ("blocks.0", "blocks.1"):
            for layer in ("attention", "mlp"):
                if name.startswith(f"{block}.{layer}"):
                    part = f"{block}.{layer}"
        squares[part] = squares.get(part, 0.0) + float((gradient**2).sum())
    shown = {each["name"]: each["norm"] for each in found["gradients"]["by_layer"]}
    assert shown == pytest.approx({part: s**0.5 for part, s in squares.items()}, rel=1e-4)
    assert found["gradients"]["norm"] == pytest.approx(sum(squares.values()) ** 0.5, rel=1e-4)


def test_the_update_is_gradient_descent(model: Model, found: Found, hand: Any) -> None:
    read, targets = windows(model)
    before = hand.loss(read, targets)
    gradients = dict(hand.gradients)
    update = found["update"]
    sizes = np.concatenate([np.abs(g).ravel() for g in gradients.values()])
    assert abs(update["largest"][0]["gradient"]) == pytest.approx(sizes.max(), rel=1e-4)
    for each in update["largest"]:
        name, index = each["weight"], tuple(each["index"])
        assert each["gradient"] == pytest.approx(gradients[name][index], rel=1e-3)
        assert each["before"] == pytest.approx(hand.weights[name][index], rel=1e-5)
        assert each["after"] == pytest.approx(each["before"] - 0.02 * each["gradient"])
    original = {name: weight.copy() for name, weight in hand.weights.items()}
    for name, gradient in gradients.items():
        hand.weights[name] = original[name] - 0.02 * gradient
    after = hand.loss(read, targets)
    hand.weights.update(original)
    assert update["loss_before"] == pytest.approx(before, rel=1e-5)
    assert update["loss_after"] == pytest.approx(after, rel=1e-5)
    assert update["loss_after"] < update["loss_before"]
    # half of the step, less than half of the error of the straight line
    errors = []
    for lr in (0.002, 0.001):
        small = model.explain(TEXT, lr=lr)["update"]
        change = small["loss_after"] - small["loss_before"]
        errors.append(abs(change - small["expected_change"]))
    assert errors[1] < 0.4 * errors[0]


def test_attention_is_the_formula(model: Model, hand: Any) -> None:
    """Layer 0, head 1, from the definition."""
    shown = np.array(model.explain(TEXT, head=1)["attention"]["weights"])
    w, ids = hand.weights, [model.tokenizer.eos, *model.tokenizer.encode(TEXT)]
    x = w["embed.token.weight"][ids] + w["embed.position.weight"][: len(ids)]
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    x = x * w["blocks.0.attention_norm.weight"] + w["blocks.0.attention_norm.bias"]
    qkv = x @ w["blocks.0.attention.qkv.weight"].T + w["blocks.0.attention.qkv.bias"]
    for t in range(len(ids)):
        scores = [qkv[t, 8:16] @ qkv[s, 24:32] / math.sqrt(8) for s in range(t + 1)]
        weights = np.exp(scores) / np.exp(scores).sum()
        assert shown[t, : t + 1] == pytest.approx(weights, abs=1e-5)
        assert not shown[t, t + 1 :].any()


def test_shapes_and_parameters_are_those_of_the_model(model: Model, found: Found) -> None:
    shapes = {each["name"]: (each["shape"], each["parameters"]) for each in found["shapes"]}
    vocab_size, tokens = model.task.vocab_size, len(TEXT) + 1
    assert shapes["embed"] == ([1, tokens, 16], 16 * (vocab_size + 16))
    assert shapes["blocks.1.mlp"] == ([1, tokens, 16], 2 * 16 * 64 + 64 + 16)
    assert shapes["logits"] == ([1, tokens, vocab_size], 0)
    whole = ("embed", "blocks.0", "blocks.1", "norm", "logits")
    count = sum(weight.numel() for weight in model.task.parameters())
    assert sum(shapes[name][1] for name in whole) == count
    assert sum(each["parameters"] for each in found["gradients"]["by_layer"]) == count


def test_the_model_stays_as_it_is(model: Model) -> None:
    before = {name: weight.clone() for name, weight in model.task.state_dict().items()}
    model.explain(TEXT, lr=1.0)
    assert all(torch.equal(before[name], w) for name, w in model.task.state_dict().items())
    assert all(weight.grad is None for weight in model.task.parameters())


def test_the_command_prints_text_json_and_a_page(
    folder: Path, found: Found, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["explain", "book", TEXT, "--layer", "1", "--head", "1", "--lr", "0.02"]
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found
    assert run([*command, "--html", "page.html"]) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == as_text(found)
    assert f"{found['loss']['nats']:.4f} nats" in printed
    assert "6. Backward pass" in printed and "␣" in printed
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert f"{found['loss']['nats']:.4f} nats" in page
    assert page.count("<section") == 7 and "http" not in page.replace("http-equiv", "")


def test_a_page_escapes_the_text(model: Model) -> None:
    page = as_html(model.explain("<b>&"), "<i>", "1")
    assert "<b>" not in page and "<i>" not in page
    assert "&lt;b&gt;&amp;" in page


def test_a_model_without_attention_is_explained_too(folder: Path) -> None:
    found = scriven.load("state").explain("the rain")
    assert found["attention"] is None
    assert "Attention" not in as_text(found)
    assert found["update"]["loss_after"] < found["update"]["loss_before"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "empty"),
        ("x" * 16, {}, "16 tokens, and from 1 to 15"),
        ("x", {"layer": 2}, "layer=.2.: the model has layers from 0 to 1"),
        ("x", {"head": -1}, "head.*-1.*: the model has heads from 0 to 1"),
        ("x", {"lr": 0.0}, "lr=.0.0.: a number above 0"),
    ],
)
def test_bad_input_is_refused(
    model: Model, text: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        model.explain(text, **options)


def test_a_masked_model_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "gaps", "x"]) == 2
    assert "only a decoder" in capsys.readouterr().err
    assert issubclass(SettingError, InputError)
