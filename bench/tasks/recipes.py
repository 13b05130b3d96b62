"""The recipe of each task: pre-training, fine-tuning and their settings.

All are `scriven` commands. {data} is the folder that bench/tasks/data.py fills, {out} the
folder of the runs.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """One row of the table in docs/results.md."""

    pretrain: str
    """Arguments of `scriven train`, except for those of the machine."""
    finetune: str
    """Arguments of `scriven finetune`, after the run."""
    test: str
    """The test table."""
    control: bool = False
    """Whether the same model is also fine-tuned from random weights."""
    between: str = ""
    """Arguments of an intermediate `scriven finetune` on a self-supervised task; the second one
    starts from it."""
    answer: str = ""
    """Options of generation, for text tasks."""


PAIRED = (
    "{data}/sick-entail/pairs.jsonl --arch transformer --budget 5000steps --model.layers=2 "
    "--model.heads=4 --model.d_model=128 --model.context_length=64 --tokenizer.kind=bpe "
    "--tokenizer.vocab_size=2000 --train.batch_size=32"
)
COMPARED = (
    "{data}/sick-entail/copies-train.jsonl --task choice "
    "--validation {data}/sick-entail/copies-dev.jsonl --budget 4epochs --optim.lr=5e-4 "
    "--model.dropout=0.1"
)
"""SICK: its pairs, then the task of copies.py on its sentences."""

RECIPES = {
    "sentiment": Recipe(
        "{data}/sst2/corpus.jsonl --arch rnn --budget 5500steps --model.layers=2 "
        "--model.d_model=256 --model.dropout=0.3 --model.context_length=128 --tokenizer.kind=bpe "
        "--tokenizer.vocab_size=4000",
        "{data}/sst2/train.csv --validation {data}/sst2/dev.csv --budget 10epochs "
        "--model.dropout=0.5 --optim.lr=3e-3 --finetune.lm_loss_weight=0 "
        "--finetune.token_dropout=0.3",
        "{data}/sst2/test.csv",
        control=True,
    ),
    "topic": Recipe(
        "{data}/agnews/corpus.jsonl --budget 10m --model.layers=3 --model.heads=4 "
        "--model.d_model=160 --model.context_length=128 --model.dropout=0.15 --tokenizer.kind=bpe "
        "--tokenizer.vocab_size=4000",
        "{data}/agnews/train.csv --validation {data}/agnews/dev.csv --budget 4epochs "
        "--model.dropout=0.3 --optim.lr=5e-4 --finetune.lm_loss_weight=0",
        "{data}/agnews/test.csv",
        control=True,
    ),
    "entailment": Recipe(
        PAIRED,
        "{data}/sick-entail/train.csv --validation {data}/sick-entail/dev.csv --budget 10epochs "
        "--optim.lr=5e-4 --model.dropout=0.2",
        "{data}/sick-entail/test.csv",
        between=COMPARED,
    ),
    "similarity": Recipe(
        PAIRED,
        "{data}/sick-similarity/train.csv --validation {data}/sick-similarity/dev.csv "
        "--budget 10epochs --optim.lr=5e-4 --model.dropout=0.2",
        "{data}/sick-similarity/test.csv",
        between=COMPARED,
    ),
    "choice": Recipe(
        "shakespeare-train --budget 5000steps --model.layers=4 --model.heads=4 --model.d_model=128 "
        "--model.context_length=96 --tokenizer.kind=bpe --tokenizer.vocab_size=3000",
        "shakespeare-next --budget 25m --optim.lr=3e-4 "
        "--finetune.lm_loss_weight=0 --finetune.lm_score_weight=0.5 "
        "--train.micro_batch_size=8 --train.eval_interval=120",
        "shakespeare-next",
        control=True,
    ),
    "translation": Recipe(
        "{data}/multi30k/corpus.jsonl --arch transformer --budget 3m --model.layers=3 "
        "--model.heads=4 --model.d_model=256 --model.d_ff=512 --model.context_length=128 "
        "--model.dropout=0.15 --tokenizer.kind=bpe --tokenizer.vocab_size=4000",
        "{data}/multi30k/train.csv --task translate --validation {data}/multi30k/dev.csv "
        "--budget 12m --train.batch_size=128 --finetune.label_smoothing=0.1 --model.dropout=0.15 "
        "--optim.muon_lr=0.02 --optim.lr=1.5e-3",
        "{data}/multi30k/test.csv",
        answer="--beams 5 --length-penalty 1.0",
    ),
    "headlines": Recipe(
        "{data}/headlines/corpus.jsonl --arch transformer --budget 3m --model.layers=2 "
        "--model.heads=4 --model.d_model=192 --model.d_ff=512 --model.context_length=128 "
        "--model.dropout=0.2 --tokenizer.kind=bpe --tokenizer.vocab_size=6000",
        "{data}/headlines/train.csv --task summarize --validation {data}/headlines/dev.csv "
        "--budget 5m --train.batch_size=64 --finetune.label_smoothing=0.05 --model.dropout=0.2",
        "{data}/headlines/test.csv",
    ),
    "chat": Recipe(
        "shakespeare-train --budget 10m --model.layers=4 --model.heads=4 --model.d_model=128 "
        "--model.context_length=160 --tokenizer.kind=bpe --tokenizer.vocab_size=3000",
        "shakespeare-reply --budget 5m",
        "shakespeare-reply",
    ),
}
"""By the name of the row."""
