"""A prepared text as what a run is trained on."""

import json
from typing import TYPE_CHECKING, Any

import torch

from ..data.pairs import PairDataset
from ..data.shards import TokenDataset
from ..distributed import BatchShard
from ..evaluate.loss import Score, scored_bytes
from ..evaluate.token_nll import token_nll
from ..files import write_file
from ..generate.fill_mask import show
from ..generate.sampling_params import SamplingParams
from ..tasks.base import BaseTask
from ..tokenizers import Tokenizer
from .feed import Feed, feed_for
from .metadata import fit_baseline, opening

if TYPE_CHECKING:
    from .trainer import Trainer

SAMPLE_TOKENS = 200


class Texts:
    """A text: windows of it, its n-gram baseline, and the model's own writing as a sample."""

    def __init__(self, corpus: TokenDataset) -> None:
        self.corpus = corpus

    @property
    def tokenizer(self) -> Tokenizer:
        return self.corpus.tokenizer

    @property
    def opening(self) -> int:
        return opening(self.corpus)

    @property
    def size(self) -> str:
        return f"{len(self.corpus.train):,} + {len(self.corpus.validation):,} tokens"

    def feed(self, task: BaseTask, seed: int, share: BatchShard, device: torch.device) -> Feed:
        return feed_for(self.corpus, task, seed, share, device)

    def measured(self, task: BaseTask) -> int:
        corpus = self.corpus
        return scored_bytes(task, corpus.validation, corpus.tokenizer, corpus.validation_bytes)

    def warnings(self, task: BaseTask) -> list[str]:
        if not self.corpus.pairs:
            return []
        context = task.backbone.config.context_length
        cut = PairDataset(self.corpus.train, self.corpus.tokenizer.eos).num_truncated(context)
        return (
            [f"{cut:,} pairs have a side longer than {context} tokens, which loses its end"]
            if cut
            else []
        )

    def baseline(self) -> tuple[dict[str, Any], str]:
        counted = fit_baseline(self.corpus)
        return counted, (
            f"counting {counted['order']}-grams would give a validation loss of "
            f"{counted['loss']:.3f}"
        )

    def sample(self, run: "Trainer") -> str:
        task, seed = run.shown, run.plan.seed
        if task.is_masked_lm:
            count = min(SAMPLE_TOKENS, run.plan.model.context_length, len(self.corpus.validation))
            ids = self.corpus.validation.read(0, count).tolist()
            return show(task, self.tokenizer, ids, seed)
        if not task.echo_prompt:
            return self._answers(run)
        sampling = SamplingParams(temperature=0.8)
        return run.engine.generate([""], sampling, SAMPLE_TOKENS, seed=seed, ignore_eos=True)[
            0
        ].text

    def results(self, run: "Trainer", score: Score) -> dict[str, Any]:
        """Bits per byte and the n-grams' loss; how surprising each token was goes into a file."""
        tokens = token_nll(run.shown, self.corpus.validation, self.tokenizer, run.runtime)
        content = json.dumps({"tokens": tokens}, ensure_ascii=False)
        write_file(run.folder / "surprise.json", content.encode())
        return {
            "val_bits_per_byte": score.bits_per_byte,
            "val_perplexity": score.perplexity,
            "ngram_loss": run.record["baseline"]["loss"],
            "ngram_order": run.record["baseline"]["order"],
        }

    def _answers(self, run: "Trainer") -> str:
        """A few sources of the validation part with what the model makes of them."""
        pairs = PairDataset(self.corpus.validation, self.tokenizer.eos)
        sources = [self.tokenizer.decode(ids) for ids in pairs.read(range(min(3, len(pairs))))[0]]
        made = run.engine.generate(sources, SamplingParams(temperature=0), SAMPLE_TOKENS)
        return "\n\n".join(
            f"{source}\n-> {each.text}" for source, each in zip(sources, made, strict=True)
        )
