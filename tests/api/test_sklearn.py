"""Estimators of texts behave as scikit-learn's do: its own checks where they take texts or no data,
and its cloning, pickling, pipelines and searches."""

import inspect
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

import scriven
from scriven.sklearn import TextClassifier, TextRegressor

SHAPE = {"model.layers": 1, "model.heads": 2, "model.d_model": 32, "model.context_length": 16}
TEXTS = [f"{('gut', 'bad')[n % 2]} film {n}" for n in range(40)]
LABELS = [("yes", "no")[n % 2] for n in range(40)]

DATA_FREE = [
    "check_estimator_repr", "check_valid_tag_types", "check_no_attributes_set_in_init",
    "check_do_not_raise_errors_in_init_or_set_params", "check_mixin_order",
    "check_estimator_tags_renamed", "check_get_params_invariance", "check_set_params",
    "check_parameters_default_constructible",
]  # fmt: skip
HERE = "fits or predicts numbers; the same is tested with texts here"
NOT_FITTING = {
    HERE: (
        "fit_score_takes_y estimators_overwrite_params dont_overwrite_parameters "
        "estimators_fit_returns_self estimators_unfitted fit_check_is_fitted estimators_pickle "
        "pipeline_consistency classifiers_train classifiers_classes classifiers_one_label "
        "classifiers_regression_target regressors_train regressors_int dict_unchanged "
        "fit_idempotent methods_subset_invariance methods_sample_order_invariance requires_y_none "
        "estimators_empty_data_messages estimators_nan_inf supervised_y_no_nan supervised_y_2d"
    ),
    "arrays of numbers: their types, layouts and memory maps": (
        "estimators_dtypes complex_data dtype_object readonly_memmap_input array_api_input "
        "f_contiguous_array_estimator classifier_data_not_an_array regressor_data_not_an_array "
        "positive_only_tag_during_fit estimator_sparse_array estimator_sparse_matrix "
        "estimator_sparse_tag"
    ),
    "two-dimensional data is refused, but for one column of texts": (
        "fit1d fit2d_1feature fit2d_1sample fit2d_predict1d"
    ),
    "a text has no number of features": (
        "n_features_in n_features_in_after_fitting estimators_partial_fit_n_features"
    ),
    "has no sample weights, iterations or decision function": (
        "classifiers_one_label_sample_weights non_transformer_estimators_n_iter "
        "regressors_no_decision_function decision_proba_consistency"
    ),
}
"""Why checks of scikit-learn fit no texts, and their names."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model to start from, of a few steps."""
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRIVEN_CACHE", str(folder / "cache"))
        settings = {**SHAPE, "runtime.dtype": "float32"}
        yield scriven.train(
            "\n".join(TEXTS), out=folder / "run", budget="2steps", settings=settings, quiet=True
        ).folder


def classifier(base: Path, **changes: Any) -> TextClassifier:
    return TextClassifier(base, **{"budget": "30steps", **changes})


@pytest.fixture(scope="module")
def fitted(base: Path) -> TextClassifier:
    """A classifier that tells the two words apart."""
    return classifier(base).fit(TEXTS, LABELS)


# ------------------------------------------------------------------ scikit-learn's own checks


