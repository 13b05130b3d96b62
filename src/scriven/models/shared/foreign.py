"""A model of transformers behind the hooks of an architecture: its cache, its head, its config."""

import json
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import MissingExtra, SettingError
from .hf_config import HFConfig, is_model


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


class HFEmbedding:
    """Their input embedding under the names of ours."""

    scale = 1.0

    def __init__(self, token: Any) -> None:
        self.token = token
        self.register_forward_hook = token.register_forward_hook


class HandThrough(nn.Module):
    """Stands in for a body; its output is the hidden states that it is given as embeddings."""

    def forward(self, *positional: Any, **given: Any) -> "_Output":
        hidden = given.get("decoder_inputs_embeds")
        hidden = given.get("inputs_embeds") if hidden is None else hidden
        if hidden is None:
            hidden = next(each for each in positional
                          if isinstance(each, Tensor) and each.is_floating_point())  # fmt: skip
        return _Output(hidden)

    @property
    def decoder(self) -> "HandThrough":
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


def require_transformers(what: str) -> None:
    if find_spec("transformers") is None:
        raise MissingExtra("transformers", "hf", f"{what}, which has no architecture here,")


def find_class(hf_config: HFConfig, model_type: str) -> tuple[str, str] | None:
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


def build_config(text: str) -> Any:
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


def tie(module: Any, _: object) -> None:
    module.model.tie_weights()


def drop_tied(module: Any, state: dict[str, Tensor], prefix: str, _: object) -> None:
    """A tied weight is one tensor, under one name."""
    for name, source in _tied(module, prefix).items():
        if source in state:
            state.pop(name, None)


def add_tied(module: Any, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    for name, source in _tied(module, prefix).items():
        if source in state:
            state.setdefault(name, state[source])
