"""What every architecture shares. A file of this folder, or a user's (`--arch ./mine.py`), has

    Config   a frozen dataclass, a `BaseConfig`, with a help text under each field
    Model    an `Architecture`: token ids in, hidden states out; it has no head and no loss

Everything else that training, generation, export and reports ask of an architecture is a class
attribute or a method of `Architecture` below, with a default: a file overrides what differs.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SettingError
from ..nn.block import Block
from ..nn.cache import EMPTY, Cache, KVCache, LayerCache
from ..nn.embeddings import Embedding, forward_context
from ..nn.lora import TARGETS
from .shared.hf_config import HFClass, read_hf_config, write_hf_config
from .shared.weight_map import FusedSizes, WeightName, rename_from_hf, rename_to_hf

Groups = TypeVar("Groups")

BASES = ("transformers",)
"""Files that hold models of other people alone: they have nothing to train from random weights."""


@dataclass(frozen=True)
class BaseConfig:
    """The shape of a model; these fields every architecture has."""

    MAY_BE_ZERO: ClassVar[tuple[str, ...]] = ("vocab_size",)
    """Integer fields that may be 0, or that the architecture checks itself."""

    vocab_size: int = 0
    """Number of tokens; set from the tokenizer."""
    context_length: int = 256
    """Maximum sequence length, in tokens."""
    layers: int = 4
    """Number of blocks."""
    d_model: int = 128
    """Embedding dimension: size of the residual stream."""
    dropout: float = 0.0
    """Dropout probability of embeddings, attention weights and sublayer outputs."""
    tie_embeddings: bool = True
    """Share the embedding matrix with the output layer."""

    def __post_init__(self) -> None:
        """Refuses shapes that cannot be built, before anything is allocated.

        Raises:
            SettingError: names the flag and the possible range.
        """
        # 1. sizes and factors, by their type
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if isinstance(value, bool) or value is None:
                continue
            if isinstance(value, int) and name not in self.MAY_BE_ZERO and not 1 <= value <= 2**31:
                raise SettingError(
                    f"--model.{name}={value}: a whole number from 1 upwards is needed"
                )
            if name != "dropout" and isinstance(value, float) and not 0 < value < math.inf:
                raise SettingError(f"--model.{name}={value}: a number above 0 is needed")
        # 2. a limit, as Python builds each layer
        if self.layers > 10_000:
            raise SettingError(f"--model.layers={self.layers}: at most 10,000")
        if not 0 <= self.dropout < 1:
            raise SettingError(f"--model.dropout={self.dropout}: from 0 up to (not including) 1")

    @property
    def total_layers(self) -> int:
        """Blocks of all stacks together."""
        return self.layers

    @property
    def deepest_stack(self) -> int:
        """Blocks of the deepest stack: an encoder may have more than its decoder."""
        return self.layers

    @property
    def attended_length(self) -> int:
        """Positions that the last token of a training row attends to."""
        return self.context_length


@dataclass(frozen=True)
class TransformerConfig(BaseConfig):
    """Fields of architectures with attention and feed-forward layers."""

    heads: int = 4
    """Attention heads per block."""
    d_ff: int | None = None
    """Hidden size of the feed-forward layer; auto: 4 d_model."""
    norm_eps: float = 1e-5
    """Epsilon of the normalization layers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d_model % self.heads and getattr(self, "head_dim", None) is None:
            raise SettingError(
                f"--model.d_model={self.d_model} cannot be divided into --model.heads={self.heads}:"
                f" use a width of {self.heads * max(1, round(self.d_model / self.heads))}"
            )

    @property
    def head_size(self) -> int:
        """D, the size of a head."""
        return getattr(self, "head_dim", None) or self.d_model // self.heads

    @property
    def ff_size(self) -> int:
        """F, the feed-forward size in use."""
        return self.d_ff or 4 * self.d_model


def expand_layer_types(text: str, layers: int, known: Sequence[str]) -> list[str]:
    """The kind of each layer: `sliding,sliding,full` is a pattern that repeats.

    Raises:
        SettingError: a kind that is not known.
    """
    pattern = [kind.strip() for kind in text.split(",")]
    for kind in pattern:
        if kind not in known:
            raise SettingError(
                f"--model.layer_types={text[:80]}: {kind[:40]!r} is no kind of layer; kinds are "
                f"{', '.join(known)}"
            )
    return [pattern[layer % len(pattern)] for layer in range(layers)]


