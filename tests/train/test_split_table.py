"""The split of a table: groups stay whole, labels keep their proportions, and what a part lacks is
said. Truth: connected components by scipy, and scikit-learn's stratified group folds."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from scriven.data.table import fingerprint
from scriven.errors import InputError, SettingError
from scriven.settings import DataSettings
from scriven.tasks.classify import Task as Classify
from scriven.tasks.similarity import Task as Similarity
from scriven.train.load_table import TableData, load_table
from scriven.train.split_table import (
    _join_groups,
    count_shared,
    group_name,
    label_notes,
    missing_labels,
    split_rows,
)

Rows = list[dict[str, Any]]


def grouped(seed: int, groups: int = 60, largest: int = 12) -> tuple[Rows, list[str]]:
    """Rows of authors, each of whom has a leaning of his own towards one of three labels."""
    rng = random.Random(seed)
    rows, names = Rows(), list[str]()
    for group in range(groups):
        weights = [rng.random() ** 3 + 0.02 for _ in range(3)]
        for _ in range(rng.randint(1, largest)):
            label = rng.choices(["a", "b", "rare"], [*weights[:2], weights[2] / 4])[0]
            rows.append({"text": f"text {len(rows)}", "label": label})
            names.append(f"author {group}")
    return rows, names


def distance(rows: Rows, held_out: Rows, fraction: float) -> float:
    """How far the labels' fractions are from the one wanted, in rows, as chi-squared weighs it."""
    totals, held = (Counter(row["label"] for row in part) for part in (rows, held_out))
    return sum((held[name] - fraction * n) ** 2 / n for name, n in totals.items())


@pytest.mark.parametrize("seed", range(20))
def test_groups_are_whole_and_labels_keep_their_proportions(seed: int) -> None:
    rows, names = grouped(seed)
    train, held_out = split_rows(Classify, rows, 0.1, seed, names)
    group_of = {row["text"]: name for row, name in zip(rows, names, strict=True)}
    sides = [{group_of[row["text"]] for row in part} for part in (train, held_out)]
    assert not sides[0] & sides[1]
    assert len(train) + len(held_out) == len(rows)
    assert {row["label"] for row in train} == {row["label"] for row in rows}


def test_labels_come_nearer_to_their_fractions_than_in_the_folds_of_scikit_learn() -> None:
    ours, theirs = [], []
    for seed in range(12):
        rows, names = grouped(seed)
        ours.append(distance(rows, split_rows(Classify, rows, 0.1, seed, names)[1], 0.1))
        folds = StratifiedGroupKFold(10, shuffle=True, random_state=seed)
        for _, held in folds.split(rows, [row["label"] for row in rows], names):
            theirs.append(distance(rows, [rows[i] for i in held], 0.1))
    assert np.mean(ours) < np.mean(theirs) / 2


def test_the_order_of_the_rows_changes_nothing_and_the_seed_does() -> None:
    rows, names = grouped(1)
    held_out = split_rows(Classify, rows, 0.1, 0, names)[1]
    turned = split_rows(Classify, rows[::-1], 0.1, 0, names[::-1])[1]
    assert sorted(row["text"] for row in turned) == sorted(row["text"] for row in held_out)
    assert split_rows(Classify, rows, 0.1, 1, names)[1] != held_out


@pytest.mark.parametrize("seed", range(20))
def test_groups_with_a_text_in_common_are_one(seed: int) -> None:
    rng = random.Random(seed)
    questions = [rng.randrange(40) for _ in range(60)]
    groups = [rng.randrange(25) for _ in range(60)]
    names = [f"g{group}" if group else "" for group in groups]  # the first one is no group
    joined = _join_groups([f"{number:02}" for number in questions], names)
    edges = [(q, 40 + g) for q, g in zip(questions, groups, strict=True) if g]
    graph = coo_matrix((np.ones(len(edges)), np.array(edges).T), (65, 65))
    component = connected_components(graph, directed=False)[1]
    expected = [component[question] for question in questions]
    pairs = set(zip(joined, expected, strict=True))
    assert len(pairs) == len(set(joined)) == len(set(expected))


