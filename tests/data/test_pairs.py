"""Tables of pairs: read, split by rows, prepared, drawn and measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scriven.data.batch import IGNORE_INDEX
from scriven.data.eval_text import encode_eval_text
from scriven.data.pairs import PairDataset, pair_targets
from scriven.data.pipeline import load_dataset
from scriven.data.sampler import shuffled_rows
from scriven.data.shards import TokenDataset
from scriven.data.sources import are_pairs
from scriven.errors import InputError
from scriven.models import transformer
from scriven.settings import DataSettings, TokenizerSettings
from scriven.tasks.pairs import Pairs as Task

ROWS = [(f"eins {n}, zwei", f'one {n}\ntwo "{n}"') for n in range(20)]


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def written(folder: Path, kind: str, rows: list[tuple[str, str]] = ROWS) -> str:
    path = folder / f"pairs.{kind}"
    if kind == "jsonl":
        lines = [json.dumps({"target": t, "more": 1, "source": s}) for s, t in rows]
    else:
        mark = "\t" if kind == "tsv" else ","
        table = [("number", "target", "source"), *((str(0), t, s) for s, t in rows)]
        lines = [mark.join(map(quoted, row)) for row in table]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def made(source: str, kind: str = "byte", **data: object) -> TokenDataset:
    settings = DataSettings(**data)  # type: ignore[arg-type]
    return load_dataset([source], settings, TokenizerSettings(kind=kind), seed=0, pairs=True)  # type: ignore[arg-type]


def rows_of(corpus: TokenDataset) -> list[tuple[str, str]]:
    """All pairs of both parts as text; a target must end with EOS, and a source must not."""
    found = []
    for shard in (corpus.train, corpus.validation):
        pairs = PairDataset(shard, corpus.tokenizer.eos)
        for source, target in zip(*pairs.read(range(len(pairs))), strict=True):
            assert corpus.tokenizer.eos not in source
            assert list(target).index(corpus.tokenizer.eos) == len(target) - 1
            found.append((corpus.tokenizer.decode(source), corpus.tokenizer.decode(target)))
    return found


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe"])
def test_every_format_gives_the_same_pairs_in_order(
    kind: str, tokenizer: str, tmp_path: Path
) -> None:
    corpus = made(written(tmp_path, kind), tokenizer)
    assert rows_of(corpus) == ROWS
    assert corpus.pairs
    assert (
        len(PairDataset(corpus.validation, corpus.tokenizer.eos)) == 2
    )  # the last tenth of the rows
    assert corpus.validation_bytes == sum(len(target.encode()) for _, target in ROWS[-2:])


def test_pairs_with_an_empty_side_are_skipped_and_counted(tmp_path: Path) -> None:
    rows = [*ROWS[:3], ("", "b"), ("a", ""), *ROWS[3:]]
    corpus = made(written(tmp_path, "tsv", rows))
    assert rows_of(corpus) == ROWS
    assert "2 rows were skipped, first " in " ".join(corpus.notes)
    assert "pair 4 has an empty source" in " ".join(corpus.notes)


def test_only_tables_with_both_columns_hold_pairs(tmp_path: Path) -> None:
    usual = DataSettings()
    good = written(tmp_path, "csv")
    text, other = tmp_path / "a.txt", tmp_path / "other.csv"
    text.write_text("source\ttarget\n")
    other.write_text("source,text\na,b\n")
    assert are_pairs([good, written(tmp_path, "jsonl")], usual)
    assert not are_pairs([good, str(text)], usual)
    assert not are_pairs([good, str(other)], usual)
    assert not are_pairs(["shakespeare"], usual)
    assert not are_pairs(["-"], usual)
    with pytest.raises(InputError, match="no column 'target'"):
        made(str(other))
    with pytest.raises(InputError, match="columns source and target"):
        made(str(text))


def test_too_few_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 2"):
        made(written(tmp_path, "csv", ROWS[:1]))
    assert len(rows_of(made(written(tmp_path, "csv", ROWS[:2])))) == 2


def test_pairs_and_the_same_table_as_text_are_prepared_apart(tmp_path: Path) -> None:
    source = written(tmp_path, "csv")
    alone = load_dataset(
        [source], DataSettings(text_column="target"), TokenizerSettings(kind="byte"), seed=0
    )
    assert not alone.pairs
    assert alone.fingerprint != made(source).fingerprint


@pytest.mark.parametrize("pairs", [1, 2, 7, 100])
def test_every_pair_is_drawn_once_per_pass_as_a_pure_function_of_its_number(pairs: int) -> None:
    whole = shuffled_rows(0, 3 * pairs, pairs, 5)
    for number in range(3):
        assert sorted(whole[number * pairs : (number + 1) * pairs]) == list(range(pairs))
    for first in range(2 * pairs):
        assert list(shuffled_rows(first, 4, pairs, 5)) == list(
            shuffled_rows(first, 9, pairs, 5)[:4]
        )
        assert shuffled_rows(first, 1, pairs, 5)[0] == whole[first]
    if pairs == 100:
        assert list(whole[:100]) != list(whole[100:200])
        assert list(whole[:100]) != list(shuffled_rows(0, 100, pairs, 6))


def test_targets_are_told_apart_from_the_end_however_the_beginning_is_cut() -> None:
    ids = np.array([1, 2, 0, 3, 0, 4, 0, 5, 6, 0])  # (1 2) -> 3, 4 -> (5 6)
    assert pair_targets(ids, 0).tolist() == [3, 0, 5, 6, 0]
    assert pair_targets(ids[1:], 0).tolist() == [3, 0, 5, 6, 0]
    assert pair_targets(ids[4:], 0).tolist() == [0, 5, 6, 0]
    assert pair_targets(ids[5:], 0).tolist() == [5, 6, 0]


def task_for(corpus: TokenDataset, context: int) -> Task:
    torch.manual_seed(0)
    vocab_size = corpus.tokenizer.vocab_size
    config = transformer.Config(vocab_size, context, layers=1, heads=2, d_model=16)
    task = Task(transformer.Model(config), special=corpus.tokenizer.special_token_ids)
    with torch.no_grad():
        for weight in task.parameters():
            weight.normal_(0, 0.5)
    return task.double().eval()


def test_examining_counts_each_target_token_after_its_own_source(tmp_path: Path) -> None:
    corpus = made(written(tmp_path, "tsv"))
    task, pad = task_for(corpus, 64), corpus.tokenizer.pad
    total, tokens = 0.0, 0
    with torch.no_grad():
        for batch in task.eval_batches(corpus.train, torch.device("cpu")):
            output = task(batch)
            total, tokens = total + output.loss.item(), tokens + int(output.tokens)
        nats, swapped = 0.0, 0.0
        pairs = PairDataset(corpus.train, corpus.tokenizer.eos)
        sources, targets = pairs.read(range(len(pairs)))
        for number, target in enumerate(targets):
            for place in range(len(target)):
                read = torch.tensor([[pad, *target[:place]]])
                for other in (number, (number + 1) % len(pairs)):
                    scores = task.logits(
                        task.backbone(read, source=torch.tensor([sources[other].tolist()]))
                    )
                    loss = F.cross_entropy(scores[0, -1], torch.tensor(target[place])).item()
                    nats, swapped = (
                        (nats + loss, swapped) if other == number else (nats, swapped + loss)
                    )
    assert tokens == sum(map(len, targets))
    assert abs(total - nats) < 1e-9
    assert abs(total - swapped) > 1e-3  # planted: the source of the next pair


def test_a_side_longer_than_the_context_loses_its_end_and_is_counted(tmp_path: Path) -> None:
    rows = [("a" * 10, "b" * 3), ("a" * 3, "b" * 8), ("a", "b"), ("a", "b" * 7), ("a", "b")]
    corpus = made(written(tmp_path, "tsv", rows), val_fraction=0.2)
    pairs = PairDataset(corpus.train, corpus.tokenizer.eos)
    assert pairs.lengths.tolist() == [[10, 4], [3, 9], [1, 2], [1, 8]]
    assert pairs.num_truncated(8) == 2
    batch = task_for(corpus, 8).batch(*pairs.read([0, 1]), torch.device("cpu"))
    assert batch.source is not None
    assert batch.source_positions is not None
    assert (batch.source_positions >= 0).sum(1).tolist() == [8, 3]
    assert (batch.targets != IGNORE_INDEX).sum(1).tolist() == [4, 8]
    assert corpus.tokenizer.eos in batch.targets[0]
    assert corpus.tokenizer.eos not in batch.targets[1]


def test_another_table_is_measured_by_its_targets(tmp_path: Path) -> None:
    source = written(tmp_path, "jsonl")
    corpus = made(source)
    with encode_eval_text([source], DataSettings(), corpus.tokenizer, pairs=True) as text:
        pairs = PairDataset(text.file, corpus.tokenizer.eos)
        assert len(pairs) == len(ROWS)
        assert text.bytes == sum(len(target.encode()) for _, target in ROWS)
