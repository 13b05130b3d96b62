"""What follows from a model size: shape, context length, batch size, number of tokens and memory.

`scriven train` and `scriven plan` use the same functions. They know nothing of a text, a clock or a
machine, except whether it is a GPU, and how many FLOPs a budget holds. docs/scaling.md gives the
source of each rule.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

from ..errors import ResourceError, SettingError
from ..format import format_bytes

# Compute-optimal ratio (Hoffmann et al. 2022, table 3: 19 to 26).
TOKENS_PER_PARAMETER = 20

# English web text in a BPE of 30,000 to 50,000: 40 GB of OpenWebText are 9.04 G tokens.
BYTES_PER_TOKEN = 4.4

# Epochs that teach almost as much as fresh text (Muennighoff et al. 2023).
USEFUL_EPOCHS = 4

# Tokens per step of small trainings.
CPU_TOKENS, GPU_TOKENS = 2048, 32768

# Tokens of a whole training up to which a GPU keeps GPU_TOKENS per step.
SMALL_GPU_TRAINING = 14e6

# The best batch size grows with this power of the tokens of a training, whatever the size of the
# model (Bergsma et al. 2025).
BATCH_EXPONENT = 0.383

# Tokens of the shortest sequence that is worth training on.
SHORTEST_SEQUENCE = 32

# Parameters in blocks from which shapes suit the tensor cores of a GPU.
GPU_SHAPE_PARAMETERS = 25e6


@dataclass(frozen=True)
class ModelShape:
    """Depth, heads and width of a model."""

    layers: int
    heads: int
    d_model: int

    @property
    def block_parameters(self) -> int:
        """Parameters in the blocks, about (Kaplan et al. 2020, section 2.1)."""
        return 12 * self.layers * self.d_model**2


SIZES = {
    "tiny": ModelShape(2, 2, 64),
    "small": ModelShape(4, 4, 128),
    "medium": ModelShape(6, 6, 192),
    "base": ModelShape(6, 6, 384),
    "large": ModelShape(12, 12, 768),
}

# FLOP/s of training on the machine whose budgets LOG.md compares, two cores with AMX: 25,000 tokens
# of the small model.
TYPICAL_FLOPS = 0.16e12

# FLOPs of a training on a CPU below which sequences of half the length learn more.
SHORT_BUDGET = 120 * TYPICAL_FLOPS

# FLOPs in which only few steps fit.
VERY_SHORT_BUDGET = 40 * TYPICAL_FLOPS

# FLOPs on a CPU, and the shape that learns most with fewer.
SHORT_BUDGET_SHAPES = (
    (VERY_SHORT_BUDGET, ModelShape(2, 3, 96)),
    (90 * TYPICAL_FLOPS, ModelShape(3, 4, 128)),
)

# Tokens of a training that can memorise a text: some 500 steps on a CPU.
MEMORISING_TOKENS = 1e6

# (epochs times weights for each token of the text, dropout from there on)
DROPOUT_RATES = ((200, 0.3), (100, 0.2), (40, 0.1))

# FLOPs on a CPU from which the medium size learns more than the small one.
LONG_BUDGET = 1500 * TYPICAL_FLOPS


def model_shape(size: str) -> ModelShape:
    """The shape of a `--size`.

    Raises:
        SettingError: neither a name nor a number of parameters.
    """
    if size in SIZES:
        return SIZES[size]
    # 1B and 1G mean the same
    factors = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9}
    try:
        parameters = float(size[:-1]) * factors[size[-1].lower()]
    except (KeyError, ValueError, IndexError) as error:
        names = ", ".join(SIZES)
        raise SettingError(f"--size {size!r} is not a size: use {names}, or 12M") from error
    if not 1e3 <= parameters <= 1e13:
        raise SettingError(f"--size {size!r}: from 1k to 10000B parameters")
    return _small(parameters) if parameters < GPU_SHAPE_PARAMETERS else _large(parameters)


def _small(parameters: float) -> ModelShape:
    """About so many parameters in the blocks, in fixed proportion."""
    # heads of width 32, and d_model / layers = 64
    shapes = (
        ModelShape(max(2, round(d_model / 64)), d_model // 32, d_model)
        for d_model in range(32, 1024, 32)
    )
    return min(shapes, key=lambda shape: abs(shape.block_parameters - parameters))


def _large(parameters: float) -> ModelShape:
    """The same for large models, in the proportions of GPT-3's table 2.1 (Brown et al. 2020).

    d_model over layers is 64 up to a billion parameters and 128 from eight billion on; the loss
    hardly depends on it (Kaplan et al. 2020, section 3.1), the speed of narrow heads and deep
    stacks does."""
    proportion = 64 * min(2.0, max(1.0, (parameters / 1e9) ** (1 / 3)))
    shapes = [
        (d_model, round(parameters / (12 * d_model**2))) for d_model in range(512, 65536, 128)
    ]
    d_model, layers = min(
        ((d_model, layers) for d_model, layers in shapes if layers >= 2),
        key=lambda shape: abs(math.log(shape[0] / shape[1] / proportion)),
    )
    return ModelShape(layers, d_model // (64 if d_model < 2048 else 128), d_model)


def default_context_length(gpu: bool, flops: float, warmup: bool, tokens: int) -> int:
    """Context length for a text of so many tokens: longer where there is time to learn from it.

    Args:
        flops: what fits into a wall-clock budget on a CPU; infinite for another budget.
        warmup: whether sequences are short at first, which pays for twice the length.
    """
    # a GPU hides the cost of long sequences, a short text has nothing to fill them with
    if gpu:
        return 1024 if tokens > 20_000_000 else 256
    length = 64 if flops < VERY_SHORT_BUDGET else 128 if flops < SHORT_BUDGET else 256
    return length * (2 if warmup else 1)


def initial_context_length(context_length: int) -> int | None:
    """Length at which sequence-length warmup starts; None: the context is too short to split."""
    long_enough = context_length >= 4 * SHORTEST_SEQUENCE and context_length % 4 == 0
    return context_length // 4 if long_enough else None


def default_dropout(tokens: float, epochs: float, weights_per_token: float) -> float:
    """Dropout against memorising a text that is read often by a model with many weights (LOG.md).

    Args:
        tokens: of the whole training; few leave no time to memorise.
        epochs: how often the text is read.
        weights_per_token: weights in blocks for each token of the text.
    """
    memorised = epochs * weights_per_token if tokens >= MEMORISING_TOKENS else 0.0
    return next((rate for least, rate in DROPOUT_RATES if memorised >= least), 0.0)


def tokens_per_step(gpu: bool, horizon: float | None, text: float) -> int:
    """Tokens of one optimizer step.

    On a CPU many small steps learn fastest. On a GPU the batch grows with what there is to learn:
    tokens read, where up to four epochs count.

    Args:
        horizon: tokens of the whole training; None for a budget in seconds or steps.
        text: tokens of the text.
    """
    if not gpu:
        return CPU_TOKENS
    # repeated text teaches almost as much as fresh text up to four epochs
    fresh = min(horizon or 0.0, USEFUL_EPOCHS * text)
    batch = GPU_TOKENS * max(1.0, fresh / SMALL_GPU_TRAINING) ** BATCH_EXPONENT
    # a power of two, so that it divides over devices and micro-batches
    return int(2 ** round(math.log2(batch)))


def sequences_per_step(tokens: int, context_length: int, text: float) -> int:
    """Sequences in about so many tokens; a short text has few different ones."""
    # at least four steps per epoch
    different = max(1, int(text // (context_length * 4)))
    return max(1, min(tokens // context_length, different))


def compute_optimal_tokens(parameters: float) -> float:
    """Training tokens for so many parameters (Hoffmann et al. 2022)."""
    return TOKENS_PER_PARAMETER * parameters


def parse_token_count(text: str) -> float:
    """`9B`, `300G`, `5M`: tokens; `40GB`, `2TB`: tokens in so many bytes of text.

    Raises:
        SettingError: neither.
    """
    match = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?)([kmgtb]?)(b|bytes|tokens?)?", text.strip().lower())
    factors = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
    try:
        assert match is not None
        amount = float(match[1]) * factors[match[2]]
    except (AssertionError, ValueError) as error:
        raise SettingError(f"--tokens {text!r} is no amount: use for example 9B or 40GB") from error
    # bytes of text, by the compression of a usual BPE
    if (match[3] or "").startswith("b"):
        amount /= BYTES_PER_TOKEN
    if not 1 <= amount <= 1e18:
        raise SettingError(f"--tokens {text!r}: from 1 to 1e18")
    return amount


ACTIVATIONS_PER_LAYER = 21
"""Numbers that backward needs of a token in a layer, as a multiple of `d_model`: inputs of norms
and of matmuls."""


def training_bytes(config: Any, parameters: int, tokens: int) -> int:
    """Rough peak memory of training with `tokens` in a micro-batch: weights, gradients, two
    moments, and what backward needs."""
    # logits, their softmax and its gradient
    logits = 3 * config.vocab_size
    return int(16 * parameters + 4 * tokens * (activations_per_token(config) + logits))


def activations_per_token(config: Any, fused: bool = False) -> int:
    """Numbers that backward needs of one token, without its logits; with `fused`, attention is one
    kernel that keeps no weights between positions."""
    # scores, weights and dropped weights of each head, in short contexts (naive_attention)
    attended = 0 if fused else min(config.attended_length, 512)
    per_layer = ACTIVATIONS_PER_LAYER * config.d_model + 3 * getattr(config, "heads", 0) * attended
    return int(config.total_layers * per_layer)


def check_fits(config: Any, tokens: int, available: int | None) -> None:
    """Refuses a model that cannot fit, before anything is allocated.

    Raises:
        ResourceError: names what is needed, what is there, and the settings to lower.
    """
    need = least_training_bytes(config, tokens)
    if available is not None and need > available:
        raise ResourceError(
            f"this model needs about {format_bytes(need)} to train and {format_bytes(available)} "
            "are free: lower --model.d_model, --model.layers or --train.micro_batch_size"
        )


def fits(config: Any, tokens: int, available: int | None) -> bool:
    """Whether training with `tokens` in a micro-batch fits into so many bytes; None: not known."""
    return available is None or least_training_bytes(config, tokens) <= available


def least_training_bytes(config: Any, tokens: int) -> int:
    """`training_bytes` with a lower bound of the weights."""
    # attention and feed-forward matrices, and the embedding
    heads = getattr(config, "heads", 0) * (getattr(config, "head_dim", None) or 0)
    d_ff = getattr(config, "d_ff", None) or 3 * config.d_model
    per_layer = 2 * config.d_model * (max(config.d_model, heads) + d_ff)
    least = config.vocab_size * config.d_model + config.total_layers * per_layer
    return training_bytes(config, least, tokens)
