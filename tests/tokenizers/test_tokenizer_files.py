"""Saved tokenizers load again, here and in transformers; changed ones are refused."""

import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scriven.errors import DamagedError, InputError, ScrivenError, SettingError
from scriven.settings import TokenizerSettings
from scriven.tokenizers import Tokenizer, choose_kind, load_tokenizer, train_tokenizer

ORDINARY = "It's a text,  with 1234 words.\n\n\tÜber 你好 <0x41> 😀 ."


def test_saving_and_loading_changes_nothing(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    for name in ("kind", "pattern", "vocab_size", "eos", "pad", "fingerprint"):
        assert getattr(again, name) == getattr(tokenizer, name)
    assert again.encode(ORDINARY) == tokenizer.encode(ORDINARY)


def test_transformers_gives_the_same_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra `hf` is not installed")
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = theirs(ORDINARY)["input_ids"]
    assert ids == tokenizer.encode(ORDINARY)
    assert theirs.decode(ids) == ORDINARY
    assert (theirs.eos_token_id, theirs.pad_token_id) == (tokenizer.eos, tokenizer.pad)
    assert len(theirs) == tokenizer.vocab_size


@pytest.mark.parametrize("pattern", ["llama3", "gpt2", "qwen2"])
def test_the_pattern_is_read_from_the_file(pattern: Any, tmp_path: Path) -> None:
    settings = TokenizerSettings(vocab_size=300, pattern=pattern)
    train_tokenizer("bpe", iter(["some words, some words"]), settings).save(tmp_path)
    assert load_tokenizer(tmp_path).pattern == pattern
    assert pattern in (tmp_path / "tokenizer_config.json").read_text(encoding="utf-8")


def _outside(plain: dict[str, Any]) -> None:
    token = next(iter(plain["model"]["vocab"]))
    plain["model"]["vocab"][token] = 10**6


def _twice(plain: dict[str, Any]) -> None:
    plain["model"]["vocab"]["new"] = 0


def _other_model(plain: dict[str, Any]) -> None:
    plain["model"]["type"] = "Unigram"


def _other_regex(plain: dict[str, Any]) -> None:
    plain["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"Regex": "(a+)+$"},
        "behavior": "Isolated",
        "invert": False,
    }


def _normalizer(plain: dict[str, Any]) -> None:
    plain["normalizer"] = {"type": "Lowercase"}


def _negative(plain: dict[str, Any]) -> None:
    plain["added_tokens"][0]["id"] = -1


def _no_vocabulary(plain: dict[str, Any]) -> None:
    plain["model"]["vocab"] = ["a", "b"]


CHANGES = [_outside, _twice, _other_model, _other_regex, _normalizer, _negative, _no_vocabulary]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_tokenizer_is_refused(
    tokenizer: Tokenizer, change: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    plain = json.loads(path.read_text(encoding="utf-8"))
    change(plain)
    path.write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises((InputError, DamagedError), match=r"tokenizer\.json") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", "{}", "{" * 5000, '{"model": 3}', "\x00"])
def test_files_that_are_no_tokenizer_are_refused(
    tokenizers: dict[str, Tokenizer], content: str, tmp_path: Path
) -> None:
    tokenizers["bpe"].save(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises((InputError, DamagedError)):
        load_tokenizer(tmp_path)


def test_damage_anywhere_ends_in_one_line(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    whole = path.read_bytes()
    chance = random.Random(1)
    for _ in range(60):
        at = chance.randrange(len(whole))
        damaged = whole[:at] if chance.random() < 0.5 else whole[:at] + b"\x07" + whole[at + 1 :]
        path.write_bytes(damaged)
        with contextlib.suppress(ScrivenError):  # any other error is a failure
            load_tokenizer(tmp_path)


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing"):
        load_tokenizer(tmp_path)


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(SettingError, match=r"--tokenizer\.vocab_size=257"):
        train_tokenizer("bpe", iter(["a"]), TokenizerSettings(vocab_size=257))
    with pytest.raises(InputError, match="did you mean char"):
        train_tokenizer("chars", iter(["a"]), TokenizerSettings())


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_training_is_repeatable_and_keeps_to_its_size(kind: str, shared_data: Path) -> None:
    text = (shared_data / "tinyshakespeare.txt").read_text(encoding="utf-8")[:200_000]
    settings = TokenizerSettings(vocab_size=600)
    made = [train_tokenizer(kind, iter([text]), settings) for _ in range(2)]
    assert made[0].fingerprint == made[1].fingerprint
    assert made[0].vocab_size == 600
    assert len(made[0].encode(text)) < 0.65 * len(text)


def test_the_choice_goes_by_the_size_of_the_text() -> None:
    assert choose_kind(1_115_394, 65)[0] == "char"
    assert choose_kind(1_115_394, 513)[:2] == ("bpe", 1024)
    # rows of a table depend on words, one long text does not
    assert choose_kind(200_000, 65, documents=2_000)[:2] == ("bpe", 1024)
    assert choose_kind(1_000_000, 65, documents=600)[0] == "char"
    assert choose_kind(20_000, 65, documents=400)[0] == "char"
    sizes = [2e6, 5e6, 20e6, 100e6, 1e9, 9e9]
    found = [choose_kind(int(size), 100)[:2] for size in sizes]
    assert found == [("bpe", 1024 * 2**step) for step in range(6)]
    assert all(choose_kind(int(size), 100)[2] for size in sizes)
