"""The time to a loss is that of the shortest budget at which every seed reaches it."""

from pathlib import Path

import race_to_loss


class FakeRuns(race_to_loss.Ours):
    """Reaches the losses of a table, seed by seed, in the seconds of the budget."""

    def __init__(self, tmp_path: Path, table: dict[int, list[float]]) -> None:
        super().__init__(tmp_path / "book.txt", tmp_path)
        self.table = table

    def turn(self) -> float:
        self.seed += 1
        seconds = int(self.budget.removesuffix("s"))
        self.results.append({"val_loss": self.table[seconds][self.seed - 1]})
        return float(seconds)


TABLE = {5: [2.0], 8: [1.87, 1.89, 1.87], 10: [1.86, 1.87, 1.88]}


def test_a_budget_that_one_seed_misses_is_not_enough(tmp_path: Path) -> None:
    ours, turns = FakeRuns(tmp_path, TABLE), iter([140.0, 150.0, 160.0])
    found = race_to_loss.race("1.88", [5, 8, 10], ours, lambda: next(turns), 3)
    assert found == {"scriven": [10.0, 10.0, 10.0], "nanoGPT": [140.0, 150.0, 160.0]}
    assert ours.losses == TABLE[10]
    assert race_to_loss._ratio(found) == 15


def test_a_ladder_that_ends_too_early_gives_no_figure(tmp_path: Path) -> None:
    assert race_to_loss.race("1.88", [5, 8], FakeRuns(tmp_path, TABLE), None, 3) is None


def test_without_nanogpt_ours_is_measured_alone(tmp_path: Path) -> None:
    found = race_to_loss.race("1.88", [10], FakeRuns(tmp_path, TABLE), None, 2)
    assert found == {"scriven": [10.0, 10.0], "nanoGPT": []}
    assert race_to_loss._ratio(found) is None
