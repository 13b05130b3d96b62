"""The bag of words of a head: its features, its fit, and its place in a model."""

import json
from array import array
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression as Sklearn
from sklearn.linear_model import Ridge

import scriven
from scriven.errors import DamagedError, ScrivenError, SettingError
from scriven.evaluate.logistic_regression import LogisticRegression, SparseMatrix, fit_linear
from scriven.export.export import export
from scriven.tasks.shared.supervised import MAX_BAG_ROWS, Example
from scriven.tasks.shared.word_features import (
    BIAS,
    HASHED,
    MAX_NUMBERS,
    SHARES,
    feature_rows,
    pair_features,
    shared_rows,
    table_rows,
    text_features,
)
from scriven.train.bag_of_words import fit_bag, with_priors

ROWS = 4096
GOOD, BAD = ("lovely", "fine", "great"), ("awful", "poor", "dull")


def text(number: int, words: tuple[str, ...]) -> str:
    return f"the film number {number % 7} was {words[number % 3]} and {words[number % 2]}"


def examples(count: int = 120) -> list[Example]:
    """Texts of two kinds; every tenth has the other kind's label."""
    made = []
    for number in range(count):
        kind = number % 2
        rows = feature_rows([text(number // 2, (GOOD, BAD)[kind])], ROWS)
        made.append(Example((), label=kind ^ (number % 10 == 9), features=array("i", rows)))
    return made


def outputs(table: torch.Tensor, example: Example) -> torch.Tensor:
    return table[list(example.features)].sum(0)


def test_features_of_a_text_are_words_pairs_and_spellings() -> None:
    found = list(text_features(["so", "good"]))
    assert found == ["so", "good", "so good", "#<so>", "#<goo", "#good", "#ood>"]
    rows = feature_rows(["So good"], ROWS)
    assert rows[0] == BIAS and len(rows) == 1 + len(found) and min(rows[1:]) >= HASHED
    assert feature_rows(["so good"], ROWS) == rows == feature_rows(["SO   GOOD"], ROWS)
    # other hashes than today's would give every saved model other words
    assert feature_rows(["a"], ROWS) == [BIAS, HASHED + 0xE8B7BE43 % (ROWS - HASHED)]


def test_features_of_two_texts_tell_what_they_share() -> None:
    found = set(pair_features(["a", "man"], ["a", "dog"]))
    assert {"1\ta", "2\tdog", "=\ta", "-\tman", "+\tdog"} <= found
    same, other = (set(shared_rows(["a", "man"], [*each])) for each in (["a", "man"], ["cats"]))
    # 20 steps of each of five shares where all is shared, and no word alone
    assert same == set(range(SHARES, SHARES + 100)) and max(same) < HASHED
    assert other == {SHARES + 100, SHARES + 101, SHARES + 120}  # two words alone, and one
    assert other == {row for row in feature_rows(["a man", "cats"], ROWS) if SHARES <= row < HASHED}


@pytest.mark.parametrize("labels", [1, 2, 7, 150, 1000])
def test_a_table_has_room_for_features_and_a_bound(labels: int) -> None:
    rows = table_rows(labels)
    assert HASHED < rows <= MAX_BAG_ROWS and rows * labels <= MAX_NUMBERS
    assert table_rows(10_000) == 0


def test_odd_texts_have_features() -> None:
    for odd in ("", " ", "\ud800", "😀", "我爱你", "x" * 100_000):
        assert feature_rows([odd], ROWS)[0] == BIAS
        assert feature_rows([odd, "b"], ROWS)[0] == BIAS


@pytest.mark.parametrize("link", ["softmax", "identity"])
def test_the_fit_is_that_of_scikit_learn(link: str) -> None:
    random = np.random.default_rng(0)
    dense = (random.random((60, 8)) < 0.4).astype(np.float64)
    matrix = SparseMatrix.of(
        [np.flatnonzero(row).tolist() for row in dense], torch.ones(8, dtype=torch.float64)
    )
    zero = LogisticRegression(torch.zeros(8, 1).double(), torch.zeros(1).double())
    if link == "identity":
        numbers = random.normal(size=60)
        fit = fit_linear(
            matrix, torch.tensor(numbers)[:, None], 2.0, zero, "identity", tolerance=1e-10
        )
        theirs = Ridge(alpha=2.0).fit(dense, numbers)
        assert fit.weight[:, 0].tolist() == pytest.approx(theirs.coef_.tolist(), abs=1e-6)
        assert float(fit.bias) == pytest.approx(float(theirs.intercept_), abs=1e-6)
        return
    labels = random.integers(0, 3, 60)
    zero = LogisticRegression(torch.zeros(8, 3).double(), torch.zeros(3).double())
    one_hot = torch.eye(3).double()[torch.tensor(labels)]
    fit = fit_linear(matrix, one_hot, 2.0, zero, tolerance=1e-10)
    model = Sklearn(C=0.5, tol=1e-10, max_iter=10_000).fit(dense, labels)
    ours = fit.logits(matrix).softmax(1).numpy()
    assert np.abs(ours - model.predict_proba(dense)).max() < 1e-5


def test_what_it_says_of_a_row_comes_from_fits_without_it() -> None:
    rows = examples()
    bag = fit_bag(rows, ROWS, 2, "labels")
    # the table finds the kind of every text
    right = [int(outputs(bag.table, each).argmax()) for each in rows]
    assert right == [number % 2 for number in range(len(rows))]
    # a word that only one row has, and that names its label, is of no use to that row
    marked = [
        Example(
            (), label=number % 2, features=array("i", [BIAS, 300 + number, 300 + number // 2 * 2])
        )
        for number in range(40)
    ]
    told = fit_bag(marked, ROWS, 2, "labels")
    correct = told.priors.argmax(1) == torch.tensor([each.label for each in marked])
    assert float(correct.float().mean()) <= 0.6
    carried = [each.prior.tolist() for each in with_priors(rows, bag.priors)]
    assert carried == bag.priors.tolist()


def test_copies_of_a_row_are_left_out_with_it() -> None:
    # labels at random: nothing can be told of a text that has not been seen
    draw = np.random.default_rng(1)
    labels = draw.integers(0, 2, 60)
    words = [sorted(draw.choice(np.arange(300, 420), 6, replace=False)) for _ in range(60)]
    rows = [
        Example((), label=int(label), features=array("i", [BIAS, *map(int, each)]))
        for label, each in zip(labels, words, strict=True)
    ] * 3
    bag = fit_bag(rows, ROWS, 2, "labels")
    truth = torch.tensor([each.label for each in rows])
    assert float((bag.priors.argmax(1) == truth).float().mean()) < 0.7
    assert torch.equal(bag.priors[:60], bag.priors[60:120])


def test_few_rows_and_rows_without_words_teach_nothing() -> None:
    assert not fit_bag(examples(10), ROWS, 2, "labels").table.any()
    alone = [Example((), label=n % 2, features=array("i", [BIAS])) for n in range(30)]
    assert not fit_bag(alone, ROWS, 2, "labels").table.any()


# ------------------------------------------------------------------ in a model

SMALL = {"model.layers": 1, "model.heads": 2, "model.d_model": 16, "model.context_length": 64}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, scriven.Model, scriven.Model]:
    """(folder, base, a fine-tuning of no steps that could learn anything)."""
    folder = tmp_path_factory.mktemp("bag")
    (folder / "text.txt").write_text("the film was fine and the day was long\n" * 60)
    table = [
        {"text": text(n // 2, (GOOD, BAD)[n % 2]), "label": ("good", "bad")[n % 2]}
        for n in range(160)
    ]
    (folder / "films.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    base = scriven.train(
        folder / "text.txt", out=folder / "base", budget="2steps", settings=SMALL, quiet=True
    )
    tuned = scriven.finetune(
        base.folder, folder / "films.jsonl", out=folder / "tuned", budget="3steps", quiet=True,
        settings={"optim.lr": 1e-9, "train.sample_seconds": 0},
    )  # fmt: skip
    return folder, base, tuned


def test_an_untrained_model_answers_as_its_words_say(
    made: tuple[Path, scriven.Model, scriven.Model],
) -> None:
    folder, _, tuned = made
    told = ["a lovely and great film", "an awful and dull film"]
    assert [label for label, _ in tuned.predict(told)] == ["good", "bad"]
    # the tokenizer has characters only, and the run folder keeps the words
    assert tuned.metadata["tokenizer"]["kind"] == "char"
    again = scriven.load(folder / "tuned")
    assert again.predict(told) == tuned.predict(told)
    without = scriven.finetune(
        folder / "base", folder / "films.jsonl", out=folder / "plain", budget="3steps", quiet=True,
        settings={"optim.lr": 1e-9, "finetune.bag_of_words": False, "train.sample_seconds": 0},
    )  # fmt: skip
    assert without.task.bag is None
    assert all(abs(chance - 0.5) < 1e-3 for _, chance in without.predict(told))


def test_a_program_that_counts_no_words_refuses_it(
    made: tuple[Path, scriven.Model, scriven.Model], tmp_path: Path
) -> None:
    _, _, tuned = made
    for target in ("hf", "onnx"):
        with pytest.raises(ScrivenError, match="bag of words beside this one does"):
            export(tuned.folder, target, out=tmp_path / target)
    config = json.loads((tuned.folder / "config.json").read_text())
    assert config["model_type"] == "scriven-llama"


def test_a_task_without_a_place_for_words_refuses_them(
    made: tuple[Path, scriven.Model, scriven.Model], tmp_path: Path
) -> None:
    folder, _, _ = made
    rows = [{"prompt": f"say {n}", "completion": f"{n}"} for n in range(30)]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(SettingError, match="the task instruct has no place"):
        scriven.finetune(
            folder / "base", tmp_path / "chat.jsonl", out=tmp_path / "x", quiet=True,
            settings={"finetune.bag_of_words": True},
        )  # fmt: skip


def test_a_record_with_an_absurd_table_is_damaged(
    made: tuple[Path, scriven.Model, scriven.Model],
) -> None:
    task = made[2].task
    for rows in (-1, 5, MAX_BAG_ROWS + 1, 1 << 60):
        with pytest.raises(DamagedError, match="bag of words"):
            type(task)(
                task.backbone, None, task.special, {**task.task_config, "bag_of_words": rows}
            )
