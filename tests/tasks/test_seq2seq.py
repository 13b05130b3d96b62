"""Hidden spans and tails against the text they were made of, and the loss against one by one."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scriven.data import batch as batches
from scriven.data.batch import IGNORE_INDEX, Batch
from scriven.data.shards import TokenFile, write_token_file
from scriven.models import transformer
from scriven.tasks.seq2seq import Seq2Seq, random_composition

V, CONTEXT = 60, 24
EOS, PAD, MASK = 57, 58, 59


def make(context: int = CONTEXT) -> Seq2Seq:
    torch.manual_seed(0)
    config = transformer.Config(vocab_size=V, context_length=context, layers=1, heads=2, d_model=16)
    task = Seq2Seq(transformer.Model(config), special={"eos": EOS, "pad": PAD, "mask": MASK})
    with torch.no_grad():
        for weight in task.parameters():
            weight.normal_(0, 0.5)
    return task.double().eval()


def texts(task: Seq2Seq, rows: int) -> torch.Tensor:
    return torch.randint(EOS, (rows, task.window), generator=torch.Generator().manual_seed(1))


def rows_of(batch: Batch) -> list[tuple[list[int], list[int], list[int]]]:
    """(source, what the decoder reads, target) of each row, without what only fills it."""
    assert batch.source is not None
    assert batch.source_positions is not None
    found = []
    for source, at, tokens, targets in zip(
        batch.source, batch.source_positions, batch.tokens, batch.targets, strict=True
    ):
        size = int((at >= 0).sum())
        assert at.tolist() == [*range(size), *[-1] * (len(at) - size)]
        length = int((targets != IGNORE_INDEX).sum())
        assert (targets[:length] != IGNORE_INDEX).all()
        assert (source[size:] == PAD).all()
        found.append((source[:size].tolist(), tokens[:length].tolist(), targets[:length].tolist()))
    return found


def restore(source: list[int], target: list[int]) -> list[int]:
    """The text, with each mark in the source replaced by what the target says it hid."""
    hidden: list[list[int]] = []
    for token in target:
        if token == MASK:
            hidden.append([])
        elif token != EOS:
            hidden[-1].append(token)
    assert source.count(MASK) == len(hidden)
    spans = iter(hidden)
    return [each for token in source for each in (next(spans) if token == MASK else [token])]


@pytest.mark.parametrize("context", [4, 5, 8, 24, 100])
def test_source_and_target_together_are_the_text(context: int) -> None:
    task = make(context)
    windows = texts(task, 100)
    rows = rows_of(task.training_batch(windows, 0, 7))
    for text, (source, read, target) in zip(windows.tolist(), rows, strict=True):
        whole = restore(source, target)
        assert whole == text[: len(whole)]
        assert read == [PAD, *target[:-1]]
        assert len(source) <= context
        assert len(target) <= context // 2 + 1
        assert target[0] == MASK


def test_spans_hide_three_tokens_on_average_and_15_percent_and_tails_have_any_place() -> None:
    task = make(100)
    spans, heads, tails = [], [], 0
    for source, _, target in rows_of(task.training_batch(texts(task, 600), 0, 7)):
        if target[-1] == EOS:
            assert len(source) in (99, 100)  # as long a piece as fits
            share = 1 - (len(source) - source.count(MASK)) / len(restore(source, target))
            assert abs(share - 0.15) < 0.01
            spans += sizes(target[:-1])
        else:
            tails += 1
            heads.append(len(source) - 1)
            assert len(target) - 1 == 50
    assert 250 < tails < 350
    assert abs(np.mean(spans) - 3) < 0.3
    assert len(set(spans)) > 5
    assert min(heads) < 5
    assert max(heads) == 99
    assert abs(np.mean(heads) - 49.5) < 6


def sizes(target: list[int]) -> list[int]:
    """Lengths of the spans in a target without its end."""
    marks = [place for place, token in enumerate(target) if token == MASK]
    return [end - start - 1 for start, end in zip(marks, [*marks[1:], len(target)], strict=True)]


def test_every_sum_is_equally_likely() -> None:
    draw = np.random.default_rng(0)
    seen = Counter(tuple(random_composition(5, 3, draw)) for _ in range(6000))
    assert len(seen) == 6  # 1+1+3, 1+3+1, 3+1+1, 1+2+2, 2+1+2, 2+2+1
    assert all(abs(count - 1000) < 150 for count in seen.values())


def test_each_row_counts_as_the_text_that_no_other_row_has() -> None:
    task = make(24)
    # up to 23 tokens before the mask and 12 after it, of which one is the next row's first
    assert task.training_batch(texts(task, 8), 0, 7).text_tokens == 8 * (23 + 12 - 1)


def test_a_row_is_a_pure_function_of_seed_and_number() -> None:
    task = make()
    windows = texts(task, 8)
    together = rows_of(task.training_batch(windows, 40, 3))
    for row in range(8):
        assert rows_of(task.training_batch(windows[row : row + 1], 40 + row, 3)) == [together[row]]
    assert rows_of(task.training_batch(windows, 40, 4)) != together
    assert rows_of(task.training_batch(windows, 41, 3)) != together


def shard_of(ids: list[int], folder: Path) -> TokenFile:
    write_token_file(folder / "ids.bin", "<u2", np.array(ids, dtype=np.int32))
    return TokenFile(folder / "ids.bin", "<u2", len(ids))


@pytest.mark.parametrize("length", [1, 5, 12, 13, 24, 47, 48, 100, 131])
def test_examining_counts_each_token_once_after_the_text_before_it(
    length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "TOKENS_PER_BATCH", 36)
    task = make()
    ids = torch.randint(EOS, (length,), generator=torch.Generator().manual_seed(2)).tolist()
    seen: list[int] = []
    for batch in task.eval_batches(shard_of(ids, tmp_path), torch.device("cpu")):
        assert batch.reset_state
        for row in range(batch.tokens.size(0)):
            read = batch.source[row][batch.source_positions[row] >= 0].tolist()
            assert read == [*ids[: len(seen)][-(CONTEXT - 1) :], MASK]
            targets = batch.targets[row]
            assert targets[0] == IGNORE_INDEX
            new = targets[targets != IGNORE_INDEX].tolist()
            assert batch.tokens[row, : len(new) + 1].tolist() == [PAD, MASK, *new[:-1]]
            seen += new
    assert seen == ids


def test_the_examined_loss_is_that_of_each_token_after_the_text_before_it(tmp_path: Path) -> None:
    task = make()
    ids = torch.randint(EOS, (61,), generator=torch.Generator().manual_seed(2)).tolist()
    total = counted = 0.0
    for batch in task.eval_batches(shard_of(ids, tmp_path), torch.device("cpu")):
        output = task(batch)
        total += output.loss.item()
        counted += int(output.tokens)
    assert counted == len(ids)

    def alone(ahead: int) -> float:
        """The same, one token at a time; `ahead` tokens too many in the source plant an error."""
        nats = 0.0
        for place, token in enumerate(ids):
            begin = place - place % task.max_tail
            end = begin + ahead
            source = torch.tensor([[*ids[max(0, end - CONTEXT + 1) : end], MASK]])
            read = torch.tensor([[PAD, MASK, *ids[begin:place]]])
            scores = task.logits(task.backbone(read, source=source))[0, -1]
            nats += F.cross_entropy(scores, torch.tensor(token)).item()
        return nats

    with torch.no_grad():
        assert abs(total - alone(0)) < 1e-10
        assert abs(total - alone(1)) > 1e-3


def test_going_on_reads_the_text_as_examining_does(tmp_path: Path) -> None:
    """Written in halves of a context: the same sources and the same tails."""
    task, ids = make(), list(range(50))
    seen = []
    for written in range(50):
        source, tokens = task.build_inputs(ids[:written], written)
        assert source is not None
        assert len(source) <= CONTEXT
        assert len(tokens) <= task.max_context
        if written % task.max_tail == 0:
            seen.append(source)
        assert tokens == [PAD, MASK, *ids[written - written % task.max_tail : written]]
    batches = task.eval_batches(shard_of(ids, tmp_path), torch.device("cpu"))
    assert seen == [
        source[at >= 0].tolist()
        for batch in batches
        for source, at in zip(batch.source, batch.source_positions, strict=True)
    ]


def test_a_prompt_keeps_as_much_as_the_source_holds() -> None:
    task = make()
    assert task.truncate_prompt(list(range(30))) == list(range(7, 30))
    assert task.truncate_prompt([1, 2]) == [1, 2]


@pytest.mark.parametrize("context", [4, 9, 32, 255])
def test_a_row_goes_on_by_what_it_shares_with_no_other(context: int) -> None:
    task = make(context)
    assert Seq2Seq.tokens_per_sample(context) == task.window - 1  # rows overlap by one token
