"""Tables of measurements without a peer: the newest rows, and their figures."""

import json
from typing import Any

import table

LOSS: dict[str, Any] = {
    "what": "time to loss", "text": "a.txt", "arch": "llama", "budget": "3m", "seed": 1,
    "whole_process_seconds": 179.4, "val_loss": 1.4546, "ngram_loss": 1.669,
    "parameters": 845568, "tokens_per_second": 28232.8, "commit": "abc",
    "processor": "P",
}  # fmt: skip
PREPARED = {
    "what": "prepare", "tokenizer": "char", "form": "txt", "megabytes": 1000,
    "megabytes_per_second": 122.2, "peak_megabytes": 321, "kills": 10, "equal": True,
    "processor": "P",
}  # fmt: skip


def cells(made: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in made.splitlines()[2:]]


def test_losses_are_those_of_the_newest_run_of_each_seed() -> None:
    rows = [
        LOSS,
        {**LOSS, "seed": 2, "val_loss": 1.47},
        {**LOSS, "budget": "1m", "val_loss": 1.53, "whole_process_seconds": 59.0},
        {**LOSS, "val_loss": 1.45, "commit": "def"},
        {**LOSS, "val_loss": 1.52, "processor": "Q"},
        {**LOSS, "val_loss": 1.46, "arch": "rnn"},
    ]
    first, second, third, fourth = cells(table.losses(rows))
    assert first[:4] == ["a.txt", "1m", "llama", "1.530"]
    assert second[:4] == ["a.txt", "3m", "llama", "1.450, 1.470"]
    assert second[4:] == ["1.669", "845,568", "28,233", "def, abc", "P"]
    assert third[3] == "1.520" and third[-1] == "Q"
    assert fourth[2:4] == ["rnn", "1.460"]


def test_a_killed_preparation_that_differs_is_marked() -> None:
    assert cells(table.preparing([PREPARED])) == [
        [".txt, char", "122", "321 MB", "10, the same", "P"]
    ]
    assert "DIFFERENT" in table.preparing([{**PREPARED, "equal": False}])
    assert cells(table.preparing([{**PREPARED, "megabytes": 50}])) == []


def test_an_earlier_version_stands_beside_the_present_one() -> None:
    row = {"earlier": "abc", "commit": "def", "processor": "P", "speedup": 2.345}
    medians = {"now": {"median": 150.4}, "earlier": {"median": 352.6}}
    rows = [
        {"what": "training step beside an earlier version", "milliseconds": medians, **row},
        {"what": "one stream beside an earlier version", "tokens_per_second": medians, **row},
    ]
    fast = {**rows[0], "bfloat16_gflops": 2, "float32_gflops": 1}
    step, stream, other = cells(table.earlier([*rows, fast]))
    assert step == ["training step", "150 ms", "353 ms", "2.35×", "def, abc", "float32", "P"]
    assert stream[:3] == ["one stream", "150 tokens/s", "353 tokens/s"]
    assert other[-2:] == ["bfloat16", "P"]  # a processor of the same name


def test_every_kind_of_the_file_has_its_table() -> None:
    lines = table.RESULTS.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    tables = table.page(rows).split("\n\n")
    assert len(tables) == len(table.TABLES) + 2
    for each in tables:
        heads, dashes, *rest = each.splitlines()
        assert rest and all(line.count("|") == heads.count("|") for line in (dashes, *rest))


def test_kinds_without_rows_have_none() -> None:
    assert table.page([LOSS]) == f"{table.NOTHING}\n\n{table.losses([LOSS])}"
    assert all(make([]) == "" for make in table.TABLES)