def shorten_layer_types(kinds: Sequence[str]) -> str:
    """The shortest pattern that repeats to these kinds."""
    for size in range(1, len(kinds)):
        if all(kind == kinds[place % size] for place, kind in enumerate(kinds)):
            return ",".join(kinds[:size])
    return ",".join(kinds) or "full"


class Architecture(nn.Module):
    """A stack of blocks between an embedding and a last norm, and every hook of an architecture.

    Parameters may have any rank; the modules below keep the names that the weight map uses.
    """

    # What it is.
    kind: ClassVar[Literal["decoder", "encoder", "encoder-decoder"]] = "decoder"
    """Whether it reads from left to right, in both directions, or a source in both and a target
    from left to right."""
    pretraining_task: ClassVar[str] = "language"
    """What it is pre-trained for: a file of tasks/."""
    position_kind: ClassVar[str] = "learned"
    """How it encodes positions, for reports; a field `positions` of the Config says more."""
    grows_context: ClassVar[bool] = False
    """Whether training may begin with short windows that grow: rotary positions learn long
    distances from short ones, learned positions do not."""
    is_recurrent: ClassVar[bool] = False
    """Whether a state is passed on from one window to the next, so that a text must be read in its
    order; such a model overrides `recurrent_state`."""

    has_head: ClassVar[bool] = False
    """Whether it has a head for tokens itself, which `logits` then uses; a task makes none."""

    # Which of its layers others may replace, by the last part of their name.
    LORA_TARGETS: ClassVar[tuple[str, ...]] = TARGETS
    """Layers that get LoRA adapters."""
    PACKED_LAYERS: ClassVar[tuple[str, ...]] = (*TARGETS, "key")
    """Linear layers that become `PackedLinear` or `Int8Linear` for inference."""

    # The same model in transformers; without one, the defaults stay.
    HF_CLASSES: ClassVar[tuple[HFClass, ...]] = ()
    """Classes of transformers: their config.json and ours (`hf_classes`)."""
    labels_in_hf: ClassVar[bool] = True
    """Whether transformers has the same model with a head for labels, of a decoder."""
    note: ClassVar[str | None] = None
    """What a user of such a model is told, in one line."""
    HF_WEIGHT_MAP: ClassVar[tuple[WeightName, ...]] = ()
    """Parameter names here and there, where they are the same in all classes."""

    def __init__(
        self, config: BaseConfig, embed: Embedding, blocks: Sequence[nn.Module], norm: nn.Module
    ) -> None:
        super().__init__()
        self.config = config
        self.embed = embed
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.logit_softcap: float | None = None
        """Largest absolute logit, reached smoothly (Gemma 2); None: no limit."""

    def init_weights(self) -> None:
        """Draws fresh weights (`nn.init.init_weights`)."""
        raise NotImplementedError

    def forward(
        self, tokens: Tensor, cache: Cache | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """Hidden states of tokens.

        Args:
            tokens: (B, T) int64.
            cache: of earlier calls (`new_cache`); extended by this call.
            positions: (T,) or (B, T); by default they follow those in the cache. A negative
                position is padding on the left, where rows of the cache cannot be ragged.

        Returns:
            (B, T, C), after the last norm.
        """
        # 1. token and position embeddings
        context = forward_context(tokens, positions, cache.length if cache else 0)
        x = self.embed(tokens, context.positions)  # (B, T, C)
        # 2. the blocks, each with its part of the cache
        for index, block in enumerate(self.blocks):
            x = block(x, context, cache.layers[index] if cache else EMPTY)  # (B, T, C)
        if cache:
            cache.length += tokens.size(1)
        # 3. the last norm; the task's head or the tied embedding makes logits of it
        return self.norm(x)  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor, head: nn.Module | None) -> Tensor:
        """Hidden states (B, T, C) -> logits (B, T, V), by a task's head, or by the embedding table
        it is tied to."""
        logits = F.linear(hidden, self.embed.token.weight) if head is None else head(hidden)
        if self.logit_softcap is None:
            return logits
        # bfloat16 would round differences between likely tokens away
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        capped: Tensor = (wide / self.logit_softcap).tanh() * self.logit_softcap
        return capped

    @property
    def max_position(self) -> int | None:
        """The longest sequence it can read at once, in tokens; None: there is no limit."""
        return self.config.context_length

    def new_cache(self, batch: int, capacity: int) -> Cache:
        """An empty KV cache for `batch` rows of up to `capacity` positions."""
        # keys and values in the dtype that the matmuls give, so that nothing is converted
        device = self.embed.token.weight.device
        autocast = torch.is_autocast_enabled(device.type)
        layers = []
        for block in self.blocks:
            attention = cast(Block, block).attention
            dtype = attention.kv_dtype or attention.qkv.weight.dtype
            if autocast:
                dtype = torch.get_autocast_dtype(device.type)
            heads, size = attention.kv_heads, attention.head_dim
            keys_values = KVCache(batch, capacity, heads, size, dtype, device)
            layers.append(LayerCache(self_attn=keys_values))
        return Cache(layers)

    def recurrent_state(self, batch: int, memory: int | None = None) -> Cache | None:
        """The empty state that is passed on from one window of a text to the next; None: none is.

        Args:
            batch: rows.
            memory: positions to keep, instead of the number in the config.
        """
        return None

    def aux_loss(self) -> Tensor | None:
        """A scalar that is added to the training loss after a forward pass, such as the load
        balancing loss of a mixture of experts; None: there is none."""
        return None

    def param_groups(self, groups: Groups) -> Groups:
        """Which weights an optimizer treats as matrices (train/optim/base.py); by default those of
        rank 2 inside the blocks."""
        return groups

    # The same model in transformers.

    @classmethod
    def hf_classes(cls) -> tuple[HFClass, ...]:
        """`HF_CLASSES`; overridden where long tables are read only when they are needed."""
        return cls.HF_CLASSES

    @classmethod
    def to_hf_config(cls, config: Any) -> dict[str, Any] | None:
        """The config.json of the same model in transformers; None where there is none."""
        return write_hf_config(cls.hf_classes(), config)

    @classmethod
    def from_hf_config(cls, hf_config: Mapping[str, Any]) -> dict[str, Any] | None:
        """The fields of Config that a config.json of transformers asks for; None where it is
        another architecture's. The inverse of `to_hf_config`.

        Raises:
            SettingError: names a field that is wrong, or that this architecture cannot express.
        """
        return read_hf_config(cls.hf_classes(), hf_config)

    @classmethod
    def task_of(cls, config: Any) -> str:
        """`pretraining_task` of a model with this Config."""
        return cls.pretraining_task

    @classmethod
    def hf_weight_map(cls, config: Any) -> tuple[WeightName, ...]:
        """`HF_WEIGHT_MAP` of the class that this Config is saved as."""
        return cls.HF_WEIGHT_MAP

    @classmethod
    def fused_sizes(cls, config: Any) -> FusedSizes:
        """Where fused matrices are split for transformers: `parts` of the weight map -> rows."""
        return {}

    @classmethod
    def to_hf_weights(cls, config: Any, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our weights as transformers stores them; overridden where the table does not suffice."""
        table, sizes = cls.hf_weight_map(config), cls.fused_sizes(config)
        return rename_to_hf(weights, table, config.deepest_stack, sizes)

    @classmethod
    def from_hf_weights(cls, config: Any, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of `to_hf_weights`.

        Raises:
            DamagedError: weights that are missing or that this architecture does not have.
        """
        table, sizes = cls.hf_weight_map(config), cls.fused_sizes(config)
        return rename_from_hf(weights, table, config.deepest_stack, sizes)

    # What it costs (shared/cost.py), where weights and attention layers do not tell all.

    @classmethod
    def mixing_flops(cls, config: Any) -> int | None:
        """Forward FLOPs per token between positions; None: counted from the attention layers."""
        return None

    @classmethod
    def inactive_weights(cls, config: Any) -> int:
        """Weights of matrices that a token does not pass through: experts it is not routed to."""
        return 0

    @classmethod
    def state_size(cls, config: Any) -> int | None:
        """Numbers that generation keeps of one sequence; None: counted from the KV cache."""
        return None
