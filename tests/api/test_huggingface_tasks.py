"""A fine-tuned run with labels is a Hugging Face model for sequence classification: same inputs,
same numbers, same names."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import scriven
from scriven.tokenizers import load_tokenizer

transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")

TEXT = "The quick brown fox jumps over the lazy dog; naïve café, 東京 — 😀.\n" * 60
WORDS = ("quick", "brown", "fox", "lazy", "dog", "café", "東京")

LABELS = ("very good", "schlecht 👎", "so, so")
TRIALS = [
    ("the quick fox", "a lazy dog"),
    ("  two  spaces\nand a line", "東京 unseen: Ω≠ 😀"),
    ("x", "y"),
]
"""Shorter than the context, each of another length."""

RUNS = [
    ("classify", "llama", "char", {}),
    ("entail", "gpt2", "bpe", {}),
    ("similarity", "gpt1", "word", {}),
    ("choice", "llama", "byte", {"model.tie_embeddings": False, "model.kv_heads": 1}),
    ("classify", "gpt2", "word", {}),
    ("entail", "gpt1", "byte", {}),
]

Made = tuple[str, scriven.Model]


def rows(task: str) -> list[dict[str, Any]]:
    """Forty rows that the words decide."""
    found: list[dict[str, Any]] = []
    for n in range(40):
        first = f"{WORDS[n % 7]} {WORDS[n * 3 % 7]} {n}"
        second = f"{WORDS[n * 5 % 7]} {n}"
        label, choices = LABELS[n % 7 % 3], ["no", f"not {n}", "perhaps not"]
        choices[n % 3] = "yes"
        found.append(
            {
                "classify": {"text": first, "label": label},
                "entail": {"premise": first, "hypothesis": second, "label": label},
                "similarity": {"first": first, "second": second, "score": 1 + n % 7 % 3},
                "choice": {"context": first, "choices": choices, "answer": n % 3},
            }[task]
        )
    return found


@pytest.fixture(scope="module", params=RUNS, ids=lambda run: "-".join(run[:3]))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A task, and a model that was taught a little of it."""
    task, arch, kind, changes = request.param
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    lines = (json.dumps(row, ensure_ascii=False) for row in rows(task))
    (folder / "table.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = {
        "tokenizer.kind": kind,
        "model.layers": 2,
        "model.d_model": 32,
        "model.heads": 2,
        "model.context_length": 64,
        "runtime.dtype": "float32",
        "train.sample_seconds": 0,
        **changes,
    }
    if kind in ("bpe", "word"):
        settings["tokenizer.vocab_size"] = 300
    base = scriven.train(
        folder / "text.txt", out=folder / "base", arch=arch, budget="2steps",
        settings=settings, quiet=True,
    )  # fmt: skip
    tuned = scriven.finetune(
        base.folder, folder / "table.jsonl", task=task, out=folder / "tuned", budget="60steps",
        quiet=True,
        settings={"runtime.dtype": "float32", "optim.lr": 1e-2, "train.sample_seconds": 0,
                  "train.eval_interval": 20, "finetune.bag_of_words": False},
    )  # fmt: skip
    return task, tuned


def parts(task: str, pair: tuple[str, str]) -> tuple[str, ...]:
    """What transformers' tokenizer is given."""
    return pair[:1] if task == "classify" else pair


def test_the_tokenizer_frames_inputs_as_the_task_does(made: Made) -> None:
    task, model = made
    theirs = transformers.AutoTokenizer.from_pretrained(model.folder)
    for pair in TRIALS:
        asked = parts(task, pair)
        ids, cut = model.task.encode_parts(model.tokenizer, *asked)
        assert not cut
        assert theirs(*asked)["input_ids"] == ids
        assert (
            model.tokenizer.encode(asked[0]) == ids[1 : 1 + len(model.tokenizer.encode(asked[0]))]
        )
        assert theirs(asked[0], add_special_tokens=False)["input_ids"] == model.tokenizer.encode(
            asked[0]
        )
    read = load_tokenizer(model.folder)
    assert (
        read.fingerprint
        == model.tokenizer.fingerprint
        == model.metadata["tokenizer"]["fingerprint"]
    )


