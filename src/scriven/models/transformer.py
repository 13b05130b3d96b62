"""The encoder-decoder of "Attention Is All You Need" (Vaswani et al. 2017, section 3).

Norm after each residual sum, sinusoidal positions, ReLU, and one matrix that reads source and
target and writes the target. Loads in Hugging Face as MarianMTModel.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SettingError
from ..nn.attention import Attention
from ..nn.block import Block, post_norm, pre_norm
from ..nn.cache import EMPTY, Cache, CrossCache
from ..nn.embeddings import Embedding, SinusoidalPositions
from ..nn.init import init_weights, normal, ones, zeros
from ..nn.mask import AttentionMask, forward_context
from ..nn.mlp import MLP
from ..nn.norm import LayerNorm
from .base import Architecture, check
from .shared.hf_config import Theirs, flag, is_kind, number, only, whole
from .shared.weight_map import Name

TASK = "seq2seq"


@dataclass(frozen=True)
class Config:
    """The shape of the model."""

    vocab_size: int = 0
    """Number of tokens, of source and target together; set from the tokenizer."""
    context_length: int = 256
    """Longest source, and longest target, in tokens."""
    layers: int = 4
    """Blocks of the decoder."""
    encoder_layers: int | None = None
    """Blocks of the encoder; auto: as many as the decoder has."""
    heads: int = 4
    """Attention heads per block."""
    d_model: int = 128
    """Size of a token's vector."""
    d_ff: int | None = None
    """Size of the feed-forward layer; auto: four times the width."""
    activation: Literal["relu", "gelu"] = "relu"
    """Between the two feed-forward layers."""
    norm: Literal["post", "pre"] = "post"
    """Norm after each residual sum (the paper), or before each sublayer and once at the end."""
    dropout: float = 0.0
    """Share of embeddings and sublayer outputs dropped while training."""
    tie_embeddings: bool = True
    """One matrix for reading and for writing tokens."""

    def __post_init__(self) -> None:
        names = ("context_length", "layers", "encoder_layers", "heads", "d_model", "d_ff")
        check(self, **{name: getattr(self, name) for name in names})
        if self.context_length < 4:  # room for a start, a mark and two tokens
            raise SettingError(f"--model.context_length={self.context_length}: at least 4")
        if self.size_of_encoder > 10_000:
            raise SettingError(f"--model.encoder_layers={self.encoder_layers}: at most 10,000")

    @property
    def size_of_hidden(self) -> int:
        """The feed-forward size in use."""
        return self.d_ff or 4 * self.d_model

    @property
    def size_of_encoder(self) -> int:
        """Blocks of the encoder."""
        return self.encoder_layers or self.layers


def block(config: Config, *, decoder: bool) -> Block:
    """One layer; a decoder's sees only what came before, and all of the source."""

    def attention(*, causal: bool) -> Attention:
        rule = AttentionMask(causal=causal)
        return Attention(config.d_model, config.heads, mask=rule, dropout=config.dropout)

    activation = F.relu if config.activation == "relu" else F.gelu
    mlp = MLP(config.d_model, config.size_of_hidden, activation, dropout=config.dropout)
    return Block(
        post_norm if config.norm == "post" else pre_norm,
        attention(causal=decoder),
        LayerNorm(config.d_model),
        mlp,
        LayerNorm(config.d_model),
        attention(causal=False) if decoder else None,
        LayerNorm(config.d_model) if decoder else None,
    )


def last_norm(config: Config) -> nn.Module:
    """Pre-norm leaves the residual sum as it is, so a last norm follows its stack."""
    return LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()


class Encoder(nn.Module):
    """The stack that reads the source, all of it at once."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        blocks = [block(config, decoder=False) for _ in range(config.size_of_encoder)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = last_norm(config)


class Model(Architecture):
    """An encoder, and a decoder (`blocks`, `norm`) that looks at what it made."""

    kind = "encoder-decoder"
    config: Config

    def __init__(self, config: Config) -> None:
        position = SinusoidalPositions(config.context_length, config.d_model, halves=True)
        scale = config.d_model**0.5
        embed = Embedding(config.vocab_size, config.d_model, position, config.dropout, scale)
        blocks = [block(config, decoder=True) for _ in range(config.layers)]
        super().__init__(config, embed, blocks, last_norm(config))
        self.encoder = Encoder(config)

    def encode(self, source: Tensor, source_positions: Tensor | None = None) -> Tensor:
        """Source tokens (B, S) at (S,) or (B, S), negative for padding -> (B, S, W)."""
        where = forward_context(source, source_positions, 0)
        x = self.embed(source, where.positions)
        for layer in self.encoder.blocks:
            x = layer(x, where)
        return self.encoder.norm(x)  # type: ignore[no-any-return]

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
            tokens, state, at: as for every Backbone; a state holds what `read` left behind.
            source: (B, S) int64, where there is no state.
            source_at: (S,) or (B, S) its positions, negative for padding; None: 0, 1, 2 ...
            encoded: (B, S, W) of `encode`, for a caller who needs it too.

        Returns:
            (B, T, W), after the last norm.
        """
        if cache is not None:
            encoded, source_positions = cache.source, cache.source_positions
        else:
            if encoded is None:
                assert source is not None, "an encoder-decoder needs a source"
                encoded = self.encode(source, source_positions)
            source_positions = _places(encoded, source_positions)
        where = forward_context(tokens, positions, cache.length if cache else 0)
        x = self.embed(tokens, where.positions)
        for index, layer in enumerate(self.blocks):
            memory = cache.layers[index] if cache else EMPTY
            x = layer(x, where, memory, encoded, source_positions)
        if cache:
            cache.length += tokens.size(1)
        return self.norm(x)  # type: ignore[no-any-return]

    def encode_source(self, source: Tensor, source_positions: Tensor | None, cache: Cache) -> None:
        """Encodes a source (B, S) once for all tokens that will be written with `state`."""
        cache.source, cache.source_ids = self.encode(source, source_positions), source
        cache.source_positions = _places(cache.source, source_positions)
        for layer in cache.layers:
            layer.cross = CrossCache()

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


