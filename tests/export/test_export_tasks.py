"""Fine-tuned runs elsewhere: what a task adds to a text is there too, and labels are refused with
the remedy where only texts can be written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

import scriven
from scriven.cli import run as command
from scriven.export import parity_check
from scriven.export.export import export
from scriven.runs.load import load_run
from scriven.tasks.shared.text_generation import TextGeneration

RunOf = Callable[[str], Path]
Tuned = Callable[[str], scriven.Model]

KINDS: dict[str, tuple[str, str]] = {
    "llama-chat": ("bytes", "chat"),
    "gpt2-chat": ("gpt2", "chat"),
    "gpt2-summarize": ("gpt2", "summarize"),
    "pairs-translate": ("transformer", "translate"),
    "pairs-copies": ("transformer", "summarize"),
    "llama-classify": ("bytes", "classify"),
    "gpt1-similarity": ("gpt1", "similarity"),
    "roberta-classify": ("roberta", "classify"),
    "pairs-classify": ("transformer", "classify"),
}
"""name -> (a run of exportable.py, task)"""

pytestmark = pytest.mark.usefixtures("checks_in_this_process")

WORDS = ("king", "lord", "crown", "night", "sea", "fool", "man", "name")


def rows(task: str) -> list[dict[str, Any]]:
    """Forty rows that are easily learned."""
    found: list[dict[str, Any]] = []
    for n in range(40):
        one, other = WORDS[n % 8], WORDS[n * 3 % 8]
        said = [{"role": "user", "content": f"the {one}"}, {"role": "assistant", "content": other}]
        found.append(
            {
                "chat": {"messages": said},
                "translate": {"source": f"the {one}", "target": f"a {one}"},
                "summarize": {"text": f"the {one} and {n}", "summary": f"my {one}"},
                "classify": {"text": f"the {one}", "label": "so so" if n % 8 < 4 else "good 😀"},
                "similarity": {"first": one, "second": other, "score": 1.0 * (n % 8)},
            }[task]
        )
    return found


@pytest.fixture(scope="session")
def tuned(run_of: RunOf, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """name -> a model that was taught a little."""
    made: dict[str, scriven.Model] = {}
    folder = tmp_path_factory.mktemp("tuned")

    def tune(name: str) -> scriven.Model:
        if name not in made:
            base, task = KINDS[name]
            table = folder / f"{name}.jsonl"
            lines = (json.dumps(row, ensure_ascii=False) for row in rows(task))
            table.write_text("\n".join(lines) + "\n", encoding="utf-8")
            made[name] = scriven.finetune(
                run_of(base), table, task=task, out=folder / name, budget="30steps", quiet=True,
                settings={"runtime.dtype": "float32", "optim.lr": 1e-2,
                          "train.eval_interval": 30, "train.sample_seconds": 0,
                          "finetune.bag_of_words": False},
            )  # fmt: skip
        return made[name]

    return tune


FAST = [("llama-chat", "gguf"), ("pairs-translate", "hf"), ("llama-classify", "hf")]
SLOW = [
    ("pairs-translate", "ctranslate2"),
    ("gpt2-chat", "ctranslate2"),
    ("gpt2-chat", "hf"),
    ("gpt2-summarize", "gguf"),
    ("gpt2-summarize", "ctranslate2"),
    ("gpt2-summarize", "onnx"),
    ("llama-chat", "onnx"),
    ("llama-classify", "onnx"),
    ("gpt1-similarity", "hf"),
    ("roberta-classify", "onnx"),
]


@pytest.mark.parametrize(
    ("name", "target"),
    [*FAST, *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)],
)
def test_the_program_computes_the_same(
    tuned: Tuned, tmp_path: Path, name: str, target: str
) -> None:
    model = tuned(name)
    check = export(model.folder, target, dtype="f32", out=tmp_path / "out")["check"]
    assert check["passed"]
    assert check["texts_equal"] == check["texts"] >= 8
    assert check["logit_scale"] > (
        0.05 if model.task.is_generative else 1e-3
    )  # no agreement of zeros
    assert check["logit_difference"] < check["bound"]
    if model.task.is_generative:
        assert check["greedy_tokens"] > 90 and check["unexplained"] == 0
    else:
        assert check["greedy_tokens"] == 0


def test_what_the_task_puts_around_a_text_is_asked_for_too(tuned: Tuned) -> None:
    for name, marks in (
        ("llama-chat", ("turn", "end")),
        ("gpt2-summarize", ("delimiter",)),
        ("llama-classify", ("start", "extract")),
    ):
        model = tuned(name)
        loaded = load_run(model.folder)
        for prompt in parity_check.make_probe(loaded).prompts:
            assert {loaded.tokenizer.special_token_ids[mark] for mark in marks} <= set(prompt), name


def test_a_prompt_without_the_delimiter_would_be_noticed(
    tuned: Tuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted bug: the text alone, as a model in pre-training reads it."""
    model = tuned("gpt2-summarize")
    loaded = load_run(model.folder)
    right = parity_check.make_probe(loaded)
    monkeypatch.setattr(
        TextGeneration, "build_inputs", lambda self, window, written: (None, list(window))
    )
    wrong = parity_check.make_probe(loaded)
    assert wrong.prompts != right.prompts
    first = [
        parity_check.reference_logits(loaded, asked, list(asked.prompts[0]), [])[-1]
        for asked in (right, wrong)
    ]
    assert (first[0] - first[1]).abs().max() > 0.1


