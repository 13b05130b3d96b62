"""All settings of a run that do not belong to an architecture, with the help text under each field.

None means: chosen for this text and this machine (`train/autoconfig.py`); `--explain` prints why.
"""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class DataSettings:
    """What is read, and what is held out for validation."""

    val_fraction: float = 0.1
    """Fraction of the characters held out for validation; of a single text, the end."""
    encoding: str = "utf-8"
    """Character encoding of text files; auto: utf-8, or what each file seems to be in; latin-1
    accepts any bytes."""
    newlines: Literal["lf", "keep"] = "lf"
    """Line ends: lf (\\r\\n and \\r are read as \\n) or keep (as they are)."""
    format: str | None = None
    """Format of all files (txt, csv, html, ...: docs/formats.md); auto: by content and name."""
    files: str | None = None
    """Files read in a folder, as patterns separated by commas (*.py,*.md); auto: texts and tables,
    or all plain text where a folder holds mostly other kinds of it."""
    text_column: str = "text"
    """Text column of tables; with dots inside of nested records (messages.content)."""
    table: str | None = None
    """Table of SQLite databases, sheet of spreadsheets; auto: the only table, the first sheet."""
    columns: str | None = None
    """Names of the columns of csv and tsv files that have no header line, separated by commas."""
    quoting: Literal["double", "single", "none"] | None = None
    """Quotes around fields of csv and tsv files; auto: double in csv, none in tsv unless the header
    is quoted."""
    skip_bad: bool = False
    """Skip and count malformed rows instead of stopping at the first one."""
    skip_bad_files: bool = False
    """Leave out and count the files of a folder that cannot be read, instead of stopping at the
    first one; each file is read once more for it."""


@dataclass(frozen=True)
class TokenizerSettings:
    """How text becomes token ids."""

    kind: str | None = None
    """char, byte, word or bpe (byte-level BPE); auto: chosen by the size of the text."""
    vocab_size: int | None = None
    """Vocabulary size, for bpe and word."""
    pattern: Literal["llama3", "gpt2", "qwen2"] = "llama3"
    """Pre-tokenizer of bpe: its split pattern, under the name other engines know it by."""


@dataclass(frozen=True)
class OptimSettings:
    """Optimizer and learning rate."""

    optimizer: str = "muon"
    """muon (Muon for matrices, AdamW for the rest), adamw, sgd, or a .py file."""
    lr: float | None = None
    """Peak learning rate of AdamW or SGD."""
    muon_lr: float = 0.02
    """Peak learning rate of Muon."""
    beta1: float = 0.9
    """AdamW: decay of the first moment; SGD: momentum."""
    beta2: float = 0.95
    """AdamW: decay of the second moment."""
    weight_decay: float = 0.1
    """Decoupled weight decay of the matrices."""
    grad_clip: float = 1.0
    """Gradient clipping: largest global gradient norm; 0 turns it off."""
    lr_schedule: str = "wsd"
    """wsd (warmup, stable, linear decay to zero), linear, cosine, constant, or a .py file."""
    warmup_fraction: float = 0.02
    """Fraction of the budget in which the learning rate rises from zero."""
    decay_fraction: float = 0.5
    """wsd: fraction of the budget in which the learning rate falls to zero."""


@dataclass(frozen=True)
class TrainSettings:
    """Batch size, evaluation, checkpoints and logging."""

    batch_size: int | None = None
    """Sequences per optimizer step."""
    micro_batch_size: int | None = None
    """Sequences per forward pass; gradients of the rest of the batch are accumulated. Lower it when
    memory is short."""
    sequence_length: int | None = None
    """Tokens of a training row, and of the windows of an evaluation; auto: the context length, or
    1024 where a model of a longer context is trained further."""
    initial_context_length: int | None = None
    """Context length at the start of training, doubled in stages up to the full context length,
    which holds for the second half of the budget; auto: a quarter of it for llama on a CPU."""
    eval_interval: int | None = None
    """Steps between two evaluations on the whole validation set."""
    save_seconds: float = 60.0
    """Seconds between two checkpoints."""
    save_interval: int | None = None
    """Steps between two checkpoints, instead of seconds."""
    keep_checkpoints: int = 2
    """Checkpoints kept besides the best one."""
    log_seconds: float = 5.0
    """Seconds between two progress lines."""
    sample_seconds: float = 60.0
    """Seconds between two generated samples; 0 for none."""
    patience: int | None = None
    """Early stopping: evaluations without improvement before training ends; 0 turns it off."""
    skip_spikes: bool = False
    """Leave out the update of a step whose loss is 6 standard deviations above the recent ones."""
    max_nonfinite_steps: int = 5
    """Consecutive steps skipped for a NaN or infinite loss or gradient before training returns to
    the last good checkpoint."""
    trackers: str = ""
    """Trackers besides console and metrics.jsonl, separated by commas: tensorboard, or .py files of
    your own; to be given again when a run is resumed."""