def _places(encoded: Tensor, source_positions: Tensor | None) -> Tensor:
    """Positions of a source whose caller left them open."""
    if source_positions is not None:
        return source_positions
    return torch.arange(encoded.size(1), device=encoded.device)


def _linear(ours: str, theirs: str) -> list[Name]:
    return [Name(f"{ours}.{part}", f"{theirs}.{part}") for part in ("weight", "bias")]


def _attention(ours: str, theirs: str) -> list[Name]:
    """Their queries, keys and values are three layers, ours one."""
    names = _linear(f"{ours}.out", f"{theirs}.out_proj")
    for part in ("weight", "bias"):
        cut = tuple(f"{theirs}.{which}_proj.{part}" for which in "qkv")
        names.append(Name(f"{ours}.qkv.{part}", cut, parts="qkv"))
    return names


def _stack(ours: str, theirs: str) -> list[Name]:
    return [
        *_attention(f"{ours}.attention", f"{theirs}.self_attn"),
        *_linear(f"{ours}.attention_norm", f"{theirs}.self_attn_layer_norm"),
        *_linear(f"{ours}.mlp.up", f"{theirs}.fc1"),
        *_linear(f"{ours}.mlp.down", f"{theirs}.fc2"),
        *_linear(f"{ours}.mlp_norm", f"{theirs}.final_layer_norm"),
    ]


NAMES = (
    Name("backbone.embed.token.weight", "model.shared.weight"),
    *_stack("backbone.encoder.blocks.{n}", "model.encoder.layers.{n}"),
    *_stack("backbone.blocks.{n}", "model.decoder.layers.{n}"),
    *_attention("backbone.blocks.{n}.cross", "model.decoder.layers.{n}.encoder_attn"),
    *_linear("backbone.blocks.{n}.cross_norm", "model.decoder.layers.{n}.encoder_attn_layer_norm"),
)


def sizes(config: Config) -> dict[str, list[int]]:
    """Where fused matrices are cut for NAMES."""
    return {"qkv": [config.d_model] * 3}


def foreign(config: Config) -> dict[str, Any] | None:
    """Hugging Face's config.json; Marian knows neither pre-norm nor an untied head."""
    if config.norm == "pre" or not config.tie_embeddings:
        return None
    return {
        "architectures": ["MarianMTModel"],
        "model_type": "marian",
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "decoder_vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "d_model": config.d_model,
        "encoder_layers": config.size_of_encoder,
        "decoder_layers": config.layers,
        "encoder_attention_heads": config.heads,
        "decoder_attention_heads": config.heads,
        "encoder_ffn_dim": config.size_of_hidden,
        "decoder_ffn_dim": config.size_of_hidden,
        "activation_function": config.activation,
        "normalize_before": False,
        "static_position_embeddings": True,
        "scale_embedding": True,
        "share_encoder_decoder_embeddings": True,
        "dropout": config.dropout,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "forced_eos_token_id": None,
        "tie_word_embeddings": True,
    }


def adopt(theirs: Theirs) -> dict[str, Any] | None:
    """The fields of Config that a Hugging Face config.json asks for; None where it is no Marian.

    Raises:
        SettingError: names the field that this file cannot express.
    """
    if not is_kind(theirs, "MarianMTModel", "marian"):
        return None
    heads, d_ff = whole(theirs, "decoder_attention_heads"), whole(theirs, "decoder_ffn_dim")
    only(
        {"scale_embedding": False, **theirs},  # as its class has it where the file is silent
        encoder_attention_heads=(heads,),
        encoder_ffn_dim=(d_ff,),
        activation_function=("relu", "gelu"),
        scale_embedding=(True,),
        share_encoder_decoder_embeddings=(True,),
        decoder_vocab_size=(whole(theirs, "vocab_size"),),
        normalize_before=(False,),
        normalize_embedding=(False,),
        add_final_layer_norm=(False,),
        tie_word_embeddings=(True,),
    )
    return {
        "vocab_size": whole(theirs, "vocab_size"),
        "context_length": whole(theirs, "max_position_embeddings", default=1024),
        "layers": whole(theirs, "decoder_layers"),
        "encoder_layers": whole(theirs, "encoder_layers"),
        "heads": heads,
        "d_model": whole(theirs, "d_model"),
        "d_ff": d_ff,
        "activation": theirs.get("activation_function", "gelu"),
        "dropout": number(theirs, "dropout", default=0.1),
        "tie_embeddings": flag(theirs, "tie_word_embeddings", True),
    }
