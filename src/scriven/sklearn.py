"""`TextClassifier` and `TextRegressor`: texts to labels and numbers as estimators of scikit-learn
(extra `sklearn`), for pipelines, cross-validation and grid searches.

    from scriven.sklearn import TextClassifier
    cross_val_score(TextClassifier("book", budget="3epochs"), texts, labels)

A fitted estimator is a run folder. Its pickle holds the path of the folder where `out` names one,
and else the files, which are safetensors and JSON: no pickle is ever read as a model.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from .errors import InputError, MissingExtra, ScrivenError
from .frames import predictions
from .generate.predict import Prediction, Predictor
from .model import Model, finetune, load, train

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.multiclass import check_classification_targets
except ImportError as error:
    raise MissingExtra("scikit-learn", "sklearn", "scriven.sklearn") from error

_NOT_PICKLED = {"checkpoints", "control", "report.html"}


class ValueInputError(InputError, ValueError):
    """An input that cannot be used, as a ValueError, which scikit-learn expects."""


class TextEstimator(BaseEstimator):  # type: ignore[misc]
    """What both estimators share.

    Args:
        base: the model to start from: a path, a name under runs/, latest, a .gguf file or
            hf:ORG/NAME. None: a new model is trained on the texts first.
        budget: of the fine-tuning, such as 3epochs, 10m or 200steps; by default ten epochs and at
            least 400 steps.
        base_budget: of the new model, where there is no base.
        out: the run folder; a temporary one by default, which is deleted with the estimator.
            Estimators that are cloned, as in a grid search, must not share one.
        random_state: the seed, a whole number.
        settings: any other setting of the fine-tuning, as in {"finetune.weights": "lora"}.
        base_settings: any other setting of the new model, where there is no base.
        verbose: whether progress is printed.

    Attributes:
        run_: the run folder. results_: the results of training, as in scriven.json.
    """

    _TASK: ClassVar[str]
    _ANSWER: ClassVar[str]

    def __init__(
        self,
        base: str | Path | None = None,
        *,
        budget: str | None = None,
        base_budget: str = "10epochs",
        out: str | Path | None = None,
        random_state: int = 0,
        settings: Mapping[str, object] | None = None,
        base_settings: Mapping[str, object] | None = None,
        verbose: bool = False,
    ) -> None:
        self.base, self.budget, self.base_budget, self.out = base, budget, base_budget, out
        self.random_state, self.settings, self.base_settings = random_state, settings, base_settings
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "run_")

    def _fit(self, texts: list[str], answers: Sequence[Any], groups: Any) -> None:
        """Fine-tunes on texts and what they are to be answered with."""
        table: dict[str, Any] = {"text": texts, self._ANSWER: answers}
        if groups is not None:
            table["group"] = list(groups)
        shared: dict[str, Any] = {"seed": self.random_state, "quiet": not self.verbose}
        # the last fit is deleted when its folder is no longer needed
        temporary = None
        if self.out is None or self.base is None:
            temporary = tempfile.TemporaryDirectory(prefix="scriven-")
        with _value_errors():
            base = self.base
            if base is None:
                assert temporary is not None
                base = train(
                    texts, budget=self.base_budget, out=Path(temporary.name) / "base",
                    settings=self.base_settings, **shared,
                ).folder  # fmt: skip
            out = Path(temporary.name) / "run" if self.out is None and temporary else self.out
            model = finetune(
                base, table, task=self._TASK, budget=self.budget, out=out,
                group=None if groups is None else "group", settings=self.settings, **shared,
            )  # fmt: skip
        self._keep(model.folder, None if self.out is not None else temporary, model)
        self.results_ = model.results

    def _keep(self, run: Path, temporary: Any, model: Model | None = None) -> None:
        self.run_, self._temporary, self._model = run, temporary, model

    @property
    def model_(self) -> Model:
        """The fitted model, loaded when it is first needed.

        Raises:
            NotFittedError: fit was not called.
        """
        if not hasattr(self, "run_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit first")
        if self._model is None:
            self._model = load(self.run_)
        return self._model

    def _predictions(self, texts: Any) -> Iterator[Prediction]:
        model = self.model_
        predictor = Predictor(model.task, model.tokenizer, model.engine, model.runtime)
        with _value_errors():
            yield from predictions(predictor, model.metadata, _texts(texts))

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_model", None)
        if state.pop("_temporary", None) is not None:
            files = (path for path in self.run_.rglob("*") if path.is_file())
            names = ((path.relative_to(self.run_), path) for path in files)
            state["_files"] = {
                name.as_posix(): path.read_bytes()
                for name, path in names
                if name.parts[0] not in _NOT_PICKLED
            }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        files = state.pop("_files", None)
        super().__setstate__(state)
        if files is not None:
            temporary = tempfile.TemporaryDirectory(prefix="scriven-")
            run = Path(temporary.name) / "run"
            for name, content in files.items():
                path = (run / name).resolve()
                if not path.is_relative_to(run.resolve()):
                    raise ValueInputError(f"{name} is no file of a run folder")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self._keep(run, temporary)
        elif "run_" in state:
            self._keep(Path(state["run_"]), None)


class TextClassifier(ClassifierMixin, TextEstimator):  # type: ignore[misc]
    """Texts to labels; as `TextEstimator`, with the attribute `classes_`, the labels."""

    _TASK, _ANSWER = "classify", "label"

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:  # noqa: N803
        """Fine-tunes on texts (n,) and their labels (n,), of which some are held out to choose the
        best weights; rows of one group (n,) stay together.

        Raises:
            ValueError: what is no text, fewer than two labels, or another number of them.
        """
        texts, labels = _texts(X), _answers(y, X)
        check_classification_targets(labels)
        self.classes_, places = np.unique(labels, return_inverse=True)
        # labels are learned by their names, unless two have the same
        names = [str(label).strip() for label in self.classes_.tolist()]
        if len(set(names)) < len(names) or "" in names:
            names = [f"class {place}" for place in range(len(names))]
        self._names = names
        self._fit(texts, [names[place] for place in places], groups)
        return self

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:  # noqa: N803
        """(n, labels) probabilities, in the order of `classes_`."""
        model = self.model_
        learned = list(model.metadata["finetune"]["labels"])
        rows = [answer.probabilities for answer in self._predictions(X)]
        chances = np.zeros((len(rows), len(self.classes_)))
        for place, name in enumerate(self._names):
            if name in learned:
                chances[:, place] = [row[learned.index(name)] for row in rows]
        return chances

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803
        """(n,) labels."""
        chances = self.predict_proba(X)
        return np.asarray(self.classes_[chances.argmax(1)])


class TextRegressor(RegressorMixin, TextEstimator):  # type: ignore[misc]
    """Texts to numbers; parameters and attributes as in `TextEstimator`."""

    _TASK, _ANSWER = "regression", "number"

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:  # noqa: N803
        """Fine-tunes on texts (n,) and their numbers (n,), of which some are held out to choose the
        best weights; rows of one group (n,) stay together.

        Raises:
            ValueError: what is no text or no finite number, or another number of them.
        """
        texts, numbers = _texts(X), _answers(y, X).astype(np.float64)
        if not np.isfinite(numbers).all():
            raise ValueInputError("y holds NaN or infinity: give a finite number for each text")
        self._fit(texts, numbers.tolist(), groups)
        return self

    def predict(self, X: Any) -> npt.NDArray[np.float64]:  # noqa: N803
        """(n,) numbers."""
        return np.array([answer.value for answer in self._predictions(X)], dtype=np.float64)


@contextlib.contextmanager
def _value_errors() -> Iterator[None]:
    """Errors of inputs as the ValueErrors that scikit-learn expects."""
    try:
        yield
    except ScrivenError as error:
        raise ValueInputError(str(error)) from error


def _texts(values: Any) -> list[str]:
    """(n,) texts of a list, an array, a series, or a frame with one column."""
    array = np.asarray(values, dtype=object)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or not len(array):
        shape = ", ".join(map(str, array.shape))
        raise ValueInputError(f"X has the shape ({shape}): give one text or more, as a list")
    for number, text in enumerate(array, 1):
        if not isinstance(text, str):
            kind = "nothing" if text is None else f"a {type(text).__name__}"
            raise ValueInputError(f"X holds {kind} in row {number}, not a text")
    return list(map(str, array))


def _answers(values: Any, texts: Any) -> npt.NDArray[Any]:
    """(n,) labels or numbers, one for each text."""
    if values is None:
        raise ValueInputError("requires y to be passed, but the target y is None")
    answers = np.asarray(values)
    if answers.ndim == 2 and answers.shape[1] == 1:
        answers = answers[:, 0]
    rows = len(texts)
    if answers.ndim != 1 or len(answers) != rows:
        shape = ", ".join(map(str, answers.shape))
        raise ValueInputError(f"y has the shape ({shape}) for {rows} texts: give one for each")
    return answers
