"""Whether another program computes what a run does: token ids, logits and greedy text.

Other programs print what they like, start threads, and may end the process on a file they dislike.
So they run in a child process, which answers through files in a folder that the parent made:

    python -m scriven.export.parity_check TARGET METHOD FOLDER WORK
"""

import dataclasses
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import registry
from ..files import temporary_folder
from ..generate.engine import Engine
from ..generate.sampling import SamplingParams
from ..runs.load import Loaded
from ..tasks.shared.classification import SequenceClassification
from ..tasks.shared.text_generation import TextGeneration
from ..tokenizers import Tokenizer
from .base import CheckFailed, ParityProbe, ProbeAnswer, probe_task

NEW_TOKENS = 64  # tokens generated after each prompt, if the context has room for them
MAX_PROMPT = 512  # tokens of the longest prompt, so that the check of a long context ends
VOCABULARY = 4096  # tokens whose own texts are encoded again
MIN_LOG_PROB = -80.0  # log-probabilities below this underflow in float32, so they count as equal
FORBIDDEN_LOGIT = -1e30
"""No model computes a logit below this; some programs write one to forbid a token."""
TIMEOUT = 1800
"""Seconds; a large model takes minutes, and a program that hangs must not hang the export."""
CHILD_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
}  # fmt: skip

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
class ParityReport:
    """The outcome of one parity check."""

    runtime: str
    texts: int
    texts_equal: int
    first_unequal: str | None
    logit_difference: float  # the largest one, in absolute value
    logit_scale: float  # standard deviation of the run's logits
    bound: float | None  # the largest difference that passes; None for quantised weights
    greedy_tokens: int
    greedy_equal: int
    unexplained: int
    """Unequal greedy tokens that are no near-tie within the difference of the logits."""

    @property
    def problem(self) -> str | None:
        """What is wrong, in words; None if the check passed."""
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
        """(name, value) of each figure, for a person."""
        limit = "quantised: no bound" if self.bound is None else f"at most {self.bound:.2g} may be"
        difference = f"largest difference {self.logit_difference:.2g}"
        rows = [
            ("checked in", self.runtime),
            ("token ids", f"{self.texts_equal} of {self.texts} texts equal"),
            ("logits", f"{difference} ({limit}), spread {self.logit_scale:.2g}"),
        ]
        if self.greedy_tokens:
            text = f"{self.greedy_equal} of {self.greedy_tokens} tokens equal"
            if self.greedy_equal < self.greedy_tokens:
                others = "the others near-ties"
                if self.unexplained:
                    others = f"{self.unexplained} of the others far from a tie"
                text += f" ({self.greedy_equal / self.greedy_tokens:.1%}), {others}"
            rows.append(("greedy text", text))
        return rows

    def to_dict(self) -> dict[str, Any]:
        """All figures for a program, and whether they passed."""
        return {**vars(self), "passed": self.problem is None}


