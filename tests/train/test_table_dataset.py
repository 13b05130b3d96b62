"""What the rows of a table say of themselves to the trainer."""

from typing import Any

import pytest

from scriven import config, registry
from scriven.settings import TokenizerSettings
from scriven.tasks.base import BaseTask
from scriven.tasks.shared.supervised import stand_ins, transfer_weights
from scriven.tokenizers import char
from scriven.train.finetune import encode_rows
from scriven.train.load_table import table_tasks
from scriven.train.table_dataset import TableDataset

TURNS = [("user", "ab?"), ("assistant", "ba"), ("user", "b?"), ("assistant", "aab\u00e9")]


def built(task: str, architecture: str, **task_config: Any) -> tuple[Any, BaseTask]:
    """(tokenizer, model) of a task, tiny."""
    kind, module = table_tasks()[task], registry.module("scriven.models", architecture)
    made = char.train(["abcde\u00e9 ?.\nsystemuserassistant"], TokenizerSettings(kind="char"))
    known = made.with_special_tokens(*kind.EXTRA_TOKENS)
    shape = {
        "vocab_size": known.vocab_size,
        "context_length": 64,
        "layers": 1,
        "heads": 2,
        "d_model": 16,
    }
    backbone = module.Model(config.replace(module.Config(), shape, "model"))
    return known, kind(backbone, None, known.special_token_ids, task_config)


@pytest.mark.parametrize("architecture", ["llama", "transformer"])
def test_bits_per_byte_are_of_the_bytes_that_the_loss_counts(architecture: str) -> None:
    known, task = built("chat", architecture)
    row = {"messages": [{"role": role, "content": said} for role, said in TURNS]}
    kind: Any = table_tasks()["chat"]
    examples = encode_rows(kind, task.backbone, known, {}, [row])
    data = TableDataset(known, "chat", kind, [row], [row], examples, examples, {}, {})
    last = len("aab\u00e9".encode())
    assert data.eval_bytes() == last + (len("ba") if architecture == "llama" else 0)


@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True)])
def test_a_model_for_the_same_task_may_copy_where_the_one_before_did_not(
    before: bool, after: bool
) -> None:
    _, old = built("summarize", "transformer", copy_head=before)
    _, new = built("summarize", "transformer", copy_head=after)
    old.init_weights()
    new.init_weights()
    transfer_weights(new, old.state_dict(), same_answers=True)
    learned, found = old.state_dict(), new.state_dict()
    assert {name.partition(".")[0] for name in learned.keys() ^ found.keys()} == {"pointer"}
    assert all(found[name].equal(learned[name]) for name in learned.keys() & found.keys())


def test_around_frozen_weights_new_tokens_begin_as_what_a_text_has_in_their_place() -> None:
    known, task = built("classify", "llama", labels=["a", "b"])
    task.init_weights()
    table = "backbone.embed.token.weight"
    old = {name: each.clone() for name, each in task.state_dict().items()}
    size = known.vocab_size - 3  # without start, delimiter and extract
    old[table] = 5 * old[table][:size]
    near = stand_ins(known)
    for name, text in (("delimiter", "\n"), ("extract", ":")):
        assert known.decode([near[task.special[name]]]) == text
    assert near[task.special["start"]] == task.special["eos"]
    std = old[table].std()
    for given in (near, None):
        transfer_weights(task, old, near=given)
        rows = task.state_dict()[table]
        assert rows[:size].equal(old[table])
        for name in ("start", "delimiter", "extract"):
            away = rows[task.special[name]] - old[table][near[task.special[name]]]
            assert (away.pow(2).mean().sqrt() < 0.3 * std) == (given is not None)
        assert not rows[size].equal(rows[size + 1])  # they learn apart
