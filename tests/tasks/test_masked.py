"""Which tokens are hidden, what is shown in their place, and that measuring counts each once."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scriven.data.batch import IGNORE_INDEX, Batch
from scriven.data.shards import TokenFile, write_token_file
from scriven.models import roberta
from scriven.tasks import masked
from scriven.tasks.masked import Masked

V, T = 50, 20
SPECIAL = {"eos": 47, "pad": 48, "mask": 49}
CPU = torch.device("cpu")


def make(**changes: object) -> Masked:
    torch.manual_seed(0)
    shape = {
        "vocab_size": V,
        "context_length": T,
        "layers": 2,
        "heads": 2,
        "d_model": 16,
        **changes,
    }
    task = Masked(roberta.Model(roberta.Config(**shape)), special=SPECIAL)
    with torch.no_grad():
        for weight in task.parameters():
            weight.normal_(0, 0.3)
    return task.double().eval()


def text(rows: int, length: int = T) -> torch.Tensor:
    return torch.randint(47, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[TokenFile]:
    """137 tokens: six windows of the context and one of 17."""
    write_token_file(
        tmp_path / "shard", "<u2", np.random.default_rng(0).integers(47, size=137).astype(np.int32)
    )
    opened = TokenFile(tmp_path / "shard", "<u2", 137)
    yield opened
    opened.close()


def test_gaps_are_a_pure_function_of_seed_and_sample() -> None:
    task, rows = make(), text(8)
    whole = task.training_batch(rows, 100, 5)
    assert torch.equal(whole.tokens, task.training_batch(rows, 100, 5).tokens)
    part = task.training_batch(rows[3:], 103, 5)
    assert torch.equal(part.tokens, whole.tokens[3:])
    assert torch.equal(part.targets, whole.targets[3:])
    for first, seed in ((101, 5), (100, 6)):
        assert not torch.equal(task.training_batch(rows, first, seed).targets, whole.targets)


def test_the_same_text_gets_other_gaps_each_time_it_is_read() -> None:
    same = text(1).expand(64, T)
    found = make().training_batch(same, 0, 1).targets
    assert len({tuple(row) for row in found.tolist()}) > 55


def test_shares_are_those_of_the_paper() -> None:
    task, rows = make(), text(4000)
    batch = task.training_batch(rows, 0, 1)
    hidden = batch.targets != IGNORE_INDEX
    assert abs(hidden.double().mean() - 0.15) < 0.002
    assert abs(hidden.double().mean(0) - 0.15).max() < 0.03  # every place alike
    count = int(hidden.sum())
    as_mask = (batch.tokens == SPECIAL["mask"])[hidden].double().mean()
    kept = (batch.tokens == batch.targets)[hidden].double().mean()
    bound = 5 / count**0.5 / 2
    assert abs(as_mask - 0.8) < bound
    assert abs(kept - (0.1 + 0.1 / 47)) < bound  # a random token may be the right one
    swapped = batch.tokens[hidden & (batch.tokens != SPECIAL["mask"])]
    assert swapped.max() < 47
    assert len(swapped.unique()) == 47


def test_what_is_not_hidden_is_shown_and_not_counted() -> None:
    task, rows = make(), text(300)
    batch = task.training_batch(rows, 0, 1)
    hidden = batch.targets != IGNORE_INDEX
    assert torch.equal(batch.tokens[~hidden], rows[~hidden])
    assert torch.equal(batch.targets[hidden], rows[hidden])


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_no_row_is_without_a_gap(length: int) -> None:
    batch = make(context_length=length).training_batch(text(200, length), 0, 1)
    assert (batch.targets != IGNORE_INDEX).any(1).all()


def counts(batches: list[Batch], shard: TokenFile) -> Counter[int]:
    """How often each place of the shard is a target; what is shown must be the text or a mask."""
    found: Counter[int] = Counter()
    whole = torch.from_numpy(shard.read(0, len(shard)))
    windows = [*whole[: len(shard) // T * T].view(-1, T), whole[len(shard) // T * T :]]
    for batch in batches:
        last = batch.tokens.size(1) != T
        for row, (tokens, targets) in enumerate(zip(batch.tokens, batch.targets, strict=True)):
            number = len(windows) - 1 if last else row
            hidden = targets != IGNORE_INDEX
            assert torch.equal(targets[hidden], windows[number][hidden])
            assert torch.equal(tokens[~hidden], windows[number][~hidden])
            assert (tokens[hidden] == SPECIAL["mask"]).all()
            found.update((number * T + hidden.nonzero()[:, 0]).tolist())
    return found


def test_measuring_counts_every_token_once(shard: TokenFile) -> None:
    batches = list(make().eval_batches(shard, CPU))
    assert counts(batches, shard) == Counter(range(137))
    for batch in batches:
        share = (batch.targets != IGNORE_INDEX).sum(1)
        assert share.min() >= batch.tokens.size(1) // 7
        assert share.max() <= -(-batch.tokens.size(1) // 7)


def test_a_place_in_two_rounds_is_noticed(
    shard: TokenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = masked.eval_passes

    def wrong(window: int, length: int) -> np.ndarray:
        return np.where(right(window, length) == 6, 7, right(window, length))

    monkeypatch.setattr(masked, "eval_passes", wrong)
    assert counts(list(make().eval_batches(shard, CPU)), shard) != Counter(range(137))


def test_measuring_is_the_same_each_time_and_window_sizes_may_be_tiny(shard: TokenFile) -> None:
    first, second = (list(make().eval_batches(shard, CPU)) for _ in range(2))
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(first, second, strict=True))
    for context in (1, 3, 200):
        batches = list(make(context_length=context).eval_batches(shard, CPU))
        assert sum(batch.num_targets() for batch in batches) == 137


def test_the_loss_is_that_of_each_hidden_token() -> None:
    task = make()
    batch = task.training_batch(text(3), 0, 1)
    logits = task.logits(task.hidden(batch)).detach()
    total = 0.0
    for row in range(3):
        for place in range(T):
            target = int(batch.targets[row, place])
            if target != IGNORE_INDEX:
                total -= float(logits[row, place].log_softmax(-1)[target])
    output = task(batch)
    assert abs(float(output.loss.detach()) - total) < 1e-9
    assert int(output.tokens) == batch.num_targets()


def test_the_head_is_dense_gelu_norm_and_the_embedding() -> None:
    task, hidden = make(), torch.randn(2, 5, 16, dtype=torch.float64)
    w = dict(task.named_parameters())
    x = F.gelu(hidden @ w["head.dense.weight"].T + w["head.dense.bias"])
    x = (x - x.mean(-1, True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    x = x * w["head.norm.weight"] + w["head.norm.bias"]
    wanted = x @ w["backbone.embed.token.weight"].T + w["head.bias"]
    assert (task.logits(hidden) - wanted).abs().max() < 1e-12


def test_one_backbone_learns_what_only_the_right_side_tells() -> None:
    """A token equal to the one after it: no left-to-right model can know it."""
    torch.manual_seed(0)
    shape = {"vocab_size": V, "context_length": 8, "layers": 1, "heads": 2, "d_model": 32}
    task = Masked(roberta.Model(roberta.Config(**shape)), special=SPECIAL)
    task.init_weights()
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    for step in range(300):
        windows = text(64, 4).roll(step, 0).repeat_interleave(2, 1)
        output = task(task.training_batch(windows, 64 * step, 1))
        optimizer.zero_grad()
        (output.loss / output.tokens).backward()
        optimizer.step()
    row = torch.tensor([[1, 1, 20, 20, 33, 33, 2, 2]])
    hidden = row.clone()
    hidden[0, 4] = SPECIAL["mask"]
    with torch.no_grad():
        assert int(task.logits(task.backbone(hidden))[0, 4].argmax()) == 33
