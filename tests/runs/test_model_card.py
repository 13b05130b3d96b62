"""The model card: true, complete, without anybody's paths, and understood by Hugging Face."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from scriven import config, registry
from scriven.models.base import BASES
from scriven.runs.huggingface import hf_files, save_pretrained, save_pretrained_files
from scriven.runs.model_card import MAX_SOURCES, model_card, read_loss_curve
from scriven.runs.weights import to_hf_weights
from scriven.settings import TokenizerSettings
from scriven.tokenizers import Tokenizer, train_tokenizer

from .saves import verify_pretrained

SHAPE = {"architectures": ["Qwen3ForCausalLM"]}
CURVE = [(step, 4.0 - step / 100) for step in range(0, 250, 10)]

RECORD: dict[str, Any] = {
    "name": "book", "architecture": "llama", "task": "language",
    "model": {"layers": 4, "heads": 4, "d_model": 128, "context_length": 256, "kv_heads": None},
    "tokenizer": {"kind": "char", "vocab_size": 321},
    "data": {
        "fingerprint": "ab12" * 16, "sources": ["/home/anna/private/book.txt", "C:\\me\\b.md"],
        "characters": 1115394, "documents": 1, "train_tokens": 1003854,
        "validation_tokens": 111540,
    },
    "results": {
        "measure": "next token", "val_loss": 1.4567, "val_bits_per_byte": 2.1012,
        "val_perplexity": 4.2917,
        "val_accuracy": 0.5612, "parameters": 812345, "ngram_loss": 1.669, "ngram_order": 5,
        "steps": 2000, "tokens": 4096000, "seconds": 300.2,
    },
}  # fmt: skip


def tokens(mask: bool) -> Tokenizer:
    made = train_tokenizer("byte", iter(["a b"]), TokenizerSettings(kind="byte"))
    return made.with_special_tokens("mask") if mask else made


def test_a_finished_run_says_what_it_is_and_how_good() -> None:
    card = model_card(RECORD, SHAPE, CURVE)
    for words in (
        "# book", "`llama`", "`Qwen3ForCausalLM`", "812,345", "char, 321 tokens", "1,115,394",
        "ab12" * 16, "1.4567 nats per token", "2.1012", "56.12%", "counting 5-grams | 1.6690",
        "| 0 | 4.000 |", "| 240 | 1.600 |", "AutoModelForCausalLM", "scriven generate",
    ):  # fmt: skip
        assert words in card, words
    assert len(re.findall(r"^\| [\d,]+ \| \d\.\d{3} \|$", card, re.M)) == 10
    assert "no better than counting" not in card


def test_it_names_texts_but_not_where_they_lay() -> None:
    card = model_card(RECORD, SHAPE)
    assert "`book.txt`, `b.md`" in card
    assert not re.search(r"anna|private|home|C:|me\\", card)


def test_no_licence_is_made_up() -> None:
    front = model_card(RECORD, SHAPE).split("---")[1]
    assert "license" not in front
    assert "No licence is given" in model_card(RECORD, SHAPE)


def test_a_loss_says_what_it_is_about() -> None:
    results = {**RECORD["results"], "measure": "hidden token"}
    card = model_card({**RECORD, "task": "masked", "results": results}, SHAPE)
    assert "1.4567 nats per hidden token" in card


def test_a_model_worse_than_counting_says_so() -> None:
    worse = {**RECORD, "results": {**RECORD["results"], "val_loss": 1.7}}
    assert "no better than counting" in model_card(worse, SHAPE)


def test_of_many_sources_the_first_are_named_and_the_others_counted() -> None:
    for count in (MAX_SOURCES, MAX_SOURCES + 3):
        names = [f"part{number}.txt" for number in range(count)]
        card = model_card({**RECORD, "data": {**RECORD["data"], "sources": names}}, SHAPE)
        assert sum(name in card for name in names) == MAX_SOURCES
        assert ("and 3 more" in card) == (count > MAX_SOURCES)
        assert "and 0 more" not in card


def test_an_unfinished_run_claims_nothing() -> None:
    card = model_card({**RECORD, "results": None}, SHAPE, CURVE)
    assert "not finished" in card
    assert "nats" not in card and "accuracy" not in card


def test_without_a_twin_it_says_that_only_scriven_reads_it() -> None:
    card = model_card({**RECORD, "architecture": "rnn"}, {"model_type": "scriven-rnn"})
    assert "library_name: scriven" in card
    assert "no counterpart in transformers" in card
    assert "from_pretrained" not in card
    own = model_card({**RECORD, "architecture": "mine"}, {"model_type": "scriven-mine"})
    assert "--arch mine.py" in own


def test_names_cannot_break_out_of_their_place() -> None:
    hostile = "a`|\n---\nlicense: mit\n# <script>![x](http://e.example/x.png)"
    record = {
        **RECORD, "name": hostile, "architecture": hostile, "task": hostile,
        "data": {**RECORD["data"], "sources": [hostile.replace("/", "")]},
    }  # fmt: skip
    card = model_card(record, SHAPE)
    assert card.count("\n---\n") == 1  # only the end of the front matter
    body = re.sub(r"`[^`]*`", "", card.split("\n---\n")[1])  # inside code marks all is text
    assert not re.search(r"^license|[^\\]<script|[^\\]!\[", body, re.M)
    for line in card.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 3, line


@pytest.mark.parametrize(
    ("task", "tag"),
    [("language", "text-generation"), ("masked", "fill-mask"), ("seq2seq", "text2text-generation")],
)
def test_hugging_face_understands_the_front_matter(task: str, tag: str) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="the hf extra is not installed")
    found = hub.ModelCard(model_card({**RECORD, "task": task}, SHAPE)).data.to_dict()
    assert found["pipeline_tag"] == tag
    assert found["library_name"] == "transformers"
    assert found["tags"] == ["scriven", "llama", "trained-from-scratch"]


@pytest.mark.parametrize("name", registry.names("scriven.models", BASES))
def test_every_architecture_is_described(name: str, tmp_path: Path) -> None:
    module = registry.module("scriven.models", name)
    task = registry.module("scriven.tasks", module.Model.pretraining_task).Task
    words = tokens("mask" in task.EXTRA_TOKENS)
    model = config.replace(module.Config(), {"vocab_size": words.vocab_size}, "model")
    record = {"architecture": name, "task": module.Model.pretraining_task}
    files = hf_files(module, model, "run", words, record)
    described = json.loads(files["config.json"])
    card = files["README.md"].decode()
    twin = module.Model.to_hf_config(model)
    if twin is None:
        assert "architectures" not in described
        assert described["vocab_size"] == words.vocab_size
        assert "library_name: scriven" in card
    else:
        assert described["architectures"] == twin["architectures"]
        assert twin["architectures"][0] in card


@pytest.mark.parametrize("name", ["gpt2", "llama", "roberta", "transformer"])
def test_the_code_on_the_card_loads_the_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", reason="the hf extra is not installed")
    module = registry.module("scriven.models", name)
    task = registry.module("scriven.tasks", module.Model.pretraining_task).Task
    words = tokens("mask" in task.EXTRA_TOKENS)
    fields = {
        "vocab_size": words.vocab_size,
        "layers": 1,
        "d_model": 16,
        "heads": 2,
        "context_length": 16,
    }
    model = config.replace(module.Config(), fields, "model")
    built = task(module.Model(model), special=words.special_token_ids)
    built.init_weights()
    record = {"architecture": name, "task": module.Model.pretraining_task}
    files = hf_files(module, model, "run", words, record)
    save_pretrained(tmp_path, files, to_hf_weights(module, model, dict(built.state_dict())))
    code = re.findall(r"```python\n(.*?)```", files["README.md"].decode(), re.S)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code[0], names)
    assert type(names["model"]).__name__ == module.Model.to_hf_config(model)["architectures"][0]
    assert len(names["tokenizer"]) == words.vocab_size


def test_the_end_of_a_run_replaces_the_card(tmp_path: Path) -> None:
    module, words = registry.module("scriven.models", "llama"), tokens(False)
    model = config.replace(module.Config(), {"vocab_size": words.vocab_size}, "model")
    task = registry.module("scriven.tasks", "language").Task(module.Model(model))
    started = hf_files(module, model, "book", words, {**RECORD, "results": None})
    save_pretrained(tmp_path, started, to_hf_weights(module, model, dict(task.state_dict())))
    finished = hf_files(module, model, "book", words, RECORD, CURVE)
    save_pretrained_files(tmp_path, finished)
    assert verify_pretrained(tmp_path) == []
    assert "1.4567" in (tmp_path / "README.md").read_text()


def test_the_curve_is_read_from_a_log_with_broken_lines(tmp_path: Path) -> None:
    lines = [
        '{"event": "evaluation", "step": 10, "loss": 3.5}',
        '{"event": "step", "step": 11, "loss": 9.0}',
        '{"event": "evaluation", "step": 5, "loss": 4.0}',
        '{"event": "evaluation", "step": 10, "loss": 3.25}',
        '{"event": "evaluation", "step": 20, "loss": NaN}',
        '{"event": "evaluation", "step": "x", "loss": 1}',
        '{"event": "evaluation", "st',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert read_loss_curve(tmp_path) == [(5, 4.0), (10, 3.25)]
    assert read_loss_curve(tmp_path / "nowhere") == []
