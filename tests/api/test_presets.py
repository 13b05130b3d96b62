"""Presets have the parameters of what they are named after, by papers and by transformers."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from scriven import config, registry
from scriven.cli import run
from scriven.inspect import inspect
from scriven.settings import Settings
from scriven.train.request import TrainRequest, read_named_preset, read_overrides

PRESETS = sorted(
    path.stem for path in (Path(__file__).parents[2] / "src" / "scriven" / "presets").glob("*.toml")
)

PUBLISHED = {
    "gpt1": 116_534_784,
    "gpt2-small": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    # by hand, from table 2.1: 12 layers width² and what belongs to it, 50,257 tokens, 2,048 places
    "gpt3-175b": 174_604_259_328,
}

ROUNDED = {
    "gpt3-small": (125e6, 0.02),
    "gpt3-medium": (350e6, 0.02),
    "gpt3-large": (760e6, 0.02),
    "gpt3-xl": (1.3e9, 0.02),
    "gpt3-2.7b": (2.7e9, 0.02),
    "gpt3-6.7b": (6.7e9, 0.02),
    "gpt3-13b": (13e9, 0.02),
    "gpt3-175b": (175e9, 0.01),
    "roberta-base": (125e6, 0.01),
    "roberta-large": (355e6, 0.01),
    "transformer-base": (65e6, 0.031),  # 63.1 million by the paper's own shape and vocabulary
    "transformer-big": (213e6, 0.01),
    "transformer-xl-wt103": (151e6, 0.01),
    "lstm-small": (4.65e6, 0.01),
    "nanogpt-baby": (10.65e6 + 258 * 384 + 256 * 384 + 6 * 11 * 384, 0.005),
}
"""As papers name them, and how far off the name may be."""


@pytest.mark.parametrize(("preset", "count"), PUBLISHED.items())
def test_counts_equal_the_published_ones(preset: str, count: int) -> None:
    assert inspect(preset)["parameters"] == count


@pytest.mark.parametrize("preset", ROUNDED)
def test_counts_round_to_the_papers_names(preset: str) -> None:
    count, share = ROUNDED[preset]
    assert abs(inspect(preset)["parameters"] / count - 1) < share


def twin_parameters(preset: str, **changes: object) -> tuple[int, int]:
    """(parameters here, parameters of the model that transformers makes of our config.json)."""
    transformers = pytest.importorskip("transformers")
    settings = {f"model.{name}": value for name, value in changes.items()}
    data = inspect(preset, settings=settings)
    module = registry.module("scriven.models", data["architecture"])
    shape = config.replace(module.Config(), data["model"], "model")
    theirs: dict[str, Any] = module.Model.to_hf_config(shape)
    kind = getattr(transformers, theirs["architectures"][0])
    with torch.device("meta"):
        twin = kind(kind.config_class(**{**theirs, "pad_token_id": 0}))
    fixed = ("embed_positions.weight",) if data["architecture"] == "transformer" else ()
    sizes = [w.numel() for name, w in twin.named_parameters() if not name.endswith(fixed or "\0")]
    return data["parameters"], sum(sizes)


@pytest.mark.parametrize(
    "preset",
    ["gpt1", "gpt2-small", "gpt2-medium", "transformer-base", "transformer-big", "shakegpt-v3"],
)
def test_counts_equal_transformers(preset: str) -> None:
    ours, theirs = twin_parameters(preset)
    assert ours == theirs


@pytest.mark.parametrize("preset", ["gpt3-small", "gpt3-13b"])
def test_dense_gpt3_counts_equal_transformers(preset: str) -> None:
    ours, theirs = twin_parameters(preset, window="none")
    assert ours == theirs


def test_a_table_of_sines_is_no_parameter_here_and_one_in_transformers() -> None:
    ours, theirs = twin_parameters("shakegpt-v2")
    assert theirs - ours == 256 * 384


@pytest.mark.parametrize(("preset", "d_model"), [("roberta-base", 768), ("roberta-large", 1024)])
def test_roberta_lacks_three_rows_that_transformers_has(preset: str, d_model: int) -> None:
    ours, theirs = twin_parameters(preset, padding=1)
    assert theirs - ours == 3 * d_model  # two unused positions, one token type


def test_roberta_has_the_published_count_with_those_rows() -> None:
    assert inspect("roberta-base")["parameters"] + 3 * 768 == 124_697_433


def test_shakegpt_differs_by_the_learned_positions_as_in_its_authors_figures() -> None:
    first, second, third = (inspect(f"shakegpt-v{n}")["parameters"] for n in (1, 2, 3))
    assert third - second == 9_782_784 - 9_684_480 == 256 * 384
    assert (422_528 - 12 * (8 * 32**2 + 11 * 32)) % 32 == 0
    assert first == 12 * (8 * 32**2 + 11 * 32) + (323 + 2) * 32


def test_a_wrong_shape_is_noticed() -> None:
    """A planted bug: a layer too few."""
    ours, _ = twin_parameters("gpt2-small", layers=11)
    _, theirs = twin_parameters("gpt2-small")
    assert ours != theirs == PUBLISHED["gpt2-small"]


def test_the_largest_preset_is_inspected_at_once() -> None:
    inspect("gpt2-small")  # imports
    began = time.process_time()
    assert inspect("gpt3-175b")["parameters"] > 1e11
    assert time.process_time() - began < 3


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_name_settings_that_exist(preset: str) -> None:
    overrides = read_overrides(TrainRequest(preset=preset))
    overrides.apply(Settings())
    module = registry.module("scriven.models", overrides.arch or "llama")
    config.replace(module.Config(), overrides.sections["model"], "model")


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_hold_only_what_differs_from_the_defaults(preset: str) -> None:
    given = config.sections({k: v for k, v in read_named_preset(preset).items() if "." in k})
    for section, values in given.items():
        if section == "model":
            continue  # defaults of a shape are no recommendation
        usual = dataclasses.asdict(getattr(Settings(), section))
        assert [name for name, value in values.items() if usual[name] == value] == []


@pytest.mark.parametrize("preset", ["shakegpt-v1", "lstm-small", "rnn-tiny"])
def test_small_presets_train(preset: str, tmp_path: Path) -> None:
    text = tmp_path / "book.txt"
    text.write_text("It was a dark and stormy night, and nobody came.\n" * 60, encoding="utf-8")
    line = ["train", str(text), "--preset", preset, "--budget", "1steps", "--train.batch_size", "2"]
    assert run([*line, "--out", str(tmp_path / "run"), "--quiet"]) == 0