@parametrize_with_checks([TextClassifier(), TextRegressor()])
def test_the_checks_that_scikit_learn_chooses_for_texts(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("kind", [TextClassifier, TextRegressor])
@pytest.mark.parametrize("name", DATA_FREE)
def test_the_checks_that_need_no_data(name: str, kind: Any) -> None:
    check = getattr(estimator_checks, name)
    check(kind.__name__, kind())


@pytest.mark.parametrize("kind", [TextClassifier, TextRegressor])
def test_every_other_check_has_a_reason(kind: Any) -> None:
    class OfNumbers(kind):  # type: ignore[misc]
        """As if it took numbers, which makes scikit-learn name all its checks."""

        def __sklearn_tags__(self) -> Any:
            tags = super().__sklearn_tags__()
            tags.input_tags.two_d_array = True
            return tags

    checks = estimator_checks._yield_all_checks(OfNumbers(), legacy=True)
    names = {estimator_checks._check_name(check) for check in checks}
    explained = {f"check_{name}" for names in NOT_FITTING.values() for name in names.split()}
    assert names - set(DATA_FREE) <= explained


# ------------------------------------------------------------------ the same with texts


def test_it_learns_labels(fitted: TextClassifier) -> None:
    assert fitted.score(TEXTS, LABELS) == 1.0
    assert fitted.classes_.tolist() == ["no", "yes"]
    chances = fitted.predict_proba(TEXTS)
    assert chances.shape == (40, 2)
    assert chances.sum(1) == pytest.approx(np.ones(40), abs=1e-6)
    assert (fitted.classes_[chances.argmax(1)] == fitted.predict(TEXTS)).all()
    assert is_classifier(fitted) and not is_regressor(fitted)
    assert fitted.results_["task"] == "classify"


def test_probabilities_are_those_of_the_run(fitted: TextClassifier) -> None:
    expected = scriven.load(fitted.run_).predict({"text": TEXTS})
    chances = fitted.predict_proba(TEXTS)
    assert chances[:, 0] == pytest.approx(np.array(expected["p(no)"]), abs=1e-6)
    assert chances[:, 1] == pytest.approx(np.array(expected["p(yes)"]), abs=1e-6)


def test_fitting_keeps_parameters_and_returns_itself(base: Path) -> None:
    made = classifier(base, budget="2steps")
    before, arguments = made.get_params(), (list(TEXTS), list(LABELS))
    assert made.fit(*arguments) is made
    assert made.get_params() == before
    assert arguments == (TEXTS, LABELS)
    public = {name for name in vars(made) if not name.startswith("_")} - before.keys()
    assert all(name.endswith("_") for name in public)
    first = made.predict_proba(TEXTS)
    assert (made.fit(TEXTS, LABELS).predict_proba(TEXTS) == first).all()


def test_order_and_batches_of_texts_change_nothing(fitted: TextClassifier) -> None:
    whole = fitted.predict_proba(TEXTS)
    turned = fitted.predict_proba(TEXTS[::-1])[::-1]
    single = np.concatenate([fitted.predict_proba([text]) for text in TEXTS])
    assert turned == pytest.approx(whole, abs=1e-5)
    assert single == pytest.approx(whole, abs=1e-5)
    before = set(vars(fitted))
    fitted.predict(TEXTS)
    assert set(vars(fitted)) == before


def test_a_clone_is_not_fitted_and_a_pickle_is(fitted: TextClassifier, base: Path) -> None:
    twin = clone(fitted)
    assert twin.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError, match=r"^this TextClassifier is not fitted yet: call fit"):
        twin.predict(TEXTS)
    again = pickle.loads(pickle.dumps(fitted))
    assert again.run_ != fitted.run_
    assert (again.predict_proba(TEXTS) == fitted.predict_proba(TEXTS)).all()
    folder = again.run_
    del again
    assert not folder.exists()


