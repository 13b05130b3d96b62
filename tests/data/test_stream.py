"""Contiguous reading: rows go on where they were, and every token is measured once."""

from pathlib import Path

import numpy as np
import pytest
import torch

from scriven.data import batch as batches
from scriven.data.batch import IGNORE_INDEX, eval_streams, token_blocks
from scriven.data.sampler import SequentialSampler
from scriven.data.shards import TokenFile, write_token_file

CPU = torch.device("cpu")


def shard(folder: Path, tokens: int) -> TokenFile:
    path = folder / f"{tokens}.bin"
    write_token_file(path, "<u2", np.arange(1, tokens + 1, dtype=np.int32))
    return TokenFile(path, "<u2", tokens)


@pytest.mark.parametrize(
    ("tokens", "context", "rows"),
    [(1000, 8, 4), (1003, 7, 1), (100, 9, 10), (91, 9, 10), (30, 9, 4), (10, 9, 3), (10, 9, 1)],
)
def test_rows_go_on_where_they_were_and_stay_inside_the_text(
    tokens: int, context: int, rows: int
) -> None:
    stream = SequentialSampler(tokens, context + 1, rows, seed=3)
    before = None
    for step in range(3 * stream.windows + 1):
        starts, fresh = stream.starts(step * rows)
        assert fresh == (step % stream.windows == 0)
        if not fresh:
            assert (starts == before + context).all()
        assert starts.min() >= 0
        assert starts.max() + context + 1 <= tokens
        before = starts


def test_a_pass_reads_all_but_a_little_and_no_token_twice() -> None:
    stream = SequentialSampler(1000, 9, 4, seed=0)
    seen = np.zeros(1000, dtype=int)
    for step in range(stream.windows):
        for start in stream.starts(step * 4)[0]:
            seen[start : start + 8] += 1  # the last token of a window is only a target
    assert seen.max() == 1
    assert seen.sum() > 1000 - 8 * 4 - 9


def test_passes_cut_the_text_at_other_places_and_depend_on_the_seed() -> None:
    stream = SequentialSampler(1000, 9, 4, seed=0)
    first = [int(stream.starts(n * stream.windows * 4)[0][0]) for n in range(20)]
    assert len(set(first)) > 10
    other = SequentialSampler(1000, 9, 4, seed=1)
    assert first != [int(other.starts(n * stream.windows * 4)[0][0]) for n in range(20)]
    assert first == [int(stream.starts(n * stream.windows * 4)[0][0]) for n in range(20)]


def read(folder: Path, tokens: int, context: int) -> tuple[dict[int, int], list[bool]]:
    """{target: the token it was predicted from}, and whether each batch was fresh."""
    pairs: dict[int, int] = {}
    fresh = []
    ends: torch.Tensor | None = None
    for batch in eval_streams(shard(folder, tokens), context, 0, CPU):
        fresh.append(batch.reset_state)
        assert batch.tokens.shape == batch.targets.shape
        for x, y in zip(batch.tokens.flatten().tolist(), batch.targets.flatten().tolist()):  # noqa: B905
            if y != IGNORE_INDEX:
                assert y not in pairs, "counted twice"
                pairs[y] = x
        if not batch.reset_state:
            assert ends is not None
            counted = batch.targets[:, 0] != IGNORE_INDEX
            assert torch.equal(batch.tokens[counted, 0], ends[counted])
        ends = batch.targets[:, -1]
    return pairs, fresh


@pytest.mark.parametrize("context", [1, 8, 64, 5000])
@pytest.mark.parametrize("tokens", [1, 2, 7, 64, 65, 1001, 3999])
def test_every_token_is_measured_once_from_the_one_before(
    tmp_path: Path, tokens: int, context: int
) -> None:
    pairs, fresh = read(tmp_path, tokens, context)
    assert pairs == {token: token - 1 for token in range(1, tokens + 1)}
    assert fresh == [True] + [False] * (len(fresh) - 1)


def test_a_long_text_is_measured_in_a_few_long_rows(tmp_path: Path) -> None:
    first = next(iter(eval_streams(shard(tmp_path, 60_000), 64, 0, CPU)))
    assert first.tokens.shape == (16, 64)
    assert next(iter(eval_streams(shard(tmp_path, 1000), 64, 0, CPU))).tokens.size(0) == 1


@pytest.mark.parametrize("length", [1, 7, 40, 100])
def test_blocks_hold_every_token_in_order_and_no_more_at_once_than_allowed(
    tmp_path: Path, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "TOKENS_PER_BATCH", 40)
    blocks = list(token_blocks(shard(tmp_path, 205), length))
    assert np.concatenate([block.ravel() for block in blocks]).tolist() == list(range(1, 206))
    assert max(block.size for block in blocks) == max(length, 40 // length * length)
    assert {block.shape[1] for block in blocks} <= {length, 205 % length}
