"""Data order: a pure function that visits everything once per pass."""

import numpy as np
import pytest

from scriven.data.sampler import ShuffledSampler, permute


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 65, 1000, 4097])
def test_shuffle_is_a_permutation(size: int) -> None:
    assert sorted(permute(np.arange(size), size, 7)) == list(range(size))


def test_shuffle_looks_random() -> None:
    places = permute(np.arange(10_000), 10_000, 3)
    assert abs(np.corrcoef(places, np.arange(10_000))[0, 1]) < 0.05
    assert abs(np.corrcoef(places[:-1], places[1:])[0, 1]) < 0.05
    assert (permute(np.arange(10_000), 10_000, 4) != places).mean() > 0.99


def test_every_window_comes_once_per_pass_and_stays_in_the_text() -> None:
    order = ShuffledSampler(tokens=1003, length=17, seed=5)
    for number in range(3):
        starts = np.sort(order.starts(number * order.windows, order.windows))
        assert len(set(starts)) == order.windows
        assert (np.diff(starts) == 16).all()
        assert starts[0] >= 0
        assert starts[-1] + 17 <= 1003


def test_passes_begin_at_different_offsets() -> None:
    order = ShuffledSampler(tokens=1003, length=17, seed=5)
    firsts = {int(order.starts(n * order.windows, order.windows).min()) for n in range(20)}
    assert len(firsts) > 8


def test_a_step_reads_the_same_windows_however_it_is_asked() -> None:
    order = ShuffledSampler(tokens=5000, length=33, seed=1)
    whole = order.starts(0, 500)
    parts = np.concatenate([order.starts(n, 20) for n in range(0, 500, 20)])
    assert (whole == parts).all()
    assert (order.starts(437, 3) == whole[437:440]).all()


def test_the_shortest_text_has_one_window() -> None:
    assert ShuffledSampler(tokens=9, length=9, seed=0).starts(0, 4).tolist() == [0, 0, 0, 0]
