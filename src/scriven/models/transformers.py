"""Models of transformers that have no architecture here: their classes behind our hooks.

Any causal, masked or sequence-to-sequence model that transformers can build from a config.json. It
computes what it computes there, at the speed it has there. No code of a model's folder is ever run.
"""

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import DamagedError, SettingError
from ..nn.cache import Cache, LayerCache
from .base import Architecture, BaseConfig
from .shared.foreign import (
    ForeignCache,
    HandThrough,
    HFEmbedding,
    add_tied,
    build_config,
    drop_tied,
    find_class,
    require_transformers,
    tie,
)
from .shared.hf_config import HFConfig

TASKS = {"decoder": "language", "encoder": "masked", "encoder-decoder": "seq2seq"}
"""What each kind of model is pre-trained for."""
DEFAULT_CONTEXT = 1024
"""Tokens, where a config names no longest sequence: distances have no end there."""
PREFIX = "backbone.model."
"""What the names of weights have before those of transformers."""
LENGTHS = ("max_position_embeddings", "n_positions", "seq_length")
"""What the longest sequence is called."""
IGNORED = ("auto_map", "quantization_config", "attn_implementation", "dtype", "torch_dtype",
           "transformers_version", "output_router_logits")  # fmt: skip
"""Fields of config.json that are not passed on: they name code, or decide nothing here."""


@dataclass(frozen=True)
class Config(BaseConfig):
    """Which model it is; its sizes are those of its config.json."""

    kind: Literal["decoder", "encoder", "encoder-decoder"] = "decoder"
    """How it reads a text."""
    hf_class: str | None = None
    """Its class in transformers."""
    hf_config: str | None = None
    """Its config.json."""