def test_the_code_of_the_card_writes_the_same_answers(tuned: Tuned) -> None:
    """A decoder that makes one text of another is asked with the delimiter after the text."""
    model = tuned("gpt2-summarize")
    card = (model.folder / "README.md").read_text(encoding="utf-8")
    assert 'tokenizer(" A text." + "<|delimiter|>"' in card
    theirs = transformers.AutoModelForCausalLM.from_pretrained(model.folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.folder)
    for text in ("the king and 3", "the sea"):
        ids = tokenizer(f" {text}<|delimiter|>", return_tensors="pt")
        made = theirs.generate(**ids, do_sample=False, max_new_tokens=30)
        answer = tokenizer.decode(made[0, ids["input_ids"].size(1) :], skip_special_tokens=True)
        assert answer == model.generate(text, max_new_tokens=30)
        assert answer.strip() == model.predict([text], max_new_tokens=30)[0][0]


REFUSED = [
    ("llama-classify", "gguf", "gives labels or scores: use --to hf or --to onnx"),
    ("llama-classify", "ctranslate2", "gives labels or scores: use --to hf or --to onnx"),
    ("roberta-classify", "hf", "ends a roberta with labels: use --to onnx"),
    ("roberta-classify", "gguf", "gives labels or scores"),
    ("pairs-classify", "onnx", "with labels is two graphs"),
    ("pairs-classify", "hf", "with labels: keep it as it is"),
    ("pairs-copies", "hf", "copies tokens of its source"),
    ("pairs-copies", "ctranslate2", "copies tokens of its source"),
    ("pairs-translate", "gguf", "MarianMTModel"),
    ("pairs-translate", "onnx", "two graphs"),
]


@pytest.mark.parametrize(("name", "target", "reason"), REFUSED)
def test_what_a_target_cannot_express_is_refused_with_the_remedy(
    tuned: Tuned, name: str, target: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tuned(name)
    capsys.readouterr()
    assert command(["export", str(model.folder), "--to", target]) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert reason in line and f"to {target}" in line
    assert said.out == ""
    assert not (model.folder / "exports").exists()


@pytest.mark.slow
def test_a_graph_with_labels_reads_rows_of_several_lengths(tuned: Tuned, tmp_path: Path) -> None:
    """A decoder's rows are padded on the right; the number of the extract token counts."""
    import onnxruntime

    import tokenizers

    model = tuned("llama-classify")
    export(model.folder, "onnx", out=tmp_path / "out")
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    backend = tokenizers.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    texts = ["the king", "the night and the sea", "x"]
    backend.enable_padding(pad_id=model.tokenizer.pad, pad_token=model.tokenizer.pad_token)
    found = backend.encode_batch(texts)
    scores = session.run(None, {"tokens": np.array([each.ids for each in found])})[0]
    for row, each, text in zip(scores, found, texts, strict=True):
        last = row[sum(each.attention_mask) - 1]
        chances = np.exp(last - last.max()) / np.exp(last - last.max()).sum()
        ((label, chance),) = model.predict([text])
        assert model.metadata["finetune"]["labels"][int(chances.argmax())] == label
        assert chances.max() == pytest.approx(chance, abs=1e-5)


@pytest.mark.parametrize("target", ["gguf", "ctranslate2", "onnx", "hf"])
def test_the_card_shows_how_the_task_is_asked(tuned: Tuned, target: str) -> None:
    from scriven import registry

    module = registry.module("scriven.export.targets", target).Target()
    talks = load_run(tuned("gpt2-chat").folder)
    if target in ("ctranslate2", "onnx"):
        assert "<|im_start|>user" in module.usage(talks, "f32")
    rewrites = load_run(tuned("gpt2-summarize").folder)
    assert "A text.<|delimiter|>" in module.usage(rewrites, "f32").replace('" + "', "")