def test_scores_are_grouped_as_well() -> None:
    rows = [{"first": f"a{n}", "second": f"b{n}", "score": n / 7} for n in range(100)]
    names = [f"{n // 5}" for n in range(100)]
    train, held_out = split_rows(Similarity, rows, 0.1, 0, names)
    assert len(held_out) == 10
    assert len({row["first"][1:-1] for row in held_out}) <= 2
    assert count_shared(Similarity, train, held_out) == 0


def test_what_cannot_be_grouped_is_refused() -> None:
    rows = [{"text": f"t{n}", "label": "ab"[n % 2]} for n in range(8)]
    with pytest.raises(InputError, match=r"^all rows are of the group 'x', so none can be held"):
        split_rows(Classify, rows, 0.1, 0, ["x"] * 8)
    with pytest.raises(InputError, match=r"^every group has all rows of some label"):
        split_rows(Classify, rows, 0.1, 0, [row["label"] for row in rows])
    chain = [{"text": f"t{n // 2}", "label": "ab"[n % 2]} for n in range(8)]
    with pytest.raises(InputError, match=r"^all rows are of groups that share texts"):
        split_rows(Classify, chain, 0.1, 0, ["p", "q", "q", "r", "r", "s", "s", "p"])


def test_few_and_large_groups_hold_out_the_nearest_one() -> None:
    rows = [{"text": f"t{n}", "label": "ab"[n % 2]} for n in range(60)]
    names = ["x"] * 30 + ["y"] * 18 + ["z"] * 12
    assert len(split_rows(Classify, rows, 0.05, 0, names)[1]) == 12


def test_the_name_of_a_group() -> None:
    cells: list[Any] = ["Ada ", 0, 1.5, None, "", " ", float("nan"), True]
    assert list(map(group_name, cells)) == ["Ada", "0", "1.5", "", "", "", "", "True"]


def load(path: Path, **more: Any) -> TableData:
    options: dict[str, Any] = {"task": None, "columns": "", "validation": None, "seed": 0}
    return load_table([str(path)], DataSettings(), **{**options, **more})


def test_a_table_is_split_by_a_column(tmp_path: Path) -> None:
    rows, names = grouped(4)
    path = tmp_path / "letters.csv"
    lines = (f"{r['text']},{r['label']},{name}" for r, name in zip(rows, names, strict=True))
    path.write_text("\n".join(["text,label,author", *lines]))
    table = load(path, group="author")
    expected = split_rows(Classify, rows, 0.1, 0, names)
    assert (table.train, table.validation) == expected
    assert fingerprint(table.train) != fingerprint(load(path).train)
    with pytest.raises(
        SettingError, match=r"^--group writer: the table has .* text, label, author$"
    ):
        load(path, group="writer")
    with pytest.raises(SettingError, match=r"^--group author is for rows that are held out"):
        load(path, group="author", validation=str(path))
    with pytest.raises(SettingError, match=r"^--group play is for rows that are held out"):
        load(Path("shakespeare-genre"), group="play")


# ------------------------------------------------------------------ what is told


def labelled(**counts: int) -> Rows:
    return [
        {"text": f"{name} {n}", "label": name} for name, of in counts.items() for n in range(of)
    ]


def test_unbalanced_labels_are_told() -> None:
    (note,) = label_notes(Classify, labelled(ham=80, spam=20), labelled(ham=8, spam=7))
    assert note == (
        "unbalanced labels: 'ham' has 77% of the rows, 'spam' 23.5%; always answering 'ham' has an "
        "accuracy of 0.77, so read macro_f1 beside it, which counts labels alike"
    )
    assert not label_notes(Classify, labelled(ham=50, spam=20), labelled(ham=8, spam=7))


def test_labels_without_a_validation_row_are_told() -> None:
    rows = labelled(**{f"l{n}": 9 for n in range(8)})
    notes = label_notes(Classify, rows, labelled(l0=3, l1=9))
    assert notes == [
        "few validation rows, so their scores are uncertain: 'l0' 3",
        "no row to score has the label 'l2', 'l3', 'l4', 'l5', 'l6' and 1 more: the scores say "
        "nothing of it; macro_f1 counts it as 0 if it is predicted, and else not at all",
    ]
    assert missing_labels(Classify, ["l0"], rows) == []
