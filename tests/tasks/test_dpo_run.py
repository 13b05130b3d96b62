"""Training on preferences from a table to a model that chats, and what it says where the model
before training is gone."""

import json
import shutil
from pathlib import Path

import pytest

import scriven
from scriven.errors import InputError, SettingError
from scriven.runs.weights import load_tensors
from scriven.train import preference

SHAPE = {"model.layers": 1, "model.heads": 2, "model.d_model": 16, "model.context_length": 64,
         "tokenizer.kind": "word", "runtime.device": "cpu"}  # fmt: skip
WORDS = "red green blue grey pink gold".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory) -> scriven.Model:
    folder = tmp_path_factory.mktemp("dpo")
    (folder / "text.txt").write_text("".join(f"a {a} {b} yes no .\n" for a in WORDS for b in WORDS))
    base = scriven.train(
        folder / "text.txt", budget="2steps", out=folder / "base", quiet=True, settings=SHAPE
    )
    rows = [{"prompt": f"{a} {b}", "completion": "yes"} for a in WORDS for b in WORDS]
    table = write(folder / "a.jsonl", rows)
    return base.finetune(table, budget="2steps", out=folder / "answering", quiet=True)


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pairs(folder: Path) -> Path:
    rows = [{"prompt": f"{a} {b}", "chosen": f"yes {a}", "rejected": f"no {a}"}
            for a in WORDS for b in WORDS]  # fmt: skip
    return write(folder / "pairs.jsonl", rows)


def tuned(answering: scriven.Model, folder: Path, **more: object) -> scriven.Model:
    settings = {"optim.lr": 0.02, "train.batch_size": 8, **more}
    return answering.finetune(
        pairs(folder), budget="6epochs", out=folder / "run", quiet=True, settings=settings
    )


@pytest.mark.parametrize("weights", ["full", "lora"])
def test_the_chosen_answers_win(answering: scriven.Model, tmp_path: Path, weights: str) -> None:
    model = tuned(answering, tmp_path, **{"finetune.weights": weights})
    scores, baseline = model.results["val_scores"], model.results["baseline"]
    assert model.metadata["task"] == "dpo" and model.results["main_score"] == "accuracy"
    assert scores["accuracy"]["value"] == 1.0 and model.results["val_loss"] < 0.69
    assert scores["reward_margin"]["value"] == pytest.approx(
        scores["chosen_reward"]["value"] - scores["rejected_reward"]["value"]
    )
    assert set(baseline) == {"length", "reference_model"}
    assert baseline["length"]["scores"]["accuracy"]["value"] == 1.0  # "yes" is longer than "no"
    assert model.results["val_bits_per_byte"] is None
    # the same figures from the table, for which the model before training reads it again
    again = scriven.load(model.folder).evaluate(*model.metadata["data"]["sources"])
    everything = again["scores"]["reward_margin"]["value"]
    assert everything == pytest.approx(scores["reward_margin"]["value"], rel=0.5)
    validation = scriven.load(model.folder).evaluate()
    for name, score in scores.items():
        # loaded adapters are merged, which a CPU that computes in bfloat16 rounds otherwise
        assert validation["scores"][name]["value"] == pytest.approx(score["value"], abs=1e-3)
    # it chats, and answers tables of prompts alone
    assert isinstance(model.generate("red blue", max_new_tokens=3), str)
    assert len(model.predict(["red blue"])) == 1


def test_a_wrong_reference_would_be_noticed(
    answering: scriven.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = preference.PreferenceTrainer.log_probs
    monkeypatch.setattr(
        preference.PreferenceTrainer, "log_probs", lambda *args: right(*args).flip(1)
    )
    model = tuned(answering, tmp_path)
    found = scriven.load(model.folder).evaluate()["scores"]["reward_margin"]["value"]
    assert abs(found - model.results["val_scores"]["reward_margin"]["value"]) > 1e-3


def test_without_the_model_before_it_resumes_and_says_what_it_scores(
    answering: scriven.Model, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(answering.folder, base)
    model = tuned(scriven.load(base), tmp_path)
    stored = load_tensors(model.folder / "checkpoints" / preference.FILE)
    assert {name: tuple(each.shape) for name, each in stored.items()} == {
        "train": (32, 2), "validation": (4, 2)}  # fmt: skip
    settings = {"optim.lr": 0.02, "train.batch_size": 8}
    shutil.rmtree(base)
    again = scriven.finetune(base, pairs(tmp_path), settings=settings, budget="6epochs",
                             out=model.folder, quiet=True)  # fmt: skip
    assert again.results["val_scores"] == model.results["val_scores"]
    notes = again.evaluate()["notes"]
    assert any("the model before training is not at hand" in note for note in notes)


def test_beta_is_a_setting_of_this_task_alone(answering: scriven.Model, tmp_path: Path) -> None:
    rows = write(tmp_path / "a.jsonl", [{"prompt": f"{n}", "completion": "yes"} for n in range(30)])
    with pytest.raises(SettingError, match="dpo_beta"):
        answering.finetune(rows, out=tmp_path / "x", settings={"finetune.dpo_beta": 0.5})
    with pytest.raises(SettingError, match="dpo_beta"):
        answering.finetune(pairs(tmp_path), out=tmp_path / "x", settings={"finetune.dpo_beta": 0.0})
    assert not (tmp_path / "x").exists()


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a b c d e f g .\n" * 99)
    base = scriven.train(tmp_path / "text.txt", budget="1steps", out=tmp_path / "base", quiet=True,
                         arch="roberta", settings=SHAPE)  # fmt: skip
    with pytest.raises(InputError, match="cannot dpo"):
        base.finetune(pairs(tmp_path), out=tmp_path / "x")
