"""Gaps are filled, the surest first or from left to right, in texts of any length."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scriven.errors import InputError
from scriven.generate.fill_mask import fill_mask, show_predictions
from scriven.generate.sampling import SamplingParams
from scriven.models import roberta
from scriven.runs.load import load_run
from scriven.settings import TokenizerSettings
from scriven.tasks.masked import Masked
from scriven.tokenizers import bpe, char
from scriven.tokenizers.base import Tokenizer

WORDS = "to be or not to be that is the question whether it is nobler in the mind to suffer "


@pytest.fixture(scope="module")
def letters() -> Tokenizer:
    return char.train(["abcdefgh \n"], TokenizerSettings(kind="char")).with_special_tokens("mask")


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    settings = TokenizerSettings(kind="bpe", vocab_size=330)
    return bpe.train([WORDS * 20], settings).with_special_tokens("mask")


class Book(nn.Module):
    """Stands in for a backbone: the hidden state is what it was given, and how often."""

    def __init__(self, context: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(context_length=context)
        self.embed = SimpleNamespace(token=nn.Embedding(1, 1))
        self.seen: list[list[int]] = []

    def forward(self, tokens: Tensor) -> Tensor:
        self.seen.append(tokens[0].tolist())
        return tokens


class Speller(nn.Module):
    """A task that is the surer of the letter after its left neighbour, the further right it is."""

    def __init__(self, tokenizer: Tokenizer, context: int = 100) -> None:
        super().__init__()
        self.backbone = Book(context)
        self.tokenizer = tokenizer

    def logits(self, hidden: Tensor) -> Tensor:
        read = self.backbone.seen[-1]
        places = [i for i, id in enumerate(read) if id == self.tokenizer.mask]
        assert hidden.tolist() == [[self.tokenizer.mask] * len(places)]
        scores = torch.ones(1, len(places), self.tokenizer.vocab_size + 3)
        for row, place in enumerate(places):
            scores[0, row, (read[place - 1] + 1) % self.tokenizer.vocab_size] = 2.0 + place
        scores[..., self.tokenizer.vocab_size :] = 1e4  # rows that stand for no token
        scores[..., self.tokenizer.mask] = 1e4
        scores[..., self.tokenizer.eos] = 1e4
        return scores


def real(tokenizer: Tokenizer, context: int = 16) -> Masked:
    torch.manual_seed(0)
    shape = roberta.Config(tokenizer.vocab_size, context, layers=2, heads=2, d_model=16)
    task = Masked(roberta.Model(shape), special=tokenizer.special_token_ids)
    with torch.no_grad():
        for weight in task.parameters():
            weight.normal_(0, 1)
    return task.double().eval()


def test_a_gap_becomes_one_token_and_the_rest_stays(letters: Tokenizer) -> None:
    text, guesses = fill_mask(Speller(letters), letters, "bad <mask>ab\n<mask>")
    assert text.startswith("bad ")
    assert text[5:8] == "ab\n"
    assert len(text) == 9
    assert [guess.text for guess in guesses] == [text[4], text[8]]


def test_the_surest_gap_comes_first_and_is_read_by_the_next(letters: Tokenizer) -> None:
    task = Speller(letters)
    text, guesses = fill_mask(task, letters, "a<mask><mask>")
    read = [[letters.decode([id]) or "_" for id in row] for row in task.backbone.seen]
    assert read[0] == ["a", "_", "_"]
    assert read[1][1] == "_"  # the second gap, further right, was filled first
    assert read[1][2] != "_"
    assert text[1] == "b"
    assert guesses[0].text == "b"


def test_drawing_goes_from_left_to_right(letters: Tokenizer) -> None:
    task = Speller(letters)
    fill_mask(task, letters, "a<mask><mask><mask>", SamplingParams(temperature=1))
    gaps = [row.count(letters.mask) for row in task.backbone.seen]
    assert gaps == [3, 2, 1]
    assert [row.index(letters.mask) for row in task.backbone.seen] == [1, 2, 3]


def test_only_text_is_filled_in(letters: Tokenizer) -> None:
    """The mask, the end of a document and rows beyond the tokenizer have the highest scores."""
    for seed in range(30):
        _, guesses = fill_mask(Speller(letters), letters, "a<mask>", SamplingParams(), seed)
        assert guesses[0].text
        assert math.isfinite(guesses[0].probability)


def test_probabilities_are_those_of_the_model(letters: Tokenizer) -> None:
    _, (guess,) = fill_mask(Speller(letters), letters, "a<mask>")
    plain = letters.vocab_size - len(letters.special)
    wanted = math.exp(2) / (math.exp(2) + plain - 1)
    assert guess.probability == pytest.approx(wanted)
    assert guess.likeliest[0] == ("b", pytest.approx(wanted))
    assert len(guess.likeliest) == 5


def test_the_same_seed_draws_the_same_text(letters: Tokenizer) -> None:
    task, text = real(letters), "ab<mask>c<mask><mask>"
    bold = SamplingParams(temperature=20)  # weights so large leave little to chance
    first = fill_mask(task, letters, text, bold, 3)
    assert fill_mask(task, letters, text, bold, 3) == first
    assert len({fill_mask(task, letters, text, bold, seed)[0] for seed in range(20)}) > 5


def test_the_repetition_penalty_sees_the_text(letters: Tokenizer) -> None:
    task = Speller(letters)
    assert fill_mask(task, letters, "ba<mask>", SamplingParams(temperature=0))[0] == "bab"
    strict = SamplingParams(temperature=0, repetition_penalty=1000)
    assert fill_mask(task, letters, "ba<mask>", strict)[0] != "bab"


def test_a_text_longer_than_the_context_is_read_in_windows(letters: Tokenizer) -> None:
    task = Speller(letters, context=8)
    text = "a" * 30 + "<mask>" + "a" * 5 + "<mask>" + "a" * 30 + "<mask>"
    filled, guesses = fill_mask(task, letters, text)
    assert filled == "a" * 30 + "b" + "a" * 5 + "b" + "a" * 30 + "b"
    assert all(len(row) == 8 for row in task.backbone.seen)
    assert len(guesses) == 3
    # a gap in the middle of the text is seen from both sides
    first = task.backbone.seen[0]
    assert first.index(letters.mask) == 4


def test_where_tokens_bring_their_space_the_gap_does_too(words: Tokenizer) -> None:
    task = real(words)
    with torch.no_grad():
        task.head.bias[words.encode(" be")[0]] = 1e6
    assert words.encode(" be")[1:] == []
    assert fill_mask(task, words, "to <mask> or not")[0] == "to be or not"


def test_a_prompt_without_a_gap_is_refused_in_one_line(letters: Tokenizer) -> None:
    for text in ("", "abc", "a mask"):
        with pytest.raises(InputError, match="write <mask>") as caught:
            fill_mask(real(letters), letters, text)
        assert "\n" not in str(caught.value)


def test_a_model_in_training_stays_in_training(letters: Tokenizer) -> None:
    task = real(letters).train()
    fill_mask(task, letters, "a<mask>")
    assert task.training


def test_a_sample_shows_the_text_with_guesses_in_brackets(words: Tokenizer) -> None:
    task, ids = real(words, 64), words.encode(WORDS)
    shown = show_predictions(task, words, ids, 1)
    assert shown == show_predictions(task, words, ids, 1)
    assert shown != show_predictions(task, words, ids, 2)
    assert 1 <= shown.count("[") <= max(1, round(0.2 * len(ids)))
    with torch.no_grad():
        task.head.bias[words.encode(" be")[0]] = 1e6
    sure = show_predictions(task, words, ids, 1)
    assert " [be]" in sure or "[be be" in sure
    assert show_predictions(task, words, [], 1) == ""


def test_a_run_folder_fills_masks_in_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way: train, save, and transformers' own fill-mask on the folder as it stands."""
    transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")
    from scriven.cli import run

    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text(WORDS * 40, encoding="utf-8")
    train = ["train", "book.txt", "--arch", "roberta", "--budget", "30steps", "--size", "tiny"]
    dials = ["--tokenizer.kind", "bpe", "--tokenizer.vocab_size", "330", "--out", "run", "--quiet"]
    assert run([*train, *dials]) == 0
    loaded = load_run(Path("run"))
    theirs: Any = transformers.pipeline("fill-mask", model="run", tokenizer="run", top_k=5)
    for text in ("to be or <mask> to be", "<mask> is the question", "the mind to\nsuffer<mask>"):
        answers = theirs(text)
        filled, (guess,) = fill_mask(loaded.task, loaded.tokenizer, text)
        assert [answer["token_str"] for answer in answers] == [name for name, _ in guess.likeliest]
        shares = [answer["score"] for answer in answers]
        # ours are shares among the tokens that are text
        ratios = [share / own for share, (_, own) in zip(shares, guess.likeliest, strict=True)]
        assert max(ratios) / min(ratios) == pytest.approx(1, abs=1e-4)
        assert 0.9 < ratios[0] <= 1 + 1e-6
        assert answers[0]["sequence"].split() == filled.split()


@pytest.mark.parametrize("seed", [-1, 2**63, 1 << 200])
def test_an_absurd_seed_is_refused_in_one_line(letters: Tokenizer, seed: int) -> None:
    with pytest.raises(InputError, match="seed"):
        fill_mask(Speller(letters), letters, "a<mask>b", seed=seed)