def make_probe(loaded: Loaded) -> ParityProbe:
    """Texts of every kind, and prompts that the model itself generates.

    On its own kind of text the model is confident, so its greedy choices are rarely ties. One
    prompt is short, one longer, and one fills the context but for what is generated.
    """
    tokenizer, task = loaded.tokenizer, probe_task(loaded)
    assert task is not None
    context = min(loaded.task.backbone.config.context_length, MAX_PROMPT + NEW_TOKENS)
    # room for the continuation; half the context where it is short
    room = min(NEW_TOKENS, max(1, context // 2))
    lengths = [min(length, context - room - 1) for length in (8, 24, context)]
    written = _sample(loaded, max(lengths)) if loaded.task.is_generative else list(TEXTS[:3])
    prompts = []
    for text, length in zip(written, lengths, strict=True):
        ids = _prompt(loaded, text, length, max(lengths))
        if task == "seq2seq" and tokenizer.mask is not None:  # a source with a gap at its end
            ids = [*ids, tokenizer.mask]
        prompts.append(ids)
    return ParityProbe(
        texts=[*TEXTS, *written, _vocabulary(tokenizer)],
        prompts=prompts,
        counts=[room if loaded.task.is_generative else 0] * len(prompts),
        never=sorted(loaded.task.stop_token_ids) if loaded.task.is_generative else [],
        pad=tokenizer.pad,
        task=task,
    )


def run_probe(target: str, folder: Path, probe: ParityProbe) -> ProbeAnswer:
    """The outputs of the target's program on the files in a folder.

    Raises:
        CheckFailed: it cannot load them, or ends before it has answered.
    """
    with temporary_folder() as work:
        _run_child(target, "run_probe", folder, Path(work), dataclasses.asdict(probe))
        answer = json.loads((Path(work) / "answer.json").read_text())
        logits = [
            np.fromfile(Path(work) / f"{number}.f32", dtype=np.float32).reshape(shape)
            for number, shape in enumerate(answer.pop("shapes"))
        ]
        return ProbeAnswer(logits=logits, **answer)


def call_in_child(target: str, method: str, folder: Path, request: dict[str, Any]) -> None:
    """Runs `method(folder, request)` of a target for its files; CheckFailed if that ends badly."""
    with temporary_folder() as work:
        _run_child(target, method, folder, Path(work), request)


def _run_child(target: str, method: str, folder: Path, work: Path, request: dict[str, Any]) -> None:
    (work / "request.json").write_text(json.dumps(request))
    # -P: a file of the user's named onnx.py must not be taken for the package
    command = [sys.executable, "-P", "-m", __spec__.name, target, method, str(folder), str(work)]
    name = Path(target).stem
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, errors="replace",
            env={**os.environ, **CHILD_ENVIRONMENT}, timeout=TIMEOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CheckFailed(f"{name} did not answer in {TIMEOUT} seconds") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        last = lines[-1][:300] if lines else "it said nothing"
        raise CheckFailed(f"{name} could not use the files (exit {done.returncode}): {last}")


def answer_request() -> None:
    """The child's side of `_run_child`: one method of a target, on the files in a folder."""
    name, method, folder, work = sys.argv[1:]
    request = json.loads((Path(work) / "request.json").read_text())
    target = registry.module("scriven.export.targets", name).Target()
    if method != "run_probe":
        getattr(target, method)(Path(folder), request)
        return
    answer: ProbeAnswer = target.run_probe(Path(folder), ParityProbe(**request))
    for number, logits in enumerate(answer.logits):
        np.ascontiguousarray(logits, dtype=np.float32).tofile(Path(work) / f"{number}.f32")
    plain = {
        "ids": [list(ids) for ids in answer.ids],
        "tokens": [list(tokens) for tokens in answer.tokens],
        "normalised": answer.normalised,
        "shapes": [logits.shape for logits in answer.logits],
    }
    (Path(work) / "answer.json").write_text(json.dumps(plain))


def compare_outputs(
    loaded: Loaded, probe: ParityProbe, answer: ProbeAnswer, runtime: str, bound: float | None
) -> ParityReport:
    """The outputs of a program beside those of the run.

    The run reads the program's own continuation, so each token is compared after the same tokens
    (teacher forcing); when all are the run's choice too, the two greedy texts are equal.

    Args:
        bound: the largest difference of logits that passes, as a fraction of their standard
            deviation; None for no bound.
    """
    # 1. logits and greedy choices, prompt by prompt
    difference, stds, scores = 0.0, [], []
    gaps = [torch.zeros(0)]
    for prompt, tokens, logits in zip(probe.prompts, answer.tokens, answer.logits, strict=True):
        ours = reference_logits(loaded, probe, list(prompt), list(tokens))  # (count, V)
        if probe.task == "labels":
            scores.append(ours)
        else:  # a program may leave out embeddings that have no token
            ours = ours[:, : max(loaded.tokenizer.vocab_size, logits.shape[-1])]
        stds.append(float(ours.std(correction=0)))
        difference = max(difference, _logit_difference(ours, logits, probe, answer.normalised))
        if tokens:
            ours[:, list(probe.never)] = -torch.inf
            chosen = ours.gather(1, torch.tensor(tokens)[:, None])[:, 0]
            gaps.append(ours.max(1).values - chosen)  # (count,), 0 where the choices agree
    gap = torch.cat(gaps)
    # 2. the tokenizer
    unequal = [
        text
        for text, ids in zip(probe.texts, answer.ids, strict=True)
        if list(ids) != loaded.tokenizer.encode(text)
    ]
    # 3. how large the logits are, which makes the bound independent of the model
    scale = sum(stds) / len(stds)
    if probe.task == "labels":  # one score per prompt has a spread only over all prompts
        scale = float(torch.cat(scores).std(correction=0))
    return ParityReport(
        runtime=runtime,
        texts=len(probe.texts),
        texts_equal=len(probe.texts) - len(unequal),
        first_unequal=unequal[0][:60] if unequal else None,
        logit_difference=difference,
        logit_scale=scale,
        bound=None if bound is None else bound * scale,
        greedy_tokens=len(gap),
        greedy_equal=int((gap == 0).sum()),
        # two logits that are each off by the largest difference may change their order
        unexplained=int((gap > 2 * difference).sum()),
    )


def _logit_difference(
    ours: Tensor, logits: np.ndarray[Any, Any], probe: ParityProbe, normalised: bool
) -> float:
    """The largest absolute difference of (count, V) logits; infinite if one is NaN."""
    other = torch.from_numpy(logits)  # (count, V)
    for token in probe.never:
        forbidden = other[:, token] < FORBIDDEN_LOGIT
        other[forbidden, token] = ours[forbidden, token]
    if normalised:
        ours = ours.log_softmax(-1).clamp(min=MIN_LOG_PROB)
        other = other.clamp(min=MIN_LOG_PROB)
    return float((ours - other).abs().nan_to_num(torch.inf, torch.inf).max())


@torch.no_grad()
def reference_logits(
    loaded: Loaded, probe: ParityProbe, prompt: list[int], tokens: list[int]
) -> Tensor:
    """The run's logits (count, V) before each of `tokens`; (T, V) of the prompt if there are
    none; (1, L) with labels."""
    task = loaded.task
    if probe.task == "seq2seq":
        decoder = torch.tensor([[probe.pad, *tokens][:-1]])
        return task.logits(task.backbone(decoder, source=torch.tensor([prompt])))[0].float()
    row = torch.tensor([[*prompt, *tokens]])  # (1, T + count)
    if probe.task == "labels":
        return task.head(task.backbone(row)[:, -1]).float()  # type: ignore[no-any-return]
    logits = task.logits(task.backbone(row))[0].float()
    return logits[len(prompt) - 1 : -1] if tokens else logits


def _prompt(loaded: Loaded, text: str, length: int, most: int) -> list[int]:
    """A text as the task gives it to the model, of about `length` and at most `most` tokens."""
    task, tokenizer = loaded.task, loaded.tokenizer
    if isinstance(task, SequenceClassification):
        two = sum(not column.answer for column in task.COLUMNS.values()) > 1
        return task.encode_parts(tokenizer, *[text, TEXTS[-1]][: 1 + two])[0]
    if isinstance(task, TextGeneration):
        room = max(1, length - len(task.encode_prompt(tokenizer, "")))
        part = tokenizer.decode(tokenizer.encode(text)[:room])
        prompt = task.truncate_prompt(task.encode_prompt(tokenizer, part)) or [tokenizer.eos]
        source, row = task.build_inputs(prompt, 0)
        return (row if source is None else source)[-most:]
    return tokenizer.encode(text)[:length] or [tokenizer.eos]


def _sample(loaded: Loaded, length: int) -> list[str]:
    """Three texts sampled from the model."""
    bos = loaded.metadata.get("data", {}).get("bos")
    engine = Engine(loaded.task, loaded.tokenizer, None, bos)
    results = engine.generate([""] * 3, SamplingParams(), length, seed=0, ignore_eos=True)
    return [each.text for each in results]


def _vocabulary(tokenizer: Tokenizer) -> str:
    """The texts of the tokens one after the other, as far as a token alone is valid UTF-8."""
    texts = []
    for number in range(min(VOCABULARY, tokenizer.vocab_size)):
        try:
            texts.append(tokenizer.spell(number).decode("utf-8"))
        except UnicodeDecodeError:
            continue
    return " ".join(texts)


if __name__ == "__main__":
    answer_request()
