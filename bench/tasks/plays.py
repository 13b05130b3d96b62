"""Shallow baselines on the tables from the plays: what length, words and characters give away.

python bench/tasks/plays.py

The logistic regressions are scikit-learn's; the words shared with the context are counted in
docs/plays-tasks.md.
"""

from collections import Counter
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from scriven.data.table import builtin

Rows = list[dict[str, Any]]


def rows(name: str, part: str) -> Rows:
    """The rows of one part."""
    module = builtin(name)
    assert module is not None
    return list(module.read(part))


def show(rule: str, part: str, right: float) -> None:
    """One line of the report."""
    print(f"{rule:44} {part:10} {right:.1%}", flush=True)


def genre() -> None:
    """The majority label, and TF-IDF words."""
    train = rows("shakespeare-genre", "train")
    majority = Counter(row["label"] for row in train).most_common(1)[0][0]
    words = TfidfVectorizer(min_df=2)
    model = LogisticRegression(C=1, max_iter=2000)
    model.fit(words.fit_transform(row["text"] for row in train), [row["label"] for row in train])
    for part in ("validation", "test"):
        held = rows("shakespeare-genre", part)
        labels = np.array([row["label"] for row in held])
        show("genre: the majority", part, float((labels == majority).mean()))
        predicted = model.predict(words.transform(row["text"] for row in held))
        show("genre: words", part, float((labels == predicted).mean()))


def following() -> None:
    """The four choices without their context: by length, words, characters."""
    train = rows("shakespeare-next", "train")
    held = {part: rows("shakespeare-next", part) for part in ("validation", "test")}
    for part, found in held.items():
        lengths = np.array([[len(text) for text in row["choices"]] for row in found])
        answers = np.array([row["answer"] for row in found])
        show("next: the longest", part, float((lengths.argmax(1) == answers).mean()))
        show("next: the shortest", part, float((lengths.argmin(1) == answers).mean()))
    choices = [text for row in train for text in row["choices"]]
    right = [place == row["answer"] for row in train for place in range(len(row["choices"]))]
    for rule, counts in (
        ("words", CountVectorizer(min_df=2, binary=True)),
        ("characters", CountVectorizer(analyzer="char", ngram_range=(1, 3), min_df=5, binary=True)),
    ):
        model = LogisticRegression(C=0.1, max_iter=500, class_weight="balanced")
        model.fit(counts.fit_transform(choices), right)
        for part, found in held.items():
            texts = [text for row in found for text in row["choices"]]
            scores = model.decision_function(counts.transform(texts)).reshape(len(found), -1)
            answers = np.array([row["answer"] for row in found])
            show(f"next: {rule}, no context", part, float((scores.argmax(1) == answers).mean()))


if __name__ == "__main__":
    genre()
    following()
