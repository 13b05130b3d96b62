"""The encoder-decoder of "Attention Is All You Need" (Vaswani et al. 2017, section 3).

Norm after each residual sum, sinusoidal positions, ReLU, and one matrix that reads source and
target and writes the target. Loads in Hugging Face as MarianMTModel.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import SettingError
from ..nn.attention import Attention
from ..nn.block import (
    ACTIVATIONS,
    MLP,
    Block,
    init_weights,
    normal,
    ones,
    post_norm,
    pre_norm,
    zeros,
)
from ..nn.cache import EMPTY, Cache, CrossCache
from ..nn.embeddings import AttentionMask, Embedding, SinusoidalPositions, forward_context
from ..nn.norm import LayerNorm
from .base import Architecture, TransformerConfig
from .shared.hf_config import (
    Fields,
    HFClass,
    HFConfig,
    Row,
    activation_row,
    integer,
    number,
    require,
    row,
)
from .shared.weight_map import FusedSizes, WeightName


@dataclass(frozen=True)
class Config(TransformerConfig):
    """The shape of the model."""

    vocab_size: int = 0
    """Number of tokens, of source and target together; set from the tokenizer."""
    context_length: int = 256
    """Maximum length of source and of target, in tokens."""
    layers: int = 4
    """Number of decoder blocks."""
    encoder_layers: int | None = None
    """Number of encoder blocks; auto: as many as the decoder has."""
    activation: Literal["relu", "gelu", "gelu_tanh", "silu"] = "relu"
    """Activation function of the feed-forward layer."""
    norm: Literal["post", "pre"] = "post"
    """post-norm, after each residual sum (the paper), or pre-norm, with a final norm."""
    dropout: float = 0.0
    """Dropout probability of embeddings and sublayer outputs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.context_length < 4:  # room for a start token, an end token and two tokens
            raise SettingError(f"--model.context_length={self.context_length}: at least 4")
        if self.depth_of_encoder > 10_000:
            raise SettingError(f"--model.encoder_layers={self.encoder_layers}: at most 10,000")

    @property
    def depth_of_encoder(self) -> int:
        """Blocks of the encoder."""
        return self.encoder_layers or self.layers

    @property
    def total_layers(self) -> int:
        return self.layers + self.depth_of_encoder

    @property
    def deepest_stack(self) -> int:
        return max(self.layers, self.depth_of_encoder)


def block(config: Config, *, decoder: bool) -> Block:
    """One layer; a decoder's sees only earlier tokens, and all of the source."""

    def attention(*, causal: bool) -> Attention:
        mask = AttentionMask(causal=causal)
        # no dropout of attention weights: the paper has none, and Marian 0.0
        return Attention(config.d_model, config.heads, mask=mask, dropout=config.dropout)

    def layer_norm() -> LayerNorm:
        return LayerNorm(config.d_model, config.norm_eps)

    return Block(
        post_norm if config.norm == "post" else pre_norm,
        attention(causal=decoder),
        layer_norm(),
        MLP(config.d_model, config.ff_size, ACTIVATIONS[config.activation], dropout=config.dropout),
        layer_norm(),
        attention(causal=False) if decoder else None,
        layer_norm() if decoder else None,
    )


def last_norm(config: Config) -> nn.Module:
    """Pre-norm leaves the residual sum as it is, so a last norm follows its stack."""
    pre = config.norm == "pre"
    return LayerNorm(config.d_model, config.norm_eps) if pre else nn.Identity()


