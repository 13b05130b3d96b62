"""Models of transformers that have no architecture here: theirs inside, our hooks outside.

Any causal, masked or sequence-to-sequence model that transformers can build from a config.json. It
computes what it computes there, at the speed it has there. No code of a model's folder is ever run.
"""

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import MissingExtra, SettingError
from ..nn.cache import Cache, LayerCache
from .base import Architecture, BaseConfig
from .shared.hf_config import HFConfig, is_model

TASKS = {"decoder": "language", "encoder": "masked", "encoder-decoder": "seq2seq"}
"""What each kind of model is pre-trained for."""
DEFAULT_CONTEXT = 1024
"""Tokens, where a config names no longest sequence: distances have no end there."""
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
    LORA_TARGETS = tuple(
        "q_proj k_proj v_proj o_proj out_proj qkv_proj gate_proj up_proj down_proj gate_up_proj "
        "in_proj query_proj key_proj value_proj q k v o wi wi_0 wi_1 wo Wqkv Wo Wi fc1 fc2 fc_in "
        "fc_out c_attn c_proj c_fc query key value query_key_value dense dense_h_to_4h "
        "dense_4h_to_h q_lin k_lin v_lin out_lin lin1 lin2 ffn ffn_output".split()
    )
    """Linear layers that models of transformers have in their blocks."""

    def __init__(self, config: Config) -> None:
        nn.Module.__init__(self)  # its parts are theirs
        if config.hf_config is None:
            raise SettingError(
                "--arch transformers holds models of other people: go on from one with --from"
            )
        _require_transformers(str(config.hf_class))
        import transformers
        from transformers.initialization import no_init_weights

        self.config = config
        self.kind = config.kind  # type: ignore[misc]
        self.model: Any
        with no_init_weights():
            self.model = getattr(transformers, str(config.hf_class))(_config(config.hf_config))
        self.model.eval()
        hooks: Any = self
        hooks.register_load_state_dict_pre_hook(_add_tied)
        hooks.register_load_state_dict_post_hook(_tie)
        hooks.register_state_dict_post_hook(_drop_tied)

    def init_weights(self) -> None:
        """As transformers draws them."""
        fresh = type(self.model)(self.model.config)
        self.model.load_state_dict(fresh.state_dict())

    @property
    def embed(self) -> Any:
        """The input embedding, as `Embedding` holds it."""
        return _Embedding(self.model.get_input_embeddings())

    @embed.setter
    def embed(self, value: object) -> None:
        raise AttributeError("theirs is a part of the model")

    @property
    def blocks(self) -> Any:
        """The longest list of layers; of an encoder-decoder it is one of the two."""
        lists = [part for part in self.model.modules() if isinstance(part, nn.ModuleList)]
        return max(lists, key=len, default=nn.ModuleList())

    @blocks.setter
    def blocks(self, value: object) -> None:
        raise AttributeError("theirs are a part of the model")

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
            head._modules[name] = _HandThrough()
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
        theirs: ForeignCache | None = kept
        if theirs is not None:
            seen = torch.ones_like(tokens, dtype=torch.bool) if seen is None else seen
            tokens, seen, positions = theirs.extend(tokens, seen, positions)
            given |= {"past_key_values": theirs.past, "use_cache": self.config.kind != "encoder"}
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
            tokens = self._begin(tokens, theirs, positions)
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
        if theirs is not None and cache is not None:
            hidden = theirs.take(output, hidden)
            cache.length = theirs.length
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
        self, tokens: Tensor, theirs: "ForeignCache | None", positions: Tensor | None
    ) -> Tensor:
        """A target begins with the token that the model was trained to begin it with."""
        start = self.model.config.decoder_start_token_id
        if start is None or (theirs is not None and theirs.length > tokens.size(1)):
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
        (theirs,) = self._head
        given = {"inputs_embeds": hidden}
        if self.config.kind == "encoder-decoder":
            given["decoder_inputs_embeds"] = hidden
        logits: Tensor = theirs(**given).logits
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
        _require_transformers(str((named or [model_type])[0])[:80])
        found = _find_class(hf_config, model_type)
        if found is None:
            return None
        kind, hf_class = found
        text = json.dumps({name: value for name, value in hf_config.items()
                           if name not in IGNORED and not name.startswith("_")})  # fmt: skip
        sizes = _config(text).get_text_config(decoder=True)
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
        return None if config.hf_config is None else {
            **json.loads(config.hf_config), "architectures": [config.hf_class]
        }  # fmt: skip

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
        return int(config.vocab_size * config.d_model)  # looked up, not multiplied

    @classmethod
    def state_size(cls, config: Any) -> int:
        return int(2 * config.layers * config.d_model * config.context_length)