@dataclass(frozen=True)
class FinetuneSettings:
    """What fine-tuning changes of a trained model."""

    weights: Literal["full", "head", "lora"] = "full"
    """Trained weights: full (all), head (only the new ones) or lora (adapters and the new ones)."""
    lora_rank: int = 8
    """Rank of the LoRA adapters; 0 adds none."""
    label_smoothing: float = 0.0
    """Label smoothing: probability mass spread over the wrong answers."""
    copy_head: bool | None = None
    """Let an encoder-decoder copy source tokens (pointer-generator); auto: for summaries."""
    lm_loss_weight: float = 0.5
    """Weight of the auxiliary language modelling loss (GPT-1); 0 for none."""
    bag_of_words: bool | None = None
    """Add a bag of words, fitted to the rows first, to the scores; auto: for labels and scores."""
    linear_probe: bool | None = None
    """Fit the head to hidden states before the first step; auto: for labels and scores, where the
    model's own weights are frozen."""
    token_dropout: float = 0.0
    """Fraction of the input tokens masked at random in training on labels."""
    lm_score_weight: float = 0.0
    """Task choice, decoders: weight of the log-likelihood gain of an answer given its context."""
    dpo_beta: float = 0.1
    """Task dpo: strength of the pull towards the model before training, beta."""


@dataclass(frozen=True)
class RuntimeSettings:
    """Device, precision, threads and processes."""

    device: str | None = None
    """cpu, cuda or mps."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Mixed precision: dtype of the matmuls; weights and optimizer state stay float32."""
    compile: bool | None = None
    """torch.compile: slower to start, faster steps."""
    native: bool | None = None
    """Compute training steps by C++ code that is compiled once for this machine, in float32; auto:
    where it knows the model and is faster than PyTorch here."""
    threads: int | None = None
    """CPU threads of each process."""
    parallel: Literal["ddp", "fsdp"] | None = None
    """With several processes under torchrun: replicate the weights (ddp) or shard them (fsdp)."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    distributed_timeout: float = 600.0
    """Seconds a process waits for the others before it gives up."""


@dataclass(frozen=True)
class Settings:
    """All sections; the architecture adds its own as `model`."""

    data: DataSettings = field(default_factory=DataSettings)
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)


BOUNDS: dict[str, tuple[float, float]] = {
    "optim.lr": (0, 100),
    "optim.muon_lr": (0, 100),
    "optim.weight_decay": (0, 100),
    "optim.grad_clip": (0, 1e9),
    "optim.warmup_fraction": (0, 1),
    "optim.decay_fraction": (0, 1),
    "optim.beta1": (0, 0.999999),
    "optim.beta2": (0, 0.999999),
    "train.batch_size": (1, 1e7),
    "train.micro_batch_size": (1, 1e7),
    "train.sequence_length": (2, 1e9),
    "train.initial_context_length": (1, 1e9),
    "train.eval_interval": (1, 1e12),
    "train.save_interval": (1, 1e12),
    "train.save_seconds": (0.01, 1e9),
    "train.log_seconds": (0, 1e9),
    "train.sample_seconds": (0, 1e9),
    "train.keep_checkpoints": (1, 1e6),
    "train.patience": (0, 1e9),
    "train.max_nonfinite_steps": (1, 1e9),
    "runtime.distributed_timeout": (0.1, 1e7),
    "finetune.lora_rank": (0, 1e6),
    "finetune.label_smoothing": (0, 0.99),
    "finetune.lm_loss_weight": (0, 100),
    "finetune.token_dropout": (0, 0.9),
    "finetune.lm_score_weight": (0, 100),
    "finetune.dpo_beta": (1e-6, 1e3),
}
"""Smallest and largest value of numeric settings, which `config.replace` checks."""
