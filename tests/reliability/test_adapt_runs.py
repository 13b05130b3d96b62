"""Going on from a model: kills at any instant, recomputed activations, and texts of every kind."""

import random
import time
from dataclasses import replace
from pathlib import Path

import pytest

import scriven
from scriven.train.run import start_or_resume

from .runs import Child, after_each_step, newest, whole, write_text
from .test_adapt import FULL, LORA, STEPS, asked

EVERY = 3
"""Steps between two checkpoints."""


def numbers(folder: Path) -> Path:
    """A text unlike the one that the base model was trained on."""
    path = folder / "numbers.txt"
    path.write_text(" ".join(str(number * number % 997) for number in range(1200)))
    return path


@pytest.mark.parametrize("settings", [FULL, LORA], ids=["full", "lora"])
def test_killed_adaptations_end_as_if_nothing_had_happened(
    base: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    text, out, saved = numbers(tmp_path), tmp_path / "run", {"train.save_interval": EVERY}

    def go(folder: Path, slow: float = 0.0) -> None:
        with after_each_step(lambda *_: time.sleep(slow)):
            start_or_resume(asked(base, text, folder, {**settings, **saved}))

    go(tmp_path / "straight" / "run")
    chance, kills, before = random.Random(1), 0, -1
    for _ in range(12):
        child = Child(lambda: go(out, slow=0.01))
        # from the command to the first step, and up to the results
        child.pause(chance.uniform(0.02, chance.choice([0.2, 0.8])))
        child.kill()
        status, said = child.wait()
        if status == 0:
            break
        assert status == -9, said
        kills += 1
        after = newest(out)
        assert after >= before, "a checkpoint was lost"
        before = after
    assert kills
    go(out)
    assert whole(out) == whole(tmp_path / "straight" / "run")


@pytest.mark.parametrize("settings", [FULL, LORA], ids=["full", "lora"])
def test_recomputed_activations_change_nothing(
    base: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    text, found = numbers(tmp_path), []
    for recompute in (False, True):
        more = {"runtime.activation_checkpointing": recompute, **settings}
        made = asked(base, text, tmp_path / f"run-{recompute}", more)
        found.append(start_or_resume(made).results["val_loss"])
    assert found[0] == pytest.approx(found[1], abs=1e-6)


@pytest.mark.parametrize("settings", [FULL, LORA], ids=["full", "lora"])
@pytest.mark.parametrize(
    "text",
    [
        "The rain fell on the roof of the old house by the sea.\n" * 36,
        "\n".join(f"{number}. Zeile: {number * 7 % 100} Bäume" for number in range(1200)),
        "Дождь шёл, и никто не пришёл посмотреть, что он наделал. " * 60,
    ],
    ids=["2 kB", "1,200 lines", "another script"],
)
def test_any_text_is_taken_by_default_and_never_makes_it_worse(
    base: Path, tmp_path: Path, settings: dict[str, object], text: str
) -> None:
    path = tmp_path / "text.txt"
    path.write_text(text, encoding="utf-8")
    plain = {name: each for name, each in settings.items() if name == "finetune.weights"}
    quick = {"runtime.threads": 1, "train.sample_seconds": 0, "train.eval_interval": 10, **plain}
    made = replace(asked(base, path, tmp_path / "run", {}), settings=quick)
    results = start_or_resume(made).results
    assert results["steps"] <= STEPS
    assert results["val_loss"] <= results["base_val_loss"]
    assert scriven.load(tmp_path / "run").generate("a", max_new_tokens=3, seed=0) is not None


def test_the_same_text_again_is_not_replayed(base: Path, tmp_path: Path) -> None:
    text = write_text(tmp_path)
    results = start_or_resume(asked(base, text, tmp_path / "run", LORA)).results
    assert "old_bits_per_byte" not in results