PREFIX = "backbone.model."
"""What our names have before theirs."""


class ForeignCache:
    """The cache of a model of transformers; of one that has none there, the tokens so far."""

    projects_only_new = True

    def __init__(self) -> None:
        self.past: Any = None
        self.tokens: Tensor | None = None
        """All tokens, read anew each time; None where there is a cache."""
        self.seen: Tensor | None = None
        """(B, S) bool: what is no padding."""
        self.new = 0

    @property
    def length(self) -> int:
        """Tokens of a row, padding included."""
        return 0 if self.seen is None else self.seen.size(1)

    def extend(
        self, tokens: Tensor, seen: Tensor, positions: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """(tokens to read, mask of all, positions of those to read)."""
        self.new = tokens.size(1)
        self.seen = seen if self.seen is None else torch.cat((self.seen, seen), 1)
        if self.past is not None:
            return tokens, self.seen, positions
        self.tokens = tokens if self.tokens is None else torch.cat((self.tokens, tokens), 1)
        return self.tokens, self.seen, None

    def take(self, output: Any, hidden: Tensor) -> Tensor:
        """Keeps the cache of a forward pass; the hidden states of the new tokens."""
        past = getattr(output, "past_key_values", None)
        if past is not None:
            self.past, self.tokens = past, None
        return hidden[:, -self.new :]

    def reorder(self, rows: Tensor) -> None:
        """Keeps the rows (R,), in this order."""
        if self.past is not None:
            self.past.reorder_cache(rows)
        if self.tokens is not None:
            self.tokens = self.tokens.index_select(0, rows)
        if self.seen is not None:
            self.seen = self.seen.index_select(0, rows)


class _Embedding:
    """Their input embedding under the names of ours."""

    scale = 1.0

    def __init__(self, token: Any) -> None:
        self.token = token


class _HandThrough(nn.Module):
    """Stands in for a body; its output is the hidden states that it is given as embeddings."""

    def forward(self, *positional: Any, **given: Any) -> "_Output":
        hidden = given.get("decoder_inputs_embeds")
        hidden = given.get("inputs_embeds") if hidden is None else hidden
        if hidden is None:
            hidden = next(each for each in positional
                          if isinstance(each, Tensor) and each.is_floating_point())  # fmt: skip
        return _Output(hidden)

    @property
    def decoder(self) -> "_HandThrough":
        """Some classes ask a part of their body (OPT)."""
        return self


class _Output(tuple[Tensor]):
    """What a body returns: hidden states, and nothing else."""

    def __new__(cls, hidden: Tensor) -> "_Output":
        return super().__new__(cls, (hidden,))

    @property
    def last_hidden_state(self) -> Tensor:
        return self[0]

    def __getattr__(self, name: str) -> None:
        return None


def _require_transformers(what: str) -> None:
    if find_spec("transformers") is None:
        raise MissingExtra("transformers", "hf", f"{what}, which has no architecture here,")


def _find_class(hf_config: HFConfig, model_type: str) -> tuple[str, str] | None:
    """(kind, class of transformers) of a config.json."""
    from transformers.models.auto import modeling_auto as auto

    tables = {
        "decoder": auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        "encoder-decoder": auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        "encoder": auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    }
    for kind, table in tables.items():
        name = table.get(model_type)
        if isinstance(name, str) and is_model(hf_config, name, model_type):
            return kind, name
    return None


def _config(text: str) -> Any:
    """The configuration of transformers for the text of a config.json.

    Raises:
        SettingError: transformers refuses it.
    """
    import transformers

    fields = json.loads(text)
    try:
        return transformers.AutoConfig.for_model(fields.pop("model_type"), **fields)
    except Exception as error:  # whatever their checks raise
        reason = " ".join(str(error).split())[:200]
        raise SettingError(f"config.json: transformers refuses it: {reason}") from error


def _tied(module: Any, prefix: str) -> dict[str, str]:
    pairs = getattr(module.model, "all_tied_weights_keys", None) or {}
    return {f"{prefix}model.{name}": f"{prefix}model.{source}" for name, source in pairs.items()}


def _tie(module: Any, _: object) -> None:
    module.model.tie_weights()


def _drop_tied(module: Any, state: dict[str, Tensor], prefix: str, _: object) -> None:
    """A tied weight is one tensor, under one name."""
    for name, source in _tied(module, prefix).items():
        if source in state:
            state.pop(name, None)


def _add_tied(module: Any, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    for name, source in _tied(module, prefix).items():
        if source in state:
            state.setdefault(name, state[source])