class Model(Architecture):
    """A model of transformers behind the hooks of an architecture.

    Raises:
        SettingError: there is no config.json to build it from. MissingExtra: no transformers.
    """

    config: Config
    position_kind = "as in transformers"
    labels_in_hf, has_head = False, True
    note = (
        "it runs inside transformers, as it has no architecture here: slower, and the same values"
    )
    PACKED_LAYERS = ()
    LORA_TARGETS = (
        *(f"{part}_proj" for part in ("q", "k", "v", "o", "out", "qkv", "gate", "up", "down")),
        *(f"{part}_proj" for part in ("gate_up", "in", "query", "key", "value")),
        *("q", "k", "v", "o", "query", "key", "value", "query_key_value", "Wqkv", "c_attn"),
        *("wi", "wi_0", "wi_1", "wo", "Wi", "Wo", "fc1", "fc2", "fc_in", "fc_out", "lin1", "lin2"),
        *("dense", "dense_h_to_4h", "dense_4h_to_h", "c_fc", "c_proj", "ffn", "ffn_output"),
        *("q_lin", "k_lin", "v_lin", "out_lin"),
    )
    """Linear layers that models of transformers have in their blocks."""

    def __init__(self, config: Config) -> None:
        nn.Module.__init__(self)  # its parts are those of transformers
        if config.hf_config is None:
            raise SettingError(
                "--arch transformers holds models of other people: go on from one with --from"
            )
        require_transformers(str(config.hf_class))
        import transformers
        from transformers.initialization import no_init_weights

        self.config = config
        self.kind = config.kind  # type: ignore[misc]
        self.model: Any
        hf_config = build_config(config.hf_config)
        for part in (hf_config, hf_config.get_text_config()):
            part.vocab_size = config.vocab_size
        with no_init_weights():
            self.model = getattr(transformers, str(config.hf_class))(hf_config)
        self.model.eval()
        self.model.tie_weights()  # which is left out on the `meta` device
        hooks: Any = self
        hooks.register_load_state_dict_pre_hook(add_tied)
        hooks.register_load_state_dict_post_hook(tie)
        hooks.register_state_dict_post_hook(drop_tied)

    def init_weights(self) -> None:
        """As transformers draws them."""
        fresh = type(self.model)(self.model.config)
        self.model.load_state_dict(fresh.state_dict())

    @property
    def embed(self) -> Any:
        """The input embedding, as `Embedding` holds it."""
        return HFEmbedding(self.model.get_input_embeddings())

    @embed.setter
    def embed(self, value: object) -> None:
        raise AttributeError("this is a part of the model of transformers")

    @property
    def blocks(self) -> Any:
        """The longest list of layers; of an encoder-decoder it is one of the two."""
        lists = [part for part in self.model.modules() if isinstance(part, nn.ModuleList)]
        return max(lists, key=len, default=nn.ModuleList())

    @blocks.setter
    def blocks(self, value: object) -> None:
        raise AttributeError("this is a part of the model of transformers")

    @property
    def body(self) -> Any:
        """What makes hidden states of tokens."""
        if self.config.kind == "encoder-decoder":
            return self.model.get_decoder()
        return self.model.base_model

    @cached_property
    def _accepted(self) -> frozenset[str]:
        return frozenset(inspect.signature(self.body.forward).parameters)

    @cached_property
    def _head(self) -> Any:
        """The model with something in the place of its body that hands hidden states through: what
        it does with them is its head, with all its scales, biases and soft caps."""
        kind: Any = type(self.model)
        head = kind.__new__(kind)
        head.__dict__ = {**self.model.__dict__, "_modules": dict(self.model._modules)}
        body = self.model.base_model_prefix
        for name in [body] if body in head._modules else ["encoder", "decoder"]:
            head._modules[name] = HandThrough()
        return [head]  # in a list, so that it is not a module of this one

    def forward(
        self,
        tokens: Tensor,
        cache: Cache | None = None,
        positions: Tensor | None = None,
        source: Tensor | None = None,
        source_positions: Tensor | None = None,
        encoded: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, T, C) of tokens (B, T), as every architecture and encoder-decoder."""
        given: dict[str, Any] = {}
        # 1. padding has a mask there; a cache knows that of the tokens before
        seen = None if positions is None else (positions >= 0).expand(tokens.shape)
        if seen is not None and not bool(seen.all()):
            tokens = tokens.masked_fill(~seen, self._padding)
        kept: Any = cache.layers[0].self_attn if cache else None
        hf_cache: ForeignCache | None = kept
        if hf_cache is not None:
            seen = torch.ones_like(tokens, dtype=torch.bool) if seen is None else seen
            tokens, seen, positions = hf_cache.extend(tokens, seen, positions)
            given |= {"past_key_values": hf_cache.past, "use_cache": self.config.kind != "encoder"}
        if seen is not None:
            given["attention_mask"] = seen.long()
            if self.config.kind == "decoder" or not bool(seen[:, 0].all()):
                at = (
                    seen.long().cumsum(-1)[:, -tokens.size(1) :] - 1
                    if positions is None
                    else (positions.expand(tokens.shape))
                )
                given["position_ids"] = at.clamp(min=0)
        if "padding_idx" in self._positions_from_ids:
            given.pop("position_ids", None)
        # 2. the encoder's output, and the token that begins a target there
        if self.config.kind == "encoder-decoder":
            tokens = self._begin(tokens, hf_cache, positions)
            if cache is not None:
                encoded, source_positions = cache.source, cache.source_positions
            elif encoded is None:
                assert source is not None, "an encoder-decoder needs a source"
                encoded = self.encode(source, source_positions)
            given["encoder_hidden_states"] = encoded
            if source_positions is not None:
                shape = encoded.shape[:2]  # type: ignore[union-attr]
                given["encoder_attention_mask"] = (source_positions >= 0).expand(shape).long()
        # 3. their body
        given = {name: each for name, each in given.items() if name in self._accepted}
        given.setdefault("use_cache", False)
        if "use_cache" not in self._accepted:
            given.pop("use_cache")
        output = self.body(input_ids=tokens, **given)
        hidden: Tensor = output[0]
        if hf_cache is not None and cache is not None:
            hidden = hf_cache.take(output, hidden)
            cache.length = hf_cache.length
        return hidden

    @property
    def _padding(self) -> int:
        padding = self.model.config.get_text_config().pad_token_id
        return padding if isinstance(padding, int) and padding >= 0 else 0

    @cached_property
    def _positions_from_ids(self) -> tuple[str, ...]:
        """RoBERTa and its kin count positions from the padding id on, and do so themselves."""
        embeddings = getattr(self.model.base_model, "embeddings", None)
        counts = hasattr(type(embeddings), "create_position_ids_from_input_ids")
        return ("padding_idx",) if counts else ()

    def _begin(
        self, tokens: Tensor, hf_cache: "ForeignCache | None", positions: Tensor | None
    ) -> Tensor:
        """A target begins with the token that the model was trained to begin it with."""
        start = self.model.config.decoder_start_token_id
        if start is None or (hf_cache is not None and hf_cache.length > tokens.size(1)):
            return tokens
        tokens = tokens.clone()
        if positions is None:
            tokens[:, 0] = start
        else:
            tokens[(positions == 0).expand(tokens.shape)] = start
        return tokens

    def encode(self, source: Tensor, source_positions: Tensor | None = None) -> Tensor:
        """Source tokens (B, S) at (S,) or (B, S), negative for padding -> (B, S, C)."""
        given = {}
        if source_positions is not None:
            seen = (source_positions >= 0).expand(source.shape)
            source = source.masked_fill(~seen, self._padding)
            given["attention_mask"] = seen.long()
        hidden: Tensor = self.model.get_encoder()(input_ids=source, **given)[0]
        return hidden

    def encode_source(self, source: Tensor, source_positions: Tensor | None, cache: Cache) -> None:
        """Encodes a source (B, S) once, for all tokens that are decoded with `cache`."""
        cache.source, cache.source_ids = self.encode(source, source_positions), source
        if source_positions is None:
            source_positions = torch.arange(source.size(1), device=source.device)
        cache.source_positions = source_positions

    def logits(self, hidden: Tensor, head: nn.Module | None) -> Tensor:
        """By their own head, which is a part of the model."""
        if head is not None:
            return super().logits(hidden, head)
        (hf_model,) = self._head
        given = {"inputs_embeds": hidden}
        if self.config.kind == "encoder-decoder":
            given["decoder_inputs_embeds"] = hidden
        logits: Tensor = hf_model(**given).logits
        return logits

    def new_cache(self, batch: int, capacity: int) -> Cache:
        kept: Any = ForeignCache()
        return Cache([LayerCache(self_attn=kept)])

    # The same model in transformers

    @classmethod
    def task_of(cls, config: Any) -> str:
        return TASKS[config.kind]

    @classmethod
    def from_hf_config(cls, hf_config: HFConfig) -> dict[str, Any] | None:
        """The fields of Config for a config.json that transformers knows.

        Raises:
            SettingError: transformers refuses it. MissingExtra: transformers is not installed.
        """
        model_type, named = hf_config.get("model_type"), hf_config.get("architectures")
        if not isinstance(model_type, str) or model_type.startswith("scriven-"):
            return None
        first = named[0] if isinstance(named, list) and named else model_type
        require_transformers(str(first)[:80])
        found = find_class(hf_config, model_type)
        if found is None:
            return None
        kind, hf_class = found
        text = json.dumps({name: value for name, value in hf_config.items()
                           if name not in IGNORED and not name.startswith("_")})  # fmt: skip
        sizes = build_config(text).get_text_config(decoder=True)
        named_lengths = (getattr(sizes, name, None) for name in LENGTHS)
        lengths = [each for each in named_lengths if isinstance(each, int) and each > 0]
        length = lengths[0] if lengths else DEFAULT_CONTEXT
        if kind == "encoder" and ("roberta" in model_type or model_type == "camembert"):
            length -= (sizes.pad_token_id or 0) + 1  # positions count from the padding id on
        return {
            "kind": kind,
            "hf_class": hf_class,
            "hf_config": text,
            "vocab_size": sizes.vocab_size,
            "context_length": length,
            "layers": sizes.num_hidden_layers,
            "d_model": sizes.hidden_size,
            "tie_embeddings": True,
        }

    @classmethod
    def to_hf_config(cls, config: Any) -> dict[str, Any] | None:
        if config.hf_config is None:
            return None
        fields = json.loads(config.hf_config)
        if "vocab_size" in fields:
            fields["vocab_size"] = config.vocab_size
        return {**fields, "architectures": [config.hf_class]}

    @classmethod
    def read_folder(cls, config: Any, folder: Path) -> dict[str, Tensor]:
        """The weights in a folder, under the names they have in memory there: transformers renames
        and joins those that other releases stored differently.

        Raises:
            DamagedError: some are missing, or cannot be read.
        """
        import transformers

        transformers.utils.logging.disable_progress_bar()
        # found by name, and its values do not matter here
        (folder / "generation_config.json").write_text("{}", encoding="utf-8")
        kind = getattr(transformers, str(config.hf_class))
        try:
            model, report = kind.from_pretrained(
                folder,
                config=build_config(config.hf_config),
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except Exception as error:  # whatever their loader raises
            reason = " ".join(str(error).split())[:200]
            raise DamagedError(f"transformers cannot read the weights: {reason}") from error
        missing = sorted(report["missing_keys"])
        if missing:
            raise DamagedError(f"the weights lack {missing[0]}: get the folder again")
        return dict(model.state_dict())

    @classmethod
    def to_hf_weights(cls, config: Any, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name.removeprefix(PREFIX): each for name, each in weights.items()}

    @classmethod
    def from_hf_weights(cls, config: Any, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {f"{PREFIX}{name}": each for name, each in weights.items()}

    # What it costs, roughly: attention of all layers over the whole context

    @classmethod
    def mixing_flops(cls, config: Any) -> int:
        return int(2 * config.layers * config.d_model * config.context_length)

    @classmethod
    def inactive_weights(cls, config: Any) -> int:
        return int(config.vocab_size * config.d_model)  # indexed, not multiplied

    @classmethod
    def state_size(cls, config: Any) -> int:
        return int(2 * config.layers * config.d_model * config.context_length)