class Encoder(nn.Module):
    """The stack that reads the source, all of it at once."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        blocks = [block(config, decoder=False) for _ in range(config.depth_of_encoder)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = last_norm(config)


def _linear(ours: str, hf: str) -> list[WeightName]:
    return [WeightName(f"{ours}.{part}", f"{hf}.{part}") for part in ("weight", "bias")]


def _attention(ours: str, hf: str) -> list[WeightName]:
    """Queries, keys and values are three layers there, one here."""
    names = _linear(f"{ours}.out", f"{hf}.out_proj")
    for part in ("weight", "bias"):
        qkv = tuple(f"{hf}.{which}_proj.{part}" for which in "qkv")
        names.append(WeightName(f"{ours}.qkv.{part}", qkv, parts="qkv"))
    return names


def _stack(ours: str, hf: str) -> list[WeightName]:
    return [
        *_attention(f"{ours}.attention", f"{hf}.self_attn"),
        *_linear(f"{ours}.attention_norm", f"{hf}.self_attn_layer_norm"),
        *_linear(f"{ours}.mlp.up", f"{hf}.fc1"),
        *_linear(f"{ours}.mlp.down", f"{hf}.fc2"),
        *_linear(f"{ours}.mlp_norm", f"{hf}.final_layer_norm"),
    ]


def _both(name: str, hf_name: str, kind: Callable[..., Any] = integer, value: str = "") -> Row:
    """A field of Config that encoder and decoder have apart there."""
    names = [f"{side}_{hf_name}" for side in ("decoder", "encoder")]

    def read(hf_config: HFConfig, known: Fields) -> Fields:
        size = kind(hf_config, names[0])
        require(hf_config, **{names[1]: (size,)})
        return {name: size}

    return Row((name,), read, lambda config: dict.fromkeys(names, getattr(config, value or name)))


def _read_vocabulary(hf_config: HFConfig, known: Fields) -> Fields:
    size = integer(hf_config, "vocab_size")
    require(hf_config, decoder_vocab_size=(size,))
    return {"vocab_size": size}


HF_CLASS = HFClass(
    "MarianMTModel",
    "marian",
    (
        Row(
            ("vocab_size",),
            _read_vocabulary,
            lambda config: dict.fromkeys(("vocab_size", "decoder_vocab_size"), config.vocab_size),
        ),
        row("context_length", "max_position_embeddings", default=1024),
        row("d_model", "d_model"),
        row("layers", "decoder_layers"),
        row("encoder_layers", "encoder_layers", value="depth_of_encoder"),
        _both("heads", "attention_heads"),
        _both("d_ff", "ffn_dim", value="ff_size"),
        activation_row("activation_function", "gelu"),
        row("dropout", "dropout", number, 0.1),
    ),
    fields={"tie_embeddings": True, "norm": "post", "norm_eps": 1e-5},
    hf_config={
        "is_encoder_decoder": True,
        "normalize_before": False,
        "normalize_embedding": False,
        "add_final_layer_norm": False,
        "static_position_embeddings": True,
        "scale_embedding": True,
        "share_encoder_decoder_embeddings": True,
        "tie_word_embeddings": True,
    },
    written={"attention_dropout": 0.0, "activation_dropout": 0.0, "forced_eos_token_id": None},
    hf_defaults={"scale_embedding": False},
)

OURS, HF = "backbone.blocks.{n}", "model.decoder.layers.{n}"


class Model(Architecture):
    """An encoder, and a decoder (`blocks`, `norm`) that attends to its output."""

    kind = "encoder-decoder"
    pretraining_task = "seq2seq"
    position_kind = "sinusoidal"
    config: Config
    HF_CLASSES = (HF_CLASS,)
    HF_WEIGHT_MAP = (
        WeightName("backbone.embed.token.weight", "model.shared.weight"),
        *_stack("backbone.encoder.blocks.{n}", "model.encoder.layers.{n}"),
        *_stack(OURS, HF),
        *_attention(f"{OURS}.cross", f"{HF}.encoder_attn"),
        *_linear(f"{OURS}.cross_norm", f"{HF}.encoder_attn_layer_norm"),
    )

    def __init__(self, config: Config) -> None:
        position = SinusoidalPositions(config.context_length, config.d_model, halves=True)
        scale = config.d_model**0.5
        embed = Embedding(config.vocab_size, config.d_model, position, config.dropout, scale)
        blocks = [block(config, decoder=True) for _ in range(config.layers)]
        super().__init__(config, embed, blocks, last_norm(config))
        self.encoder = Encoder(config)

    def init_weights(self) -> None:
        """Output projections start at zero, so each block starts as its norms alone.

        Post-norm otherwise needs a long warm-up (Xiong et al. 2020, section 3.3). Token vectors
        are short enough for a first loss near that of a guess, and long enough to be heard beside
        the positions.
        """
        table = [
            ("norm.weight", ones),
            ("bias", zeros),
            ("out.weight", zeros),
            ("down.weight", zeros),
            ("token.weight", normal(0.4 * self.config.d_model**-0.5)),
            ("weight", normal(self.config.d_model**-0.5)),
        ]
        init_weights(self, table)

    def encode(self, source: Tensor, source_positions: Tensor | None = None) -> Tensor:
        """Source tokens (B, S) at (S,) or (B, S), negative for padding -> (B, S, C)."""
        context = forward_context(source, source_positions, 0)
        x = self.embed(source, context.positions)  # the same matrix as for the target
        for layer in self.encoder.blocks:
            x = layer(x, context)
        return self.encoder.norm(x)  # type: ignore[no-any-return]

    def encode_source(self, source: Tensor, source_positions: Tensor | None, cache: Cache) -> None:
        """Encodes a source (B, S) once, for all tokens that are decoded with `cache`."""
        cache.source, cache.source_ids = self.encode(source, source_positions), source
        cache.source_positions = _positions_of(cache.source, source_positions)
        for layer in cache.layers:
            layer.cross = CrossCache()

    def forward(
        self,
        tokens: Tensor,
        cache: Cache | None = None,
        positions: Tensor | None = None,
        source: Tensor | None = None,
        source_positions: Tensor | None = None,
        encoded: Tensor | None = None,
    ) -> Tensor:
        """Hidden states of target tokens.

        Args:
            tokens, cache, positions: as for every Architecture; a cache holds the encoded source.
            source: (B, S) int64, where there is no cache.
            source_positions: (S,) or (B, S), negative for padding; None: 0, 1, 2 ...
            encoded: (B, S, C) of `encode`, for a caller who needs it too.

        Returns:
            (B, T, C), after the last norm.
        """
        # 1. the encoder's output (B, S, C)
        if cache is not None:
            encoded, source_positions = cache.source, cache.source_positions
        else:
            if encoded is None:
                assert source is not None, "an encoder-decoder needs a source"
                encoded = self.encode(source, source_positions)
            source_positions = _positions_of(encoded, source_positions)
        # 2. the decoder
        context = forward_context(tokens, positions, cache.length if cache else 0)
        x = self.embed(tokens, context.positions)
        for index, layer in enumerate(self.blocks):
            layer_cache = cache.layers[index] if cache else EMPTY
            x = layer(x, context, layer_cache, encoded, source_positions)  # (B, T, C)
        if cache:
            cache.length += tokens.size(1)
        return self.norm(x)  # type: ignore[no-any-return]

    @classmethod
    def fused_sizes(cls, config: Config) -> FusedSizes:
        return {"qkv": [config.d_model] * 3}


def _positions_of(encoded: Tensor, source_positions: Tensor | None) -> Tensor:
    """Positions of a source whose caller left them open."""
    if source_positions is not None:
        return source_positions
    return torch.arange(encoded.size(1), device=encoded.device)
