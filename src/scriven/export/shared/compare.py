"""Whether two programs compute the same: token ids, logits and greedy text, as figures.

Knows no format and no runtime; gets what was asked, what came back, and the run itself.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...generate.engine import Engine
from ...generate.sampling_params import SamplingParams
from ...runs.load import Loaded
from ...tasks.shared.classification import SequenceClassification
from ...tasks.shared.text_generation import TextGeneration
from ...tokenizers import Tokenizer
from ..base import ParityProbe, ProbeAnswer, asked_as

TOKENS = 64
"""Written after each prompt, where the context has room for them."""
LONGEST = 512
"""Tokens of the longest prompt, so that a check of a long context ends."""
VOCABULARY = 4096
"""Tokens whose own texts are encoded again."""
IMPOSSIBLE = -80.0
"""Below this logarithm a probability has no digits left in 32 bits, so all such are the same."""
LOWEST = -1e30
"""No model computes such a logit."""

TEXTS = (
    "The quick brown fox jumps over the lazy dog, doesn't it? I'LL SAY: 'tis so!",
    "naïve café, Straße, Ελλάδα, Привет, 東京, नमस्ते, e\u0301 — “quoted” … 😀👩‍👩‍👧",
    "a line\nanother\r\n\n\n  two spaces\t\ttabs \n ends with spaces   ",
    "<|endoftext|> <|pad|> <s> </s> [INST] <0x41> <|im_start|>user",
    "0 12 345 6789 3.14159 1,000,000 x2y3 2nd",
    "  leading, trailing  ",
    "def f(x):\n    return x**2  # comment\n",
)


@dataclass(frozen=True)
class Comparison:
    """The figures of one check."""

    runtime: str
    texts: int
    texts_equal: int
    first_unequal: str | None
    logit_difference: float
    """The largest one."""
    logit_scale: float
    """Standard deviation of the run's own logits."""
    bound: float | None
    """What the difference must stay below; None for quantised weights."""
    greedy_tokens: int
    greedy_equal: int
    unexplained: int
    """Unequal greedy tokens that the difference of the logits does not explain."""

    @property
    def problem(self) -> str | None:
        """What is wrong, in words; None if nothing is."""
        if self.texts_equal < self.texts:
            return f"it encodes {self.first_unequal!r} otherwise"
        if not math.isfinite(self.logit_difference):
            return "its logits are not all numbers"
        if self.bound is None:
            return None
        if self.logit_difference > self.bound:
            return f"its logits differ by {self.logit_difference:.3g}, at most {self.bound:.3g} may"
        if self.unexplained:
            return f"{self.unexplained} of its greedy tokens are others, far from any tie"
        return None

    def rows(self) -> list[tuple[str, str]]:
        """The table for a person."""
        limit = "quantised: no bound" if self.bound is None else f"at most {self.bound:.2g} may be"
        rows = [
            ("checked in", self.runtime),
            ("token ids", f"{self.texts_equal} of {self.texts} texts equal"),
            (
                "logits",
                f"largest difference {self.logit_difference:.2g} ({limit}), "
                f"spread {self.logit_scale:.2g}",
            ),
        ]
        if self.greedy_tokens:
            text = f"{self.greedy_equal} of {self.greedy_tokens} tokens equal"
            if self.greedy_equal < self.greedy_tokens:
                others = (
                    "the others near-ties"
                    if not self.unexplained
                    else f"{self.unexplained} of the others far from a tie"
                )
                text += f" ({self.greedy_equal / self.greedy_tokens:.1%}), {others}"
            rows.append(("greedy text", text))
        return rows

    def figures(self) -> dict[str, Any]:
        """The same for a program."""
        return {**vars(self), "passed": self.problem is None}