def test_a_pickle_holds_no_tensor_of_torch(fitted: TextClassifier) -> None:
    loaded: set[str] = set()

    class Watched(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            loaded.add(module.partition(".")[0])
            return super().find_class(module, name)

    Watched(io.BytesIO(pickle.dumps(fitted))).load()
    assert loaded <= {"scriven", "numpy", "pathlib", "_codecs"}


def test_the_pickle_of_a_named_run_holds_its_path(base: Path, tmp_path: Path) -> None:
    made = classifier(base, budget="2steps", out=tmp_path / "run").fit(TEXTS, LABELS)
    content = pickle.dumps(made)
    assert len(content) < 4000
    again = pickle.loads(content)
    assert again.run_ == tmp_path / "run"
    assert (again.predict_proba(TEXTS) == made.predict_proba(TEXTS)).all()


def test_a_pickle_writes_no_file_elsewhere(fitted: TextClassifier) -> None:
    state = fitted.__getstate__()
    state["_files"]["../elsewhere"] = b""
    with pytest.raises(ValueError, match=r"^\.\./elsewhere is no file of a run folder$"):
        TextClassifier().__setstate__(state)


@pytest.mark.slow
def test_pipelines_cross_validation_and_searches(base: Path) -> None:
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    piped = make_pipeline(lower, classifier(base)).fit(pd.Series(TEXTS), pd.Series(LABELS))
    assert piped.score(TEXTS, LABELS) == 1.0
    scores = cross_val_score(classifier(base), TEXTS, LABELS, cv=2)
    assert scores.shape == (2,) and scores.min() > 0.5
    search = GridSearchCV(classifier(base), {"budget": ["1steps", "30steps"]}, cv=2)
    search.fit(TEXTS, LABELS)
    assert search.best_params_ == {"budget": "30steps"}
    groups = [n // 4 for n in range(40)]
    split = GroupKFold(2)
    assert cross_val_score(classifier(base), TEXTS, LABELS, groups=groups, cv=split).min() > 0.5


LABEL_KINDS: dict[str, Any] = {
    "integers": np.arange(40) % 2 + 3,
    "true and false": np.arange(40) % 2 == 0,
    "two of one name": np.array([("a", "a ")[n % 2] for n in range(40)], dtype=object),
    "categories": pd.Series(LABELS, dtype="category"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LABEL_KINDS)
def test_kinds_of_labels(kind: str, base: Path) -> None:
    labels = LABEL_KINDS[kind]
    made = classifier(base).fit(TEXTS, labels)
    assert made.classes_.tolist() == sorted(set(np.asarray(labels).tolist()))
    assert made.score(TEXTS, labels) == 1.0


def test_labels_sorted_otherwise_than_their_names(base: Path) -> None:
    labels = np.arange(40) % 2 + 9.0  # 9.0 and 10.0
    made = classifier(base).fit(TEXTS, labels)
    assert made.classes_.tolist() == [9.0, 10.0]
    assert made.score(TEXTS, labels) == 1.0


def test_a_model_is_made_where_there_is_no_base() -> None:
    made = TextClassifier(
        base_budget="2steps", budget="2steps", base_settings=SHAPE, random_state=3
    ).fit(TEXTS, LABELS)
    assert made.predict_proba(TEXTS).shape == (40, 2)
    assert scriven.load(made.run_).metadata["settings"]["seed"] == 3


def test_it_learns_numbers(base: Path) -> None:
    numbers = np.array([float(n % 2) * 3 - 1 for n in range(40)])
    made = TextRegressor(base, budget="60steps").fit(TEXTS, numbers)
    assert is_regressor(made)
    found = made.predict(TEXTS)
    assert found.shape == (40,) and found.dtype == np.float64
    assert made.score(TEXTS, numbers) > 0.5
    assert (pickle.loads(pickle.dumps(made)).predict(TEXTS) == found).all()
    expected = scriven.load(made.run_).predict({"text": TEXTS})["prediction"]
    assert found == pytest.approx(np.array(expected), abs=1e-6)


def test_groups_stay_together(base: Path) -> None:
    groups = np.arange(40) // 4
    made = classifier(base, budget="1steps").fit(TEXTS, LABELS, groups)
    assert made.results_["val_rows"] == 4
    assert "groups" in inspect.signature(made.fit).parameters


# ------------------------------------------------------------------ what is refused


WRONG: dict[str, tuple[Any, Any, str]] = {
    "numbers": ([1, 2], ["a", "b"], "X holds a int in row 1, not a text"),
    "nan": (["a", float("nan")], ["a", "b"], "X holds a float in row 2, not a text"),
    "nothing": (["a", None], ["a", "b"], "X holds nothing in row 2, not a text"),
    "matrix": (np.zeros((3, 2)), [1, 2, 3], r"X has the shape \(3, 2\): give one text or more"),
    "none": ([], [], r"X has the shape \(0\): give one text or more"),
    "no labels": (["a", "b"], None, "requires y to be passed, but the target y is None"),
    "fewer labels": (["a", "b"], ["a"], r"y has the shape \(1\) for 2 texts: give one for each"),
    "one label": (TEXTS, ["a"] * 40, "every row has the label 'a': there is nothing to tell apart"),
    "empty text": (["", *TEXTS[1:]], LABELS, "the dict row 1 'text' is empty"),
    "numbers as labels": (TEXTS, np.arange(40) / 7, "Unknown label type: continuous"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_data_is_a_value_error(case: str, base: Path) -> None:
    texts, labels, message = WRONG[case]
    with pytest.raises(ValueError, match=f"^{message}"):
        classifier(base).fit(texts, labels)


def test_wrong_numbers_are_value_errors(base: Path, fitted: TextClassifier) -> None:
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"^y holds NaN or infinity: give a finite number"):
            TextRegressor(base).fit(TEXTS, [wrong] * 40)
    with pytest.raises(ValueError, match=r"^X holds a int in row 1, not a text"):
        fitted.predict([1])
