"""Every dial of a run that is not the architecture's own, with its help under it.

None means: chosen for this text and this machine (`training/plan.py`), and `--explain` says why.
"""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class DataSettings:
    """What is read, and what is held out."""

    validation: float = 0.1
    """Share of the characters held out for validation: the end of a single text."""
    encoding: str = "utf-8"
    """Character encoding of text files; latin-1 reads any bytes at all."""
    field: str = "text"
    """The column that holds the text in jsonl, csv, tsv and parquet files."""
    skip_bad: bool = False
    """Skip malformed rows and count them, instead of stopping at the first one."""


@dataclass(frozen=True)
class TokenizerSettings:
    """How text becomes numbers."""

    kind: Literal["char", "byte", "word", "bpe"] | None = None
    """char, byte, word or bpe (byte-level BPE); auto goes by the size of the text."""
    vocabulary: int | None = None
    """Size of the vocabulary, for bpe and word."""
    pattern: Literal["llama3", "gpt2", "qwen2"] = "llama3"
    """How bpe cuts text into words before merging; one that other engines recognise."""


@dataclass(frozen=True)
class OptimSettings:
    """How weights are moved."""

    optimizer: Literal["muon", "adamw", "sgd"] = "muon"
    """muon (matrices by Muon, the rest by AdamW), adamw, or sgd."""
    rate: float | None = None
    """Peak learning rate of AdamW or SGD."""
    matrix_rate: float = 0.02
    """Peak learning rate of Muon."""
    beta1: float = 0.9
    """AdamW: decay of the first moment; SGD: momentum."""
    beta2: float = 0.95
    """AdamW: decay of the second moment."""
    weight_decay: float = 0.1
    """Decoupled weight decay of the matrices."""
    clip: float = 1.0
    """Largest norm of the gradient of all weights together; 0 turns clipping off."""
    schedule: Literal["wsd", "linear", "cosine", "constant"] = "wsd"
    """wsd (flat, then linear to zero), linear, cosine, or constant."""
    warmup: float = 0.02
    """Share of the budget in which the rate rises from zero."""
    decay: float = 0.5
    """wsd: share of the budget in which the rate falls to zero."""


@dataclass(frozen=True)
class TrainSettings:
    """How long, in which portions, and what is kept."""

    batch: int | None = None
    """Sequences per update."""
    micro_batch: int | None = None
    """Sequences at once; the rest of a batch is accumulated. Lower it when memory is short."""
    first_context: int | None = None
    """Tokens a model sees at once when training begins, doubled in stages up to the whole context,
    which it sees for the second half of the budget; auto: a quarter of the context for llama on a
    CPU."""
    evaluate_every: int | None = None
    """Updates between two looks at the whole validation part."""
    save_every: float = 60.0
    """Seconds between two checkpoints."""
    save_steps: int | None = None
    """Updates between two checkpoints, instead of seconds."""
    keep: int = 2
    """Checkpoints kept besides the best one."""
    log_every: float = 5.0
    """Seconds between two progress lines."""
    sample_every: float = 60.0
    """Seconds between two samples of the model's writing; 0 for none."""
    patience: int | None = None
    """Evaluations without a better one before stopping early; 0 never stops early."""
    bad_steps: int = 5
    """Updates skipped in a row for a loss or gradient that is not a number, before going back."""


@dataclass(frozen=True)
class TuneSettings:
    """What of a trained model a fine-tuning changes."""

    weights: Literal["full", "head", "lora"] = "full"
    """full (all), head (only the new ones), or lora (low-rank adapters and the new ones)."""
    rank: int = 8
    """Rank of the adapters; 0 adds none."""
    smoothing: float = 0.0
    """Share of the probability that the right answer should leave to all others."""
    copy: bool | None = None
    """Let an encoder-decoder copy tokens of what it reads; auto does so for summaries."""
    auxiliary: float = 0.5
    """Weight of the loss of learning the text itself beside its label; 0 for none."""
    token_dropout: float = 0.0
    """Share of the tokens hidden while learning labels, others each time."""
    likelihood: float = 0.0
    """Choice: weight of how much likelier the context makes an answer, to a decoder."""


@dataclass(frozen=True)
class RuntimeSettings:
    """The machine."""

    device: str | None = None
    """cpu, cuda or mps."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Precision of the matrix products; weights and optimizer state stay float32."""
    compile: bool | None = None
    """torch.compile: a pause at the start, faster steps after it."""
    threads: int | None = None
    """Threads on the CPU, of each process."""
    parallel: Literal["ddp", "fsdp"] | None = None
    """Where torchrun started several processes: each holds all weights (ddp), or a part (fsdp)."""
    checkpointing: bool = False
    """Compute activations again instead of keeping them: less memory, a third more time."""
    timeout: float = 600.0
    """Seconds that a process waits for the others before it gives up."""


@dataclass(frozen=True)
class Settings:
    """All sections; the architecture adds its own as `model`."""

    data: DataSettings = field(default_factory=DataSettings)
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    tune: TuneSettings = field(default_factory=TuneSettings)