def make_question(loaded: Loaded) -> ParityProbe:
    """Texts of every sort, and prompts that the model itself has written.

    A model is judged where it is sure of itself: on its own kind of text a greedy choice is no
    toss of a coin. One prompt is short, one longer, one fills the context but for what is written.
    """
    tokenizer, asked = loaded.tokenizer, asked_as(loaded)
    assert asked is not None
    context = min(loaded.task.backbone.config.context_length, LONGEST + TOKENS)
    room = min(TOKENS, max(1, context // 2))
    lengths = [min(length, context - room - 1) for length in (8, 24, context)]
    written = _write(loaded, max(lengths)) if loaded.task.is_generative else list(TEXTS[:3])
    prompts = []
    for text, length in zip(written, lengths, strict=True):
        ids = _put(loaded, text, length, max(lengths))
        if asked == "seq2seq" and tokenizer.mask is not None:  # a source that breaks off
            ids = [*ids, tokenizer.mask]
        prompts.append(ids)
    return ParityProbe(
        texts=[*TEXTS, *written, _vocabulary(tokenizer)],
        prompts=prompts,
        counts=[room if loaded.task.is_generative else 0] * len(prompts),
        never=sorted(loaded.task.stop_token_ids) if loaded.task.is_generative else [],
        pad=tokenizer.pad,
        task=asked,
    )


def compare(
    loaded: Loaded, probe: ParityProbe, answer: ProbeAnswer, runtime: str, share: float | None
) -> Comparison:
    """Both sides, side by side.

    The run reads the program's own continuation, so each of its tokens is judged after equal
    beginnings; when all are the run's choice too, the two greedy texts are the same.

    Args:
        share: of the spread of the logits that a difference may have; None for no bound.
    """
    difference, total, equal, unexplained = 0.0, 0, 0, []
    spreads, scores = [], []
    for prompt, tokens, theirs in zip(probe.prompts, answer.tokens, answer.logits, strict=True):
        ours = read(loaded, probe, list(prompt), list(tokens))
        if probe.task == "labels":
            scores.append(ours)
        spreads.append(float(ours.std(correction=0)))
        other = torch.from_numpy(theirs)
        # some programs forbid a token by writing the lowest number over its logit
        for token in probe.never:
            forbidden = other[:, token] < LOWEST
            other[forbidden, token] = ours[forbidden, token]
        reference = ours
        if answer.normalised:
            reference = ours.log_softmax(-1).clamp(min=IMPOSSIBLE)
            other = other.clamp(min=IMPOSSIBLE)
        difference = max(
            difference, float((reference - other).abs().nan_to_num(torch.inf, torch.inf).max())
        )
        if tokens:
            ours[:, list(probe.never)] = -torch.inf
            chosen = ours.gather(1, torch.tensor(tokens)[:, None])[:, 0]
            gaps = ours.max(1).values - chosen
            total += len(tokens)
            equal += int((gaps == 0).sum())
            unexplained.append(gaps)
    gaps = torch.cat(unexplained) if unexplained else torch.zeros(0)
    unequal = [
        text
        for text, ids in zip(probe.texts, answer.ids, strict=True)
        if list(ids) != loaded.tokenizer.encode(text)
    ]
    scale = sum(spreads) / len(spreads)
    if probe.task == "labels":  # there may be one number for each prompt
        scale = float(torch.cat(scores).std(correction=0))
    return Comparison(
        runtime=runtime,
        texts=len(probe.texts),
        texts_equal=len(probe.texts) - len(unequal),
        first_unequal=unequal[0][:60] if unequal else None,
        logit_difference=difference,
        logit_scale=scale,
        bound=None if share is None else share * scale,
        greedy_tokens=total,
        greedy_equal=equal,
        # a tie may be broken either way when each of the two is off by the largest difference
        unexplained=int((gaps > 2 * difference).sum()),
    )


@torch.no_grad()
def read(loaded: Loaded, probe: ParityProbe, prompt: list[int], tokens: list[int]) -> Tensor:
    """The run's logits before each of `tokens`, (tokens, V); of the prompt where there are none."""
    task = loaded.task
    if probe.task == "seq2seq":
        decoder = torch.tensor([[probe.pad, *tokens][:-1]])
        source = torch.tensor([prompt])
        hidden = task.backbone(decoder, source=source)
        return task.logits(hidden)[0].float()
    row = torch.tensor([[*prompt, *tokens]])
    if probe.task == "labels":
        return task.head(task.backbone(row)[:, -1]).float()  # type: ignore[no-any-return]
    logits = task.logits(task.backbone(row))[0].float()
    return logits[len(prompt) - 1 : -1] if tokens else logits


def _put(loaded: Loaded, text: str, length: int, most: int) -> list[int]:
    """A text as the task puts it to the model: of about `length` tokens, never over `most`."""
    task, tokenizer = loaded.task, loaded.tokenizer
    if isinstance(task, SequenceClassification):
        two = sum(not column.answer for column in task.COLUMNS.values()) > 1
        return task.inputs(tokenizer, *[text, TEXTS[-1]][: 1 + two])[0]
    if isinstance(task, TextGeneration):
        room = max(1, length - len(task.encode_prompt(tokenizer, "")))
        part = tokenizer.decode(tokenizer.encode(text)[:room])
        asked = task.truncate_prompt(task.encode_prompt(tokenizer, part)) or [tokenizer.eos]
        source, row = task.build_inputs(asked, 0)
        return (row if source is None else source)[-most:]
    return tokenizer.encode(text)[:length] or [tokenizer.eos]


def _write(loaded: Loaded, length: int) -> list[str]:
    """Three texts drawn from the model."""
    opening = loaded.record.get("data", {}).get("opening")
    engine = Engine(loaded.task, loaded.tokenizer, None, opening)
    made = engine.generate([""] * 3, SamplingParams(), length, seed=0, ignore_eos=True)
    return [each.text for each in made]


def _vocabulary(tokenizer: Tokenizer) -> str:
    """The texts of the tokens one after the other, those that are text by themselves."""
    texts = []
    for number in range(min(VOCABULARY, tokenizer.vocab_size)):
        try:
            texts.append(tokenizer.spell(number).decode("utf-8"))
        except UnicodeDecodeError:
            continue
    return " ".join(texts)