def test_from_pretrained_gives_the_same_logits(made: Made) -> None:
    task, model = made
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(model.folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.folder)
    asked = [parts(task, pair) for pair in TRIALS]
    batch = tokenizer(*(list(side) for side in zip(*asked, strict=True)), padding=True,
                      return_tensors="pt")  # fmt: skip
    framed = [model.task.encode_parts(model.tokenizer, *each)[0] for each in asked]
    with torch.no_grad():
        found = theirs(**batch).logits
        ours = torch.stack(
            [model.task.head(model.task.backbone(torch.tensor([ids]))[0, -1]) for ids in framed]
        )
    assert (found - ours).abs().max() < 1e-5
    assert ours.std() > 1e-2  # not the agreement of zeros


def test_predictions_follow_from_the_logits(made: Made) -> None:
    task, model = made
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(model.folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.folder)

    def logits(*asked: str) -> torch.Tensor:
        with torch.no_grad():
            return theirs(**tokenizer(*asked, return_tensors="pt")).logits[0]

    for first, second in TRIALS:
        if task == "similarity":  # both orders
            facts = model.metadata["finetune"]
            score = float(logits(first, second) + logits(second, first))
            score = score * facts["spread"] + facts["mean"]
            ((said, _),) = model.predict([(first, second)])
            assert float(said) == pytest.approx(
                min(max(score, facts["low"]), facts["high"]), abs=1e-3
            )
        elif task == "choice":
            choices = [second, "no", "yes"]
            chances = torch.cat([logits(first, each) for each in choices]).softmax(0)
            ((said, chance),) = model.predict([{"context": first, "choices": choices}])
            assert said == choices[int(chances.argmax())]
            assert chance == pytest.approx(float(chances.max()), abs=1e-5)


def test_the_pipeline_gives_the_same_label_and_probability(made: Made) -> None:
    task, model = made
    if task in ("similarity", "choice"):
        return  # one number for each row; the test above
    ask = transformers.pipeline("text-classification", model=str(model.folder), device="cpu")
    for pair in TRIALS:
        asked = parts(task, pair)
        given = asked[0] if task == "classify" else {"text": asked[0], "text_pair": asked[1]}
        said = ask(given)
        said = said[0] if isinstance(said, list) else said
        ((label, chance),) = model.predict([asked])
        assert said["label"] == label and label in LABELS
        assert said["score"] == pytest.approx(chance, abs=1e-5)
    every = ask(TRIALS[0][0], top_k=None) if task == "classify" else []
    assert {each["label"] for each in every} in (set(), set(LABELS))


def test_label_names_are_kept_with_spaces_and_emoji(made: Made) -> None:
    task, model = made
    shape = json.loads((model.folder / "config.json").read_text(encoding="utf-8"))
    names = [shape["id2label"][str(n)] for n in range(len(shape["id2label"]))]
    wanted = ["SCORE"] if task in ("similarity", "choice") else sorted(LABELS)
    assert names == wanted
    assert shape["label2id"] == {name: n for n, name in enumerate(wanted)}


def test_the_frame_leaves_with_the_labels(made: Made) -> None:
    """A chat taught to a model that had labels before is asked without start and extract."""
    _, model = made
    talks = model.tokenizer.with_special_tokens("turn", "end")
    assert talks.backend.encode("the fox").ids == talks.encode("the fox")
    assert talks.with_special_tokens("turn", "end") is talks
    again = talks.with_special_tokens("start", "delimiter", "extract")
    assert again.backend.encode("fox").ids != again.encode("fox")


def test_a_folder_says_how_it_is_used(made: Made) -> None:
    task, model = made
    card = (Path(model.folder) / "README.md").read_text(encoding="utf-8")
    asked = {"similarity": "AutoModelForSequenceClassification", "choice": "choices["}
    assert asked.get(task, 'pipeline("text-classification", model=".")') in card
