"""What every architecture shares: the contract that training, generation and exchange rely on.

An architecture file holds
    Config      a frozen dataclass with help under each field
    Model       a Backbone: tokens in, hidden states out; it has no head and no loss
    NAMES       parameter names here -> Hugging Face, as data (names.py), with sizes for its cuts
    foreign     the Hugging Face config.json of a Config, or None where no twin exists
    adopt       the inverse of foreign, for imports; a file may lack it (theirs.py)
    GROWS       True where windows may be short when training begins and grow: rotations teach long
                distances by short ones, learned positions do not; False where it says nothing
    TASK        what it is pre-trained for, a file of tasks/; `language` where it says nothing
"""

import dataclasses
import math
from types import ModuleType
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn

from ..errors import SettingError
from ..nn.block import Block
from ..nn.cache import EMPTY, Cache, KVCache, LayerCache
from ..nn.embeddings import Embedding
from ..nn.mask import forward_context


class Shape(Protocol):
    """The fields every Config has."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def context_length(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def d_model(self) -> int: ...
    @property
    def tie_embeddings(self) -> bool: ...


class Architecture(nn.Module):
    """A stack of blocks between an embedding and a last norm."""

    kind: Literal["decoder", "encoder", "encoder-decoder"] = "decoder"
    """Whether it reads from left to right, in both directions, or a source in both and a target
    from left to right."""

    def __init__(
        self, config: Shape, embed: Embedding, blocks: list[Block], norm: nn.Module
    ) -> None:
        super().__init__()
        self.config = config
        self.embed = embed
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm

    def forward(
        self, tokens: Tensor, cache: Cache | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """Hidden states of tokens.

        Args:
            tokens: (B, T) int64.
            state: what earlier calls left behind (`new_state`); extended by this call.
            at: (T,) or (B, T) positions; by default they follow those in `state`. A negative
                position is padding on the left, where the state has no slots for positions.

        Returns:
            (B, T, W), after the last norm.
        """
        where = forward_context(tokens, positions, cache.length if cache else 0)
        x = self.embed(tokens, where.positions)
        for index, block in enumerate(self.blocks):
            x = block(x, where, cache.layers[index] if cache else EMPTY)
        if cache:
            cache.length += tokens.size(1)
        return self.norm(x)  # type: ignore[no-any-return]

    @property
    def max_position(self) -> int | None:
        """The longest text it can read at once, in tokens; None: there is no limit."""
        return self.config.context_length

    def recurrent_state(self, batch: int, memory: int | None = None) -> Cache | None:
        """What is handed on from one window of a text to the next; None: nothing is.

        Args:
            batch: rows.
            memory: positions to keep, instead of the number in the config.
        """
        return None

    @property
    def is_recurrent(self) -> bool:
        """Whether something is handed on, so that a text must be read in its order."""
        return type(self).recurrent_state is not Architecture.recurrent_state

    def new_cache(self, batch: int, capacity: int) -> Cache:
        """An empty key/value cache for `batch` rows of up to `capacity` positions."""
        device = self.embed.token.weight.device
        mixed = torch.is_autocast_enabled(device.type)
        layers = []
        for block in self.blocks:
            attention = cast(Block, block).attention
            dtype = torch.get_autocast_dtype(device.type) if mixed else attention.cache_dtype
            heads, size = attention.kv_heads, attention.head_dim
            cache = KVCache(batch, capacity, heads, size, dtype, device)
            layers.append(LayerCache(self_attn=cache))
        return Cache(layers)


def pretraining(architecture: ModuleType) -> str:
    """The task an architecture is pre-trained for: a file name in tasks/."""
    return str(getattr(architecture, "TASK", "language"))


def check(config: Any, **positive: int | None) -> None:
    """Refuses shapes that cannot be built, before anything is allocated.

    Raises:
        SettingError: names the flag and the possible range.
    """
    for name, value in positive.items():
        if value is not None and not 1 <= value <= 2**31:
            raise SettingError(f"--model.{name}={value}: a whole number from 1 upwards is needed")
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name != "dropout" and isinstance(value, float) and not 0 < value < math.inf:
            raise SettingError(f"--model.{field.name}={value}: a number above 0 is needed")
    if config.layers > 10_000:
        raise SettingError(f"--model.layers={config.layers}: at most 10,000")
    if not 0 <= config.dropout < 1:
        raise SettingError(f"--model.dropout={config.dropout}: from 0 up to (not including) 1")
    heads = getattr(config, "heads", 1)
    if config.d_model % heads and getattr(config, "head_dim", None) is None:
        raise SettingError(
            f"--model.d_model={config.d_model} cannot be divided into --model.heads={heads}: "
            f"use a width of {heads * max(1, round(config.d_model / heads))}"
        )
